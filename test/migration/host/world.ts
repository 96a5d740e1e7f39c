/** Two hosts, a network and a clock: everything that may be lost can be lost. */
import { FerryError } from "../../../src/base/errors.ts";
import { defaultBudgets } from "../../../src/migration/hosts/budgets.ts";
import { type Clock, sleepBy } from "../../../src/migration/hosts/clock.ts";
import type { MigrationEvent, Outcome } from "../../../src/migration/hosts/events.ts";
import {
  type Decision,
  decisions,
  type Journal,
  type JournalRecord,
  recover,
  type Side,
} from "../../../src/migration/hosts/journal.ts";
import type { Link } from "../../../src/migration/hosts/link.ts";
import { Offers } from "../../../src/migration/hosts/offers.ts";
import { defaultPolicy } from "../../../src/migration/hosts/precopy.ts";
import { Reception } from "../../../src/migration/hosts/reception.ts";
import { Source } from "../../../src/migration/hosts/source.ts";
import type { SourceRequest } from "../../../src/migration/hosts/source-parts.ts";
import type { TargetParts } from "../../../src/migration/hosts/target.ts";
import type { MigrationPort } from "../../../src/migration/port.ts";
import { FakePort } from "./fake-port.ts";
import { type Mishap, memoryLink } from "./memory-link.ts";
import { VirtualClock } from "./virtual-clock.ts";

export const token = "00112233445566778899aabbccddeeff";
const never = new Promise<never>(() => {});

type Fault = "full" | "hangs" | "die before" | "die after";

/** What is written survives the process; `fault` looks at every record before it is. */
class Disk {
  readonly records: JournalRecord[] = [];
  fault: (decision: Decision) => Fault | null = () => null;
}

/** A process: once it is dead, nothing that it began ever goes on. */
class Process {
  alive = true;

  clock(clock: Clock): Clock {
    const own: Clock = {
      now: () => clock.now(),
      wall: () => clock.wall(),
      after: (ms, act) => clock.after(ms, () => void (this.alive && act())),
      sleep: (ms, signal) => sleepBy(own, ms, signal),
    };
    return own;
  }

  guard<T extends object>(thing: T): T {
    return new Proxy(thing, {
      get: (target, key) => {
        const value = Reflect.get(target, key) as unknown;
        if (typeof value !== "function") return value;
        return (...args: unknown[]) => {
          if (!this.alive) return never;
          const result = value.apply(target, args) as unknown;
          if (!(result instanceof Promise)) return result;
          return result.then(
            (good) => (this.alive ? good : never),
            (bad: unknown) => (this.alive ? Promise.reject(bad) : never),
          );
        };
      },
    });
  }
}

export class World {
  readonly clock = new VirtualClock();
  readonly disks: Record<Side, Disk> = { source: new Disk(), target: new Disk() };
  readonly sourcePort = new FakePort([1, 2, 3, 4, 5, 6, 7, 8, 9]);
  targetPort = new FakePort([]);
  readonly events: Record<Side, MigrationEvent[]> = { source: [], target: [] };
  readonly outcomes: Record<Side, Outcome[]> = { source: [], target: [] };
  mishap: Mishap = () => null;
  /** Further names in the source's certificate. */
  otherNames: readonly string[] = [];
  /** False: nobody can call the target. */
  reachable = true;
  thaw: TargetParts["thaw"] = "at once";
  links: Array<ReturnType<typeof memoryLink>> = [];
  readonly processes: Record<Side, Process> = { source: new Process(), target: new Process() };
  offers = this.#offers();
  reception = this.#reception();

  #offers(): Offers {
    const offers = new Offers(
      () => Uint8Array.from(Buffer.from(token, "hex")),
      () => this.clock.now(),
    );
    return offers;
  }

  #tell(side: Side): (event: MigrationEvent) => void {
    return (event) => this.events[side].push(event);
  }

  #journal(side: Side): Journal {
    const disk = this.disks[side];
    const owner = this.processes[side];
    return {
      records: disk.records,
      append: async (record) => {
        const fault = disk.fault(record.decision);
        if (fault === "full") throw new FerryError("journal", "no space left on device");
        if (fault === "hangs") await never;
        if (fault !== "die before" && owner.alive) disk.records.push(record);
        if (fault !== null) this.kill(side);
        if (!owner.alive) await never;
      },
    };
  }

  #parts(side: Side, port: FakePort) {
    const owner = this.processes[side];
    return {
      port: owner.guard<MigrationPort>(port),
      journal: this.#journal(side),
      clock: owner.clock(this.clock),
      budgets: defaultBudgets,
      tell: this.#tell(side),
      sweep: () => port.log.push("sweep"),
    };
  }

  #reception(): Reception {
    const parts = this.#parts("target", this.targetPort);
    const { offers } = this;
    return new Reception({
      ...parts,
      offers,
      arrives: () => parts.tell,
    });
  }

  async #dial(): Promise<Link> {
    if (!this.processes.target.alive || !this.reachable) throw new FerryError("net", "no route.");
    const names = { source: "alice", target: "bob" };
    const link = memoryLink(names, (message, from) => this.mishap(message, from));
    this.links.push(link);
    const { reception, processes } = this;
    const owner = processes.target;
    void reception
      .serve(owner.guard(Object.assign(link.target, { otherNames: this.otherNames })), {
        address: "memory",
        pki: "",
      })
      .then((outcome) => {
        if (outcome !== null && owner.alive) this.outcomes.target.push(outcome);
      });
    return processes.source.guard(link.source);
  }

  source(request: Partial<SourceRequest> = {}): Source {
    const parts = { ...this.#parts("source", this.sourcePort), dial: () => this.#dial() };
    return new Source(parts, {
      token,
      peer: "bob",
      address: "memory",
      pki: "",
      policy: { ...defaultPolicy, precopy: false },
      pauseBefore: [],
      vcpusStopped: false,
      ...request,
    });
  }

  /** Puts the device on offer and moves it; done when the source knows, or is dead. */
  async move(request: Partial<SourceRequest> = {}): Promise<Outcome | null> {
    this.offers.put("alice", { thaw: this.thaw });
    return await this.run(this.source(request));
  }

  async run(source: Source): Promise<Outcome | null> {
    return await this.clock.until(this.untilDead(source.run()), 3_600_000);
  }

  /** What comes of it, or null once the source is dead. */
  async untilDead(outcome: Promise<Outcome>): Promise<Outcome | null> {
    const { processes, clock } = this;
    let result: Outcome | undefined;
    void outcome.then((value) => {
      result = value;
    });
    while (processes.source.alive && result === undefined) await clock.sleep(50);
    if (result !== undefined) this.outcomes.source.push(result);
    return result ?? null;
  }

  /** Ends a process at once; its links break. */
  kill(side: Side): void {
    this.processes[side].alive = false;
    for (const link of this.links) link.cut();
  }

  /** Starts a host's process again: what was on its disk is all it has. */
  async restart(side: Side): Promise<Outcome | null> {
    this.processes[side] = new Process();
    for (const disk of Object.values(this.disks)) disk.fault = () => null;
    this.mishap = () => null;
    const fates = recover(this.disks[side].records);
    if (side === "target") {
      this.targetPort = new FakePort([]);
      this.offers = this.#offers();
      this.reception = this.#reception();
      for (const { record, settled } of fates) {
        if (!settled) await this.reception.settle(record);
      }
      return null;
    }
    const open = fates.find(({ decision }) => decision === "deciding");
    const gone = fates.some(({ decision }) => decision === "gone");
    this.sourcePort.restart(open !== undefined, gone);
    if (open === undefined) return null;
    return await this.clock.until(this.untilDead(this.source().meet(open.record)), 3_600_000);
  }

  /** Lets the target come to an end. */
  async settle(): Promise<void> {
    await this.clock.pass(120_000);
  }

  /** The last decision of each side. */
  decided(side: Side): Decision | "none" {
    const { records } = this.disks[side];
    const own = records.filter(({ decision }) => decisions[decision].side === side);
    return own.at(-1)?.decision ?? "none";
  }
}
