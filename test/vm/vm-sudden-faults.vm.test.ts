/**
 * A VM on its way to which something happens in the middle of a phase: a server or a QEMU is killed
 * or stops, a link breaks off or says nothing any more. Nobody knows what comes of it, but what the
 * tool says then is true: never do both run; where it names one the guest goes on, with all of its
 * results right; it ends with 0 for nothing less. FERRY_VM_SUDDEN=100 for so many, all for all.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { Random, seed } from "../fuzz/random.ts";
import { helloWork } from "./guest-work.ts";
import type { HeldMove } from "./held-move.ts";
import { reportOf } from "./moving-vm.ts";
import { type Side, type Stage, sideOfDevice, stateOf, Trial, trialTimeoutMs } from "./trial.ts";
import { chosenOf, type VmPhase, vmPhases } from "./vm-fault-table.ts";

/** How long each phase takes at most, more or less, on a machine that has other things to do. */
const phaseMs: Readonly<Record<VmPhase, number>> = {
  ...{ check: 150, prepare: 20, device: 100, memory: 3000, fence: 3, freeze: 40, switch: 60 },
  ...{ restore: 30, "hand over": 30, run: 10, retire: 80 },
};

/** A server of one of its devices, the link between both, or what moves the rest of the VM. */
interface Victim {
  /** Whose process it is. */
  readonly side: Side | null;
  readonly part: "server" | "QEMU" | "link" | "memory";
}

const victims: readonly Victim[] = [
  ...(["source", "target"] as const).flatMap((side) =>
    (["server", "QEMU"] as const).map((part) => ({ side, part })),
  ),
  ...(["link", "memory"] as const).map((part) => ({ side: null, part })),
];

interface Fault extends Victim {
  readonly blow: "is gone" | "is silent";
  readonly phase: VmPhase;
}

/** What the tool may say, whose the VM is then, and what has to be said there for it to go on. */
interface Verdict {
  readonly sentence: RegExp;
  readonly side: Side | "where the device is" | null;
  /** Does it say that the VM runs there? */
  readonly runs?: boolean;
  /** Does it say that it runs without all of its devices, perhaps? */
  readonly isDeaf?: boolean;
  readonly say?: readonly string[];
}

const verdicts: readonly Verdict[] = [
  { sentence: /^The VM runs with \S+\.$/, side: "target", runs: true },
  { sentence: /^The VM stays with \S+, where it is running: /, side: "source", runs: true },
  {
    sentence: /^The VM stays with \S+, where it is running, but nobody knows whether /,
    side: "source",
    runs: true,
    isDeaf: true,
  },
  {
    sentence: /^The VM and its device are with \S+, but: /,
    side: "target",
    say: ["cont"],
  },
  {
    sentence: /^The VM has not moved, and \S+ does not answer: .* say migrate_cancel and cont/,
    side: "source",
    say: ["migrate_cancel", "cont"],
  },
  { sentence: /^The VM has not moved, and the monitor .* has ended, so has the VM\./, side: null },
  {
    sentence: /^The VM stands still in both(:|, because it is not known who has )/,
    side: "where the device is",
    say: ["cont"],
  },
];

const every: readonly Fault[] = vmPhases.flatMap((phase) =>
  (["is gone", "is silent"] as const).flatMap((blow) =>
    victims.map((victim) => ({ ...victim, blow, phase })),
  ),
);
/** Before the decision, and found at once: the same VM goes on. For every change there are some. */
const quick = every.filter(
  ({ side, blow, phase }) =>
    side !== "source" &&
    blow === "is gone" &&
    vmPhases.indexOf(phase) < vmPhases.indexOf("hand over"),
);
const wanted = process.env["FERRY_VM_SUDDEN"];

const titleOf = ({ side, part, blow, phase }: Fault): string =>
  `${side === null ? "its" : `its ${side}'s`} ${part} ${blow} in ${phase}`;

function victimOf({ side, part }: Victim, device: number, { source, target, links }: Stage) {
  if (side === null) return part === "link" ? links?.device : links?.memory;
  const stop = side === "source" ? source : target;
  return part === "server" ? stop.servers[device] : stop.machine;
}

/** Strikes once the phase is under way; what the tool says in the end is true. */
async function suffer(
  fault: Fault,
  victim: ReturnType<typeof victimOf>,
  lateMs: number,
  stage: Stage,
  moving: HeldMove,
): Promise<Verdict> {
  const isGone = fault.blow === "is gone";
  const ends = moving.ends();
  await sleep(lateMs);
  if (isGone) await victim?.crash();
  else victim?.halt();
  const result = await ends;
  const { outcome, trouble, sentence } = reportOf(result);
  console.log(`vm: ${titleOf(fault)}: ${sentence}`);
  const verdict = verdicts.find((each) => each.sentence.test(sentence));
  if (verdict === undefined) throw new Error(`What does it say? ${sentence}\n${result.output}`);
  expect(result.code, result.output).toBe(outcome === "moved" && trouble === "" ? 0 : 1);
  for (const side of ["source", "target"] as const) {
    const isStruck = fault.side === side;
    // A QEMU that stands still itself runs nothing, and answers nothing.
    const isStopped = isStruck && fault.part === "QEMU" && !isGone;
    const state = isStopped ? "stopped" : await stateOf(stage[side].machine);
    const told = `${side} is ${state}: ${result.output}`;
    if (side !== verdict.side) expect(state, told).not.toBe("running");
    else if (verdict.runs === true && !isStruck) expect(state, told).toBe("running");
  }
  // A link is mended, whatever it had, and a process that has ended stays so.
  if (!isGone || fault.side === null) victim?.resume();
  return verdict;
}

/** The guest goes on where it is said to; false where it has lost something, and cannot. */
async function goesOn(
  { side: struck, part, blow }: Fault,
  { side: named, say = [], isDeaf = false }: Verdict,
  stage: Stage,
  trial: Trial,
): Promise<boolean> {
  const isOpen = named === "where the device is";
  if (named === null || isDeaf) return false;
  const { source, target } = stage;
  // Several devices would have to be brought together first, and who has gone tells nothing.
  if (isOpen && (source.servers.length > 1 || !target.servers[0]?.running)) return false;
  const side = isOpen ? await sideOfDevice(target) : named;
  // A server that was silent has lost its VMM.
  if (struck === side && (part === "server" || blow === "is gone")) return false;
  await trial.expectGoesOn(side, say, isOpen || blow === "is silent", stage);
  return true;
}

/** VMs with so many devices, and how many faults each has for every change. */
const rows = [
  { count: 1, usual: "3" },
  { count: 2, usual: "2" },
] as const;

for (const { count, usual } of rows) {
  const chosen = wanted === undefined ? chosenOf(quick, usual) : chosenOf(every, wanted);
  const trial = new Trial(helloWork("msi", ["msix=false"], count));
  const random = new Random(seed);
  describe(`a VM with ${count} of hello, when (FUZZ_SEED=${seed})`, () => {
    for (const fault of chosen) {
      const [device, lateMs] = [random.below(count), random.below(phaseMs[fault.phase])];
      const happens = async (stage: Stage, moving: HeldMove): Promise<boolean> => {
        const verdict = await suffer(fault, victimOf(fault, device, stage), lateMs, stage, moving);
        return await goesOn(fault, verdict, stage, trial);
      };
      const title = `${titleOf(fault)} after ${lateMs} ms, of device ${device}`;
      test(title, () => trial.holds(fault.phase, happens, device), trialTimeoutMs);
    }
    afterAll(() => trial.end());
  });
}
