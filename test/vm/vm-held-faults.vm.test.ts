/**
 * A VM on its way that stands before a phase while one of those that it needs is killed, or stops,
 * for each of them and each phase: it goes on where the table says, and nowhere else; where it
 * does not, the tool says so. A tenth of the table by chance; FERRY_VM_FAULTS=all for all.
 */
import { afterAll, describe, expect, test } from "vitest";
import { ferry } from "../cli/run.ts";
import { seed } from "../fuzz/random.ts";
import { helloWork, Watch } from "./guest-work.ts";
import { HeldMove } from "./held-move.ts";
import type { Machine } from "./machine.ts";
import { MovingVm, reportOf, type Stop } from "./moving-vm.ts";
import { chosenOf, type VmFault, vmFaults } from "./vm-fault-table.ts";

const work = helloWork("msi", ["msix=false"]);
/** For the memory of a QEMU that hangs. */
const withinSeconds = "10";
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
  const isAllRight = ending.outcome === "moved" && ending.runs === "target" && trouble === "";
  expect(result.code, told).toBe(isAllRight ? 0 : 1);
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
    readonly report: { readonly outcome: string | null };
  } | null;
}

/** Which side has the device, by the target's server: what an undecided move has one ask. */
async function sideOfDevice({ servers: [server] }: Stop): Promise<"source" | "target"> {
  for (;;) {
    const { output } = await ferry("migrate", "status", server?.socketPath ?? "", "--json");
    const { migration } = JSON.parse(output) as Status;
    const outcome = migration?.undecided === true ? null : migration?.report.outcome;
    if (outcome !== null) return outcome === "moved" ? "target" : "source";
  }
}

/** The guest goes on, on one side, once everybody does what the sentence says. */
async function expectGuest(
  { victim, blow, ending: { goesOn, say = [] } }: VmFault,
  moved: MovingVm,
  stage: Stage,
): Promise<void> {
  const { source, target } = stage;
  const side = goesOn === "where the device is" ? await sideOfDevice(target) : goesOn;
  const [here, other] = side === "source" ? [source, target] : [target, source];
  for (const command of say) await here.machine.qmp.execute(command).catch(() => {});
  moved.here = here;
  // A VMM that is stopped, or long without a word, has its guest complain of its clocks.
  const wasLate = victim.endsWith("QEMU") || goesOn === "where the device is";
  if (blow === "stopped" && wasLate) await moved.guest("complaints > /dev/null");
  await watch.expectGoesOn();
  expect(await stateOf(other.machine)).not.toBe("running");
  await moved.drop(other);
}

async function suffer(fault: VmFault): Promise<void> {
  const { victim, blow, phase, ending } = fault;
  const moved = await workingVm();
  const source = moved.here;
  const target = await moved.stop(true);
  const moving = new HeldMove([...moved.wayTo(target), "--within", withinSeconds]);
  let isWhole = false;
  try {
    await moving.reaches(phase);
    const stop = victim.startsWith("target") ? target : source;
    const struck = victim.endsWith("server") ? stop.servers[0] : stop.machine;
    if (blow === "killed") await struck?.crash();
    else struck?.halt();
    await expectEnding(fault, { source, target }, moving);
    if (blow === "stopped") struck?.resume();
    if (ending.goesOn === null) return;
    await expectGuest(fault, moved, { source, target });
    isWhole = true;
  } finally {
    if (!isWhole) await forget(moved, { source, target }, moving);
  }
}

async function forget(moved: MovingVm, stage: Stage, moving: HeldMove): Promise<void> {
  vm = null;
  await moving.kill().catch(() => {});
  for (const stop of Object.values(stage)) await moved.drop(stop);
  await moved.end();
}

const titleOf = ({ victim, blow, phase }: VmFault): string => `its ${victim} ${blow}, ${phase}`;

describe(`a VM on its way that loses (FUZZ_SEED=${seed})`, () => {
  for (const fault of chosenOf(vmFaults, tenth)) {
    test(titleOf(fault), () => suffer(fault), rowTimeoutMs);
  }
  afterAll(() => vm?.end());
});
