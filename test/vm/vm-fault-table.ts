/** What can happen to a VM on its way, in which phase, and where it is afterwards. */
import { Random, seed } from "../fuzz/random.ts";

/** As `VmMove` has them; the device is the target's once `hand over` has ended. */
export const vmPhases = [
  ...(["check", "prepare", "device", "memory", "fence", "freeze", "switch", "restore"] as const),
  ...(["hand over", "run", "retire"] as const),
] as const;
export type VmPhase = (typeof vmPhases)[number];

const victims = ["target's server", "target's QEMU", "source's server", "source's QEMU"] as const;
const blows = ["killed", "stopped"] as const;

export interface VmFault {
  readonly victim: (typeof victims)[number];
  readonly blow: (typeof blows)[number];
  /** It happens as this phase is to begin. */
  readonly phase: VmPhase;
}

export const vmFaults: readonly VmFault[] = victims.flatMap((victim) =>
  vmPhases.flatMap((phase) => blows.map((blow) => ({ victim, blow, phase }))),
);

/** All rows, or so many of them by chance: FERRY_VM_FAULTS is a number or `all`. */
export function chosenOf<T>(rows: readonly T[], usual: number): readonly T[] {
  const wanted = process.env["FERRY_VM_FAULTS"] ?? String(usual);
  if (wanted === "all") return rows;
  const random = new Random(seed);
  const left = [...rows];
  const count = Math.min(Number(wanted), left.length);
  return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0] as T);
}
