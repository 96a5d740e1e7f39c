/**
 * A VM on its way that stands before a phase while one of those that it needs is killed, or stops,
 * for each of them and each phase: it goes on where the table says, and nowhere else; where it
 * does not, the tool says so. A tenth of what is certain, by chance; FERRY_VM_FAULTS=all for all.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, describe, expect, test } from "vitest";
import { ferry } from "../cli/run.ts";
import { seed } from "../fuzz/random.ts";
import { helloWork, Watch } from "./guest-work.ts";
import { HeldMove } from "./held-move.ts";
import type { Machine } from "./machine.ts";
import { MovingVm, reportOf, type Stop } from "./moving-vm.ts";
import {
  certainFaults,
  chosenOf,
  type VmFault,
  type VmPhase,
  vmFaults,
  vmPhases,
  wantedFaults,
} from "./vm-fault-table.ts";

const work = helloWork("msi", ["msix=false"]);
/** For the memory of a QEMU that hangs. */
const withinSeconds = "10";
/** For two servers to find out who has a device; each question is a process. */
const decidedWithinMs = 120_000;
const askAgainMs = 200;
/** More than all waits of the tool add up to, and a boot. */
const rowTimeoutMs = 600_000;

const tenth = Math.ceil(vmFaults.length / 10);
/** Where a VM has come to nothing the next row has a new one. */
let vm: MovingVm | null = null;
let watch: Watch;

async function workingVm(): Promise<MovingVm> {
  if (vm !== null) return vm;
  const fresh = await MovingVm.start(work);
  vm = fresh;
  watch = new Watch(work, (...command) => fresh.guest(...command));
  await watch.begin();
  return fresh;
}

/** `running`, `paused`, …; `gone` for one that has ended. */
async function stateOf(machine: Machine): Promise<string> {
  if (!machine.running) return "gone";
  const answer = machine.qmp.execute("query-status") as Promise<{ status: string }>;
  return await answer.then(({ status }) => status).catch(() => "gone");
}

interface Stage {
  readonly moved: MovingVm;
  readonly source: Stop;
  readonly target: Stop;
}

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

interface Status {
  readonly migration: {
    readonly undecided: boolean;
    readonly report: { readonly outcome: { readonly outcome: string } | null };
  } | null;
}

/** Which side has the device, by the target's server: what an undecided move has one ask. */
async function sideOfDevice({ servers: [server] }: Stop): Promise<"source" | "target"> {
  for (const endMs = Date.now() + decidedWithinMs; Date.now() < endMs; await sleep(askAgainMs)) {
    const { output } = await ferry("migrate", "status", server?.socketPath ?? "", "--json");
    const { migration } = JSON.parse(output) as Status;
    const outcome = migration?.undecided === true ? null : migration?.report.outcome;
    if (outcome !== null) return outcome?.outcome === "moved" ? "target" : "source";
  }
  throw new Error(`Nobody knew who has the device within ${decidedWithinMs} ms.`);
}

/** The guest goes on, on this side, once these commands are said to its monitor. */
async function expectGoesOn(
  side: "source" | "target",
  commands: readonly string[],
  stoodStill: boolean,
  { moved, source, target }: Stage,
): Promise<void> {
  const [here, other] = side === "source" ? [source, target] : [target, source];
  // What is refused was not needed.
  for (const command of commands) await here.machine.qmp.execute(command).catch(() => {});
  moved.here = here;
  await watch.expectGoesOn(stoodStill);
  expect(await stateOf(other.machine)).not.toBe("running");
  await moved.drop(other);
}

/** Holds a VM before a phase while something happens, which tells whether the VM goes on. */
async function holds(
  phase: VmPhase,
  happens: (stage: Stage, moving: HeldMove) => Promise<boolean>,
): Promise<void> {
  const moved = await workingVm();
  const source = moved.here;
  const target = await moved.stop(true);
  const moving = new HeldMove([...moved.wayTo(target), "--within", withinSeconds]);
  let goesOn = false;
  try {
    await moving.reaches(phase);
    goesOn = await happens({ moved, source, target }, moving);
  } finally {
    if (!goesOn) await forget(moved, [source, target], moving);
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
  await expectGoesOn(side, say, stoodStill, stage);
  return true;
}

/** What an operator does who finds a VM without its tool. */
async function goOnAlone(stage: Stage, moving: HeldMove): Promise<boolean> {
  await moving.kill();
  await ferry("migrate", "abort", stage.source.servers[0]?.socketPath ?? "");
  const side = await sideOfDevice(stage.target);
  await expectGoesOn(side, side === "source" ? ["migrate_cancel", "cont"] : ["cont"], true, stage);
  return true;
}

async function forget(moved: MovingVm, stops: readonly Stop[], moving: HeldMove): Promise<void> {
  vm = null;
  await moving.kill().catch(() => {});
  for (const stop of stops) await moved.drop(stop);
  await moved.end();
}

const titleOf = ({ victim, blow, phase }: VmFault): string => `its ${victim} ${blow}, ${phase}`;

describe(`a VM on its way that loses (FUZZ_SEED=${seed})`, () => {
  const rows = wantedFaults === undefined ? certainFaults : vmFaults;
  for (const fault of chosenOf(rows, tenth)) {
    const happens = (stage: Stage, moving: HeldMove) => suffer(fault, stage, moving);
    test(titleOf(fault), () => holds(fault.phase, happens), rowTimeoutMs);
  }
  for (const phase of chosenOf(vmPhases, 1)) {
    test(`the tool itself, ${phase}`, () => holds(phase, goOnAlone), rowTimeoutMs);
  }
  afterAll(() => vm?.end());
});
