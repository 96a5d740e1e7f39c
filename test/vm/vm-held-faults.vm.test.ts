/**
 * A VM on its way that stands before a phase while one of those that it needs is killed, or stops,
 * for each of them and each phase: it goes on where the table says, and nowhere else; where it
 * does not, the tool says so. A tenth of what is certain, by chance; FERRY_VM_FAULTS=all for all.
 */
import { afterAll, describe, expect, test } from "vitest";
import { ferry } from "../cli/run.ts";
import { seed } from "../fuzz/random.ts";
import { helloWork } from "./guest-work.ts";
import type { HeldMove } from "./held-move.ts";
import { reportOf } from "./moving-vm.ts";
import { type Stage, sideOfDevice, stateOf, Trial, trialTimeoutMs } from "./trial.ts";
import {
  certainFaults,
  chosenOf,
  type VmFault,
  vmFaults,
  vmPhases,
  wantedFaults,
} from "./vm-fault-table.ts";

const tenth = String(Math.ceil(vmFaults.length / 10));
const trial = new Trial(helloWork("msi", ["msix=false"]));

/** The tool's word and exit code, and which side runs. */
async function expectEnding(
  { victim, blow, ending: usual }: VmFault,
  { source, target }: Stage,
  moving: HeldMove,
): Promise<void> {
  const result = await moving.ends();
  const { outcome, trouble, sentence } = reportOf(result);
  const { or = [] } = usual;
  const ending = [usual, ...or].find((each) => each.sentence.test(sentence)) ?? usual;
  const vmms = [source, target].map(({ machine }) => `QEMU: ${machine.output}`).join("\n");
  const told = `${JSON.stringify({ outcome, trouble, sentence })}\n${result.output}\n${vmms}`;
  expect(outcome, told).toBe(ending.outcome);
  expect(sentence, told).toMatch(ending.sentence);
  expect(result.code, told).toBe(ending.code ?? 1);
  if (/, but |has not moved/.test(sentence)) expect(trouble, told).not.toBe("");
  for (const [side, { machine }] of Object.entries({ source, target })) {
    // One that is stopped runs nothing, and answers nothing.
    if (blow === "stopped" && victim === `${side}'s QEMU`) continue;
    const state = await stateOf(machine);
    // A QEMU may end with its device, at once or once it has been spoken of.
    if (or.length > 0 && state === "gone") continue;
    expect(state === "running", `${side} is ${state}: ${told}`).toBe(ending.runs === side);
  }
}

async function suffer(fault: VmFault, stage: Stage, moving: HeldMove): Promise<boolean> {
  const { victim, blow, ending } = fault;
  const { goesOn, say = [] } = ending;
  const stop = victim.startsWith("target") ? stage.target : stage.source;
  const struck = victim.endsWith("server") ? stop.servers[0] : stop.machine;
  if (blow === "killed") await struck?.crash();
  else struck?.halt();
  await expectEnding(fault, stage, moving);
  if (blow === "stopped") struck?.resume();
  if (goesOn === null) return false;
  const isKnown = goesOn !== "where the device is";
  const side = isKnown ? goesOn : await sideOfDevice(stage.target);
  const stoodStill = blow === "stopped" && (victim.endsWith("QEMU") || !isKnown);
  await trial.expectGoesOn(side, say, stoodStill, stage);
  return true;
}

/** What an operator does who finds a VM without its tool. */
async function goOnAlone(stage: Stage, moving: HeldMove): Promise<boolean> {
  await moving.kill();
  await ferry("migrate", "abort", stage.source.servers[0]?.socketPath ?? "");
  const side = await sideOfDevice(stage.target);
  await trial.expectGoesOn(
    side,
    side === "source" ? ["migrate_cancel", "cont"] : ["cont"],
    true,
    stage,
  );
  return true;
}

const titleOf = ({ victim, blow, phase }: VmFault): string => `its ${victim} ${blow}, ${phase}`;

describe(`a VM on its way that loses (FUZZ_SEED=${seed})`, () => {
  const rows = wantedFaults === undefined ? certainFaults : vmFaults;
  for (const fault of chosenOf(rows, wantedFaults ?? tenth)) {
    const happens = (stage: Stage, moving: HeldMove) => suffer(fault, stage, moving);
    test(titleOf(fault), () => trial.holds(fault.phase, happens), trialTimeoutMs);
  }
  for (const phase of chosenOf(vmPhases, wantedFaults ?? "1")) {
    test(`the tool itself, ${phase}`, () => trial.holds(phase, goOnAlone), trialTimeoutMs);
  }
  afterAll(() => trial.end());
});
