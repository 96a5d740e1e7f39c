import { messageOf } from "../src/base/errors.ts";
import { type JournalRecord, recover } from "../src/migration/hosts/journal.ts";
import { Random } from "../test/fuzz/random.ts";
import { SimClock } from "./clock.ts";
import type { Fault } from "./faults.ts";
import type { Guest } from "./guest.ts";
import { Host } from "./host.ts";
import { stepRules } from "./invariants.ts";
import type { Control, Kind } from "./kind.ts";
import { kindOf } from "./kinds.ts";
import { Machine } from "./machine.ts";
import type { Mutation } from "./mutation.ts";
import { hostNames, makePlan, type Plan } from "./plan.ts";
import type { Process } from "./process.ts";
import type { Trip } from "./trip.ts";
import type { Vmm } from "./vmm.ts";
import type { Wire } from "./wire.ts";

/** A run is over by then, or never: steps and simulated milliseconds. */
const stepsMax = 60_000;
const msMax = 4 * 3600 * 1000;

/** What did not hold, and how that showed. */
export interface Violation {
  readonly rule: string;
  readonly text: string;
}

/** What a run is made of. */
export interface Setting {
  readonly seed: number;
  /** The seed chooses one unless told. */
  readonly kind?: Kind | undefined;
  readonly mutation?: Mutation | null;
}

/**
 * Everything there is in one run: hosts, a guest, time, and the order in which things happen. All
 * of it follows from the seed.
 */
export class World {
  readonly seed: number;
  readonly kind: Kind;
  readonly mutation: Mutation | null;
  readonly clock = new SimClock();
  readonly random: Random;
  readonly plan: Plan;
  readonly hosts: readonly Host[];
  readonly lines: string[] = [];
  readonly vmms: Vmm[] = [];
  /** The guest; null before it is there. */
  guest: Guest | null = null;
  /** The journey that is on. */
  trip: Trip | null = null;
  /** Who has the device, by what is durable, and the process that it was when that was decided. */
  owner: { readonly host: Host; readonly process: Process };
  violation: Violation | null = null;
  /** Something that no guest did has gone wrong. */
  struck = false;
  steps = 0;
  #deviceTurned = false;
  /** Faults that have not happened yet. */
  #faults: Fault[];

  constructor({ seed, kind = kindOf(seed), mutation = null }: Setting) {
    this.seed = seed;
    this.kind = kind;
    this.mutation = mutation;
    this.random = new Random(seed);
    this.plan = makePlan(new Random(seed ^ 0x5eed), kind);
    this.#faults = [...this.plan.faults];
    this.hosts = hostNames.map((name, i) => new Host(this, name, this.plan.controls[i] as Control));
    const [host] = this.hosts as [Host];
    this.owner = { host, process: host.process };
  }

  host(name: string): Host {
    return this.hosts.find((host) => host.name === name) as Host;
  }

  log(line: string): void {
    this.lines.push(`${this.clock.now().toFixed(0).padStart(9)} ms  ${line}`);
  }

  /** Something happens; a fault may wait for it. */
  moment(name: string, line: string, wire: Wire | null = null): void {
    this.log(line);
    if (wire !== null && this.trip !== null) this.trip.wire = wire;
    const due = this.#faults.find((fault) => fault.moment === name && this.trip !== null);
    if (due === undefined) return;
    if (due.after > 0) {
      due.after -= 1;
      return;
    }
    this.#faults = this.#faults.filter((fault) => fault !== due);
    this.log(`FAULT ${due.effect.name}`);
    this.struck = true;
    due.effect.strike(this, this.trip as Trip, wire);
  }

  /** No more faults: what was broken is repaired. */
  calm(): void {
    this.log("all is repaired");
    this.#faults = [];
    for (const host of this.hosts) {
      host.reachable = true;
      host.disk.trouble = "none";
      host.restart();
    }
  }

  /** A decision is durable. */
  decided(name: string, record: JournalRecord): void {
    const host = this.host(name);
    if (record.decision === "own") this.owner = { host, process: host.process };
    try {
      recover(host.disk.records);
    } catch (thrown) {
      this.fail("journals make sense", messageOf(thrown));
    }
  }

  fail(rule: string, text: string): void {
    if (this.violation !== null) return;
    this.log(`VIOLATION ${rule}: ${text}`);
    this.violation = { rule, text };
  }

  /** Something goes on by itself; that it throws is our own mistake. */
  watch(what: string, work: Promise<unknown>): void {
    work.catch((thrown: unknown) => this.fail("nothing throws", `${what}: ${messageOf(thrown)}`));
  }

  /** Waits until something is so: false when it is not in time. */
  async until(is: () => boolean, limitMs: number, lookMs = 25): Promise<boolean> {
    const endMs = this.clock.now() + limitMs;
    let pauseMs = 1;
    while (!is()) {
      if (this.clock.now() >= endMs) return false;
      await this.clock.sleep(pauseMs);
      pauseMs = Math.min(lookMs, pauseMs * 2);
    }
    return true;
  }

  /** Lets everything happen until the story is at its end. */
  async run(story: Promise<void>): Promise<void> {
    let over = false;
    const end = (): void => {
      over = true;
    };
    this.watch("the story", story.finally(end));
    while (!over && this.violation === null) {
      await new Promise((resolve) => setImmediate(resolve));
      if (!over) this.#step();
    }
  }

  #step(): void {
    this.steps += 1;
    if (this.#deviceTurned) this.#check();
    if (this.steps > stepsMax || this.clock.now() > msMax)
      this.fail("every run ends", "it goes on");
    if (!this.#turn() && !this.clock.leap())
      this.fail("every run ends", "nothing happens any more");
  }

  /** What the devices do, they do in their turns. */
  #check(): void {
    this.#deviceTurned = false;
    for (const { rule, broken } of stepRules) {
      const text = broken(this);
      if (text !== null) this.fail(rule, text);
    }
  }

  /** Gives somebody who has something to do a turn; false when nobody has. */
  #turn(): boolean {
    const ready: Array<Machine | Vmm> = this.vmms.filter((vmm) => vmm.ready);
    for (const { alive, machine } of this.hosts) if (alive && machine.ready) ready.push(machine);
    if (ready.length === 0) return false;
    const chosen = this.random.pick(ready);
    chosen.turn();
    if (chosen instanceof Machine) {
      this.#deviceTurned = true;
      for (const vmm of this.vmms) if (vmm.host.machine === chosen) vmm.ready = true;
    }
    return true;
  }

  /** Ends what of this run the kernel holds. */
  end(): void {
    for (const vmm of this.vmms) vmm.close();
    for (const { alive, process, machine } of this.hosts) {
      process.alive = false;
      if (alive) machine.end();
    }
  }
}
