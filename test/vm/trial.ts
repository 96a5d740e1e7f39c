/**
 * VMs at work whose moves are held for what happens to them then. The next move is of the same VM
 * as long as it goes on; where it has come to nothing there is a new one.
 */
import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "vitest";
import { ferry } from "../cli/run.ts";
import { type GuestWork, Watch } from "./guest-work.ts";
import { HeldMove } from "./held-move.ts";
import type { Links } from "./links.ts";
import type { Machine } from "./machine.ts";
import { MovingVm, type Stop } from "./moving-vm.ts";
import type { VmPhase } from "./vm-fault-table.ts";

/** For the memory of a QEMU that hangs, and of one on a machine with other things to do. */
const withinSeconds = "30";
/** For two servers to find out who has a device; each question is a process. */
const decidedWithinMs = 120_000;
const askAgainMs = 200;
/** More than all waits of the tool add up to, and a boot. */
export const trialTimeoutMs = 600_000;

export interface Stage {
  readonly moved: MovingVm;
  readonly source: Stop;
  readonly target: Stop;
  /** Those that it goes over, where they were asked for. */
  readonly links: Links | null;
}

export type Side = "source" | "target";

export class Trial {
  readonly #work: GuestWork;
  #vm: MovingVm | null = null;
  #watch!: Watch;

  constructor(work: GuestWork) {
    this.#work = work;
  }

  async #working(): Promise<MovingVm> {
    if (this.#vm !== null) return this.#vm;
    const fresh = await MovingVm.start(this.#work);
    this.#vm = fresh;
    this.#watch = new Watch(this.#work, (...command) => fresh.guest(...command));
    await this.#watch.begin();
    return fresh;
  }

  /**
   * Holds a VM before a phase while something happens, which tells whether the VM goes on; with
   * `linked`, it moves over links of this device and of memory that can break.
   */
  async holds(
    phase: VmPhase,
    happens: (stage: Stage, moving: HeldMove) => Promise<boolean>,
    linked: number | null = null,
  ): Promise<void> {
    const moved = await this.#working();
    const source = moved.here;
    const target = await moved.stop(true);
    const links = linked === null ? null : moved.links(linked);
    const moving = new HeldMove([...moved.wayTo(target, links), "--within", withinSeconds]);
    let goesOn = false;
    try {
      await moving.reaches(phase);
      goesOn = await happens({ moved, source, target, links }, moving);
    } finally {
      links?.close();
      if (!goesOn) await this.#forget(moved, [source, target], moving);
    }
  }

  /** The guest goes on, on this side, once these commands are said to its monitor. */
  async expectGoesOn(
    side: Side,
    commands: readonly string[],
    stoodStill: boolean,
    { moved, source, target }: Stage,
  ): Promise<void> {
    const [here, other] = side === "source" ? [source, target] : [target, source];
    // What is refused was not needed.
    for (const command of commands) await here.machine.qmp.execute(command).catch(() => {});
    moved.here = here;
    await this.#watch.expectGoesOn(stoodStill);
    expect(await stateOf(other.machine)).not.toBe("running");
    await moved.drop(other);
  }

  async #forget(moved: MovingVm, stops: readonly Stop[], moving: HeldMove): Promise<void> {
    this.#vm = null;
    await moving.kill().catch(() => {});
    for (const stop of stops) await moved.drop(stop);
    await moved.end();
  }

  async end(): Promise<void> {
    await this.#vm?.end();
  }
}

/** `running`, `paused`, …; `gone` for one that has ended. */
export async function stateOf(machine: Machine): Promise<string> {
  if (!machine.running) return "gone";
  const answer = machine.qmp.execute("query-status") as Promise<{ status: string }>;
  return await answer.then(({ status }) => status).catch(() => "gone");
}

interface Status {
  readonly migration: {
    readonly undecided: boolean;
    readonly report: { readonly outcome: { readonly outcome: string } | null };
  } | null;
}

/** Which side has the device, by the target's server: what an undecided move has one ask. */
export async function sideOfDevice({ servers: [server] }: Stop): Promise<Side> {
  for (const endMs = Date.now() + decidedWithinMs; Date.now() < endMs; await sleep(askAgainMs)) {
    const { output } = await ferry("migrate", "status", server?.socketPath ?? "", "--json");
    const { migration } = JSON.parse(output) as Status;
    const outcome = migration?.undecided === true ? null : migration?.report.outcome;
    if (outcome !== null) return outcome?.outcome === "moved" ? "target" : "source";
  }
  throw new Error(`Nobody knew who has the device within ${decidedWithinMs} ms.`);
}
