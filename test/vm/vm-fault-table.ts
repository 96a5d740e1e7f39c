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

/** What becomes of the VM, and what the tool says of it. */
export interface VmEnding {
  readonly outcome: "kept" | "moved" | "open";
  readonly sentence: RegExp;
  /** The tool's exit code, where it is not 1. */
  readonly code?: 0;
  /** Where it runs as the tool ends. */
  readonly runs: "source" | "target" | "nowhere";
  /** Where its guest goes on, at the latest once what was stopped goes on and `say` is said. */
  readonly goesOn: "source" | "target" | "where the device is" | null;
  /** What the sentence has one say to the monitor there; what is refused was not needed. */
  readonly say?: readonly string[];
  /** What may come of it instead, when its VMM ends, or is late, at any moment. */
  readonly or?: readonly VmEnding[];
}

const stays: VmEnding = {
  ...{ outcome: "kept", runs: "source", goesOn: "source" },
  sentence: /^The VM stays with \S+, where it is running: /,
};
const isLost: VmEnding = {
  ...{ outcome: "kept", runs: "nowhere", goesOn: null },
  sentence: /^The VM has not moved, and the monitor .* has ended, so has the VM\./,
};
const hangs: VmEnding = {
  ...{ outcome: "kept", runs: "nowhere", goesOn: "source", say: ["migrate_cancel", "cont"] },
  sentence:
    /^The VM has not moved, and \S+ does not answer: the VM may stand still\. .* say migrate/,
};
/** A VMM whose vCPU waits for a device's server lets nobody else have its lock for so long. */
const waits: VmEnding = { ...hangs, runs: "source", goesOn: null };
/**
 * A server that was late once has lost its VMM, which gives it up; QEMU 11.1 ends with an assertion
 * of its own when its vCPUs are at the device at that moment.
 */
const staysDeaf: VmEnding = {
  ...{ outcome: "kept", runs: "source", goesOn: null, or: [isLost, waits] },
  sentence: /^The VM stays with \S+, where it is running, but nobody knows whether \S+ has all/,
};
/** It had no device when it was asked to move. */
const wasDeaf: VmEnding = {
  ...{ outcome: "kept", runs: "source", goesOn: null, or: [isLost, waits] },
  sentence: /^The VM stays with \S+, where it is running: the control socket \S+ (cannot|did not)/,
};
const isOpen: VmEnding = {
  ...{ outcome: "open", runs: "nowhere", goesOn: null },
  sentence: /^The VM stands still in both, because it is not known who has the device\. Ask /,
};
const isOpenYet: VmEnding = { ...isOpen, goesOn: "where the device is", say: ["cont"] };
const moves: VmEnding = {
  ...{ outcome: "moved", code: 0, runs: "target", goesOn: "target" },
  sentence: /^The VM runs with \S+\.$/,
};
const movesBut = (
  runs: VmEnding["runs"],
  goesOn: VmEnding["goesOn"],
  what: RegExp,
  say: readonly string[] = [],
): VmEnding => ({
  ...{ outcome: "moved", runs, goesOn, say },
  sentence: new RegExp(`^The VM and its device are with \\S+, but: ${what.source}`),
});

const noServer = movesBut("target", null, /the control socket \S+ (cannot|did not)/);
const noMonitor = movesBut("nowhere", null, /the monitor \S+ has closed/);
const noAnswer = movesBut("nowhere", "target", /the answer of \S+ to/, ["cont"]);
const noEnd = movesBut("target", "target", /the source's end took longer/);

/** From each phase on, until the next one that is named. */
type From = readonly [VmPhase, VmEnding];
type Loss = `${VmFault["victim"]} ${VmFault["blow"]}`;
const endings: Readonly<Record<Loss, readonly [From, ...From[]]>> = {
  "target's server killed": [
    ["check", stays],
    ["run", noServer],
  ],
  "target's server stopped": [
    ["check", stays],
    ["hand over", isOpenYet],
    ["run", noServer],
  ],
  "target's QEMU killed": [
    ["check", stays],
    ["hand over", noMonitor],
  ],
  "target's QEMU stopped": [
    ["check", stays],
    ["hand over", noAnswer],
  ],
  "source's server killed": [
    ["check", wasDeaf],
    ["prepare", staysDeaf],
    ["restore", isOpen],
    ["run", moves],
  ],
  "source's server stopped": [
    ["check", wasDeaf],
    ["prepare", staysDeaf],
    ["restore", isOpenYet],
    ["run", noEnd],
  ],
  "source's QEMU killed": [
    ["check", isLost],
    ["restore", moves],
  ],
  "source's QEMU stopped": [
    ["check", hangs],
    ["restore", moves],
  ],
};

export interface VmFault {
  readonly victim: (typeof victims)[number];
  readonly blow: (typeof blows)[number];
  /** It happens as this phase is to begin. */
  readonly phase: VmPhase;
  readonly ending: VmEnding;
}

function endingOf(loss: Loss, phase: VmPhase): VmEnding {
  const [first, ...others] = endings[loss];
  const isBegun = ([from]: From): boolean => vmPhases.indexOf(from) <= vmPhases.indexOf(phase);
  return (others.findLast(isBegun) ?? first)[1];
}

export const vmFaults: readonly VmFault[] = victims.flatMap((victim) =>
  vmPhases.flatMap((phase) =>
    blows.map((blow) => ({ victim, blow, phase, ending: endingOf(`${victim} ${blow}`, phase) })),
  ),
);

/** Those whose end does not depend on where the source's QEMU is at that moment. */
export const certainFaults: readonly VmFault[] = vmFaults.filter(({ ending }) => !ending.or);

/** How many rows are asked for: FERRY_VM_FAULTS is a number or `all`. */
export const wantedFaults = process.env["FERRY_VM_FAULTS"];

/** So many rows by chance, or `all`. */
export function chosenOf<T>(rows: readonly T[], wanted: string): readonly T[] {
  if (wanted === "all") return rows;
  const random = new Random(seed);
  const left = [...rows];
  const count = Math.min(Number(wanted), left.length);
  return Array.from({ length: count }, () => left.splice(random.below(left.length), 1)[0] as T);
}
