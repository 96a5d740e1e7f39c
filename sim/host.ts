import { FerryError } from "../src/base/errors.ts";
import type { Address } from "../src/host/links/address.ts";
import type { LinkFactory, Place } from "../src/host/links/link-factory.ts";
import { type ControlParts, MigrationControl } from "../src/host/migration-control.ts";
import type { MigrationEvent } from "../src/migration/hosts/events.ts";
import type { Link } from "../src/migration/hosts/link.ts";
import type { MigrationPort } from "../src/migration/port.ts";
import { Disk } from "./disk.ts";
import type { Control } from "./kind.ts";
import { Machine } from "./machine.ts";
import { Process } from "./process.ts";
import { Wire } from "./wire.ts";
import type { World } from "./world.ts";

type Greet = (link: Link) => void;

/** How long a call rings at most. */
const ringMsMax = 5;
const port = 7100;

/** A host: a disk, and a process with a device, which may die and be started again. */
export class Host {
  readonly name: string;
  readonly address: string;
  readonly disk: Disk;
  readonly world: World;
  readonly #shape: Control;
  /** False: nobody can call it. */
  reachable = true;
  process = new Process();
  machine: Machine;
  control: MigrationControl;
  /** Migrations that have come here, and those of them that are not over. */
  arrived = 0;
  arriving = 0;
  /** The phase before which a migration waits. */
  paused: string | null = null;
  #greet: Greet | null = null;
  readonly #wires = new Set<Wire>();

  /** `shape` is how its devices are reached by who migrates them. */
  constructor(world: World, name: string, shape: Control) {
    this.world = world;
    this.name = name;
    this.address = `tls://${name}:${port}`;
    this.disk = new Disk(world, name);
    this.#shape = shape;
    this.machine = new Machine(world, name, shape);
    this.control = this.#newControl();
  }

  get alive(): boolean {
    return this.process.alive;
  }

  #newControl(): MigrationControl {
    const { process, world, machine, disk } = this;
    const parts: ControlParts = {
      port: process.guard<MigrationPort>(machine.port),
      journal: disk.open(process),
      clock: process.clock(world.clock),
      random: (count) => world.random.bytes(count),
      links: this.#links(process),
      sweep: () => {},
      tell: (event) => {
        if (process.alive) this.#hear(event);
      },
    };
    return new MigrationControl(world.mutation?.host?.(parts) ?? parts);
  }

  /** Links to the other hosts of this world, for one process. */
  #links(process: Process): LinkFactory {
    return {
      dial: (place) => process.wait(this.#dial(place, process)),
      listen: async (place, greet) => {
        this.#greet = (link) => {
          if (process.alive) greet(process.guard(link));
        };
        const stop = (): void => {
          if (process.alive) this.#greet = null;
        };
        return { address: place.address, close: stop };
      },
    };
  }

  async #dial({ address }: Place, process: Process): Promise<Link> {
    const host = this.world.host(nameOf(address));
    const link = await host.accept(this, process);
    return process.guard(link);
  }

  /** Takes a call of another host's: gives back the caller's end. */
  async accept(from: Host, caller: Process): Promise<Link> {
    const { world } = this;
    await world.clock.sleep(world.random.below(ringMsMax));
    if (!this.alive || !caller.alive || !this.reachable || this.#greet === null) {
      throw new FerryError("net", `there is no way to ${this.name}.`);
    }
    const wire = new Wire(world, { source: from.name, target: this.name });
    for (const host of [this, from]) host.#wires.add(wire);
    world.moment("is connected", `${from.name} is connected to ${this.name}`, wire);
    this.#greet(wire.end("target"));
    return wire.end("source");
  }

  /** Is a device on its way here? */
  get busy(): boolean {
    return this.alive && this.arriving > 0;
  }

  #hear(event: MigrationEvent): void {
    if (event.kind === "phase" && event.phase === "offer" && event.step === "begins") {
      this.arrived += 1;
      this.arriving += 1;
    }
    if (event.kind === "verdict" && this.arriving > 0) this.arriving -= 1;
    if (event.kind === "paused") this.paused = event.before;
    const [name, line] = sentenceOf(event);
    if (line !== "") this.world.moment(name, `${this.name}: ${line}`);
  }

  /** The process dies: its device is gone, its links break, its disk stays. */
  crash(): void {
    if (!this.alive) return;
    this.world.log(`${this.name} DIES`);
    this.process.alive = false;
    this.#greet = null;
    for (const wire of this.#wires) wire.cut();
    this.#wires.clear();
    this.machine.end();
  }

  /** Another process takes up what the journal leaves open. */
  restart(): void {
    if (this.alive) return;
    this.world.log(`${this.name} is started again`);
    this.disk.trouble = "none";
    this.process = new Process();
    this.machine = new Machine(this.world, this.name, this.#shape);
    this.arriving = 0;
    this.paused = null;
    this.control = this.#newControl();
    this.world.watch(`the recovery of ${this.name}`, this.control.recover());
  }
}

const nameOf = (address: Address): string => (address.kind === "tls" ? address.host : "");

/** What an event is called, and how it is told; nothing for one that is not worth a line. */
function sentenceOf(event: MigrationEvent): [name: string, line: string] {
  switch (event.kind) {
    case "phase": {
      const name = `${event.phase} ${event.step}`;
      return [name, event.why === undefined ? name : `${name}: ${event.why}`];
    }
    case "paused":
      return ["paused", `waits before ${event.before}`];
    case "undecided":
      return ["undecided", event.asked < 3 ? `is undecided: ${event.why}` : ""];
    case "note":
      return ["note", event.why];
    case "verdict":
      return ["verdict", `${event.outcome.toUpperCase()}, ${event.state}. ${event.sentence}`];
    default:
      return ["progress", ""];
  }
}
