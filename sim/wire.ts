import { FerryError } from "../src/base/errors.ts";
import type { Side } from "../src/migration/hosts/journal.ts";
import type { Frame, Link } from "../src/migration/hosts/link.ts";
import { decode } from "../src/migration/hosts/link-messages.ts";
import type { World } from "./world.ts";

/** Frames under way in one direction, read or not, before the sender waits. */
const room = 4;
/** How long a frame takes at most, as a rule. */
const delayMsMax = 12;

/** What is done to the stream on its way, by an enemy or a broken source. */
export type Tamper = (frame: Frame) => Frame | null;

/** One direction of a link. */
class Lane implements Link {
  readonly peer: string;
  readonly #wire: Wire;
  readonly #from: Side;
  /** What comes to this end, and how much is still on its way. */
  readonly arrived: Frame[] = [];
  coming = 0;
  /** No more will come, or can be sent. */
  over = false;
  broken = false;
  /** The other side's frames go nowhere, and nobody hears of it. */
  deaf = false;
  #wake: Array<() => void> = [];
  #dueMs = 0;

  constructor(wire: Wire, from: Side, peer: string) {
    this.#wire = wire;
    this.#from = from;
    this.peer = peer;
  }

  get #other(): Lane {
    return this.#wire.end(this.#from === "source" ? "target" : "source");
  }

  async send(frame: Frame): Promise<void> {
    const other = this.#other;
    this.#check();
    this.#wire.leaves(frame, this.#from);
    this.#check();
    const passed = this.#wire.tamper === null ? frame : this.#wire.tamper(frame);
    if (passed !== null) other.take(passed);
    while (other.coming + other.arrived.length >= room && !this.broken && !this.over) {
      await other.news();
    }
    this.#check();
  }

  #check(): void {
    if (this.broken || this.over) throw new FerryError("net", "connection reset");
  }

  /** Something is on its way here; it overtakes nothing. */
  take(frame: Frame): void {
    const { clock, random } = this.#wire.world;
    const delayMs = random.below(delayMsMax) + this.#wire.delayMs;
    this.#dueMs = Math.max(this.#dueMs, clock.now() + delayMs);
    this.coming += 1;
    if (this.deaf) return;
    clock.after(this.#dueMs - clock.now(), () => this.#arrive(frame));
  }

  #arrive(frame: Frame): void {
    if (this.over || this.broken || this.deaf) return;
    this.coming -= 1;
    this.arrived.push(frame);
    this.#wire.arrives(frame, this.#from);
    this.#tell();
  }

  /** Until something changes at this end. */
  news(): Promise<void> {
    return new Promise((resolve) => this.#wake.push(resolve));
  }

  #tell(): void {
    for (const wake of this.#wake.splice(0)) wake();
  }

  async receive(): Promise<Frame | null> {
    while (this.arrived.length === 0 && !this.broken && !this.over) await this.news();
    this.#tell();
    return this.over ? null : (this.arrived.shift() ?? null);
  }

  /** This side ends it: what it has sent still goes out, and then the other end hears of it. */
  close(): void {
    if (this.over) return;
    this.over = true;
    this.#tell();
    const other = this.#other;
    // Whoever still waits to send from here need not wait any more.
    other.#tell();
    const { clock } = this.#wire.world;
    if (other.deaf) return;
    clock.after(Math.max(0, other.#dueMs - clock.now()), () => other.break());
  }

  /** The link is no more; what has arrived may still be read. */
  break(): void {
    this.broken = true;
    this.#tell();
    this.#other.#tell();
  }
}

/** A link between two hosts, and everything that may happen to it. */
export class Wire {
  readonly world: World;
  /** Added to every frame's time. */
  delayMs = 0;
  tamper: Tamper | null = null;
  readonly #source: Lane;
  readonly #target: Lane;

  constructor(world: World, names: { readonly source: string; readonly target: string }) {
    this.world = world;
    this.#source = new Lane(this, "source", names.target);
    this.#target = new Lane(this, "target", names.source);
  }

  end(side: Side): Link & Lane {
    return side === "source" ? this.#source : this.#target;
  }

  leaves(frame: Frame, from: Side): void {
    this.#tell("says", frame, from);
  }

  arrives(frame: Frame, to: Side): void {
    this.#tell("hears", frame, to);
  }

  #tell(how: string, frame: Frame, side: Side): void {
    const say = decode(frame)?.say ?? "nonsense";
    if (say === "ping") return;
    const bytes = say === "data" ? ` of ${frame.payload.length} bytes` : "";
    this.world.moment(`${side} ${how} ${say}`, `${side} ${how} ${say.toUpperCase()}${bytes}`, this);
  }

  /** Both ends break at once: what has not arrived never will. */
  cut(): void {
    this.#source.break();
    this.#target.break();
  }

  /** One direction, or both, go into nothing, and neither end is told. */
  silence(sides: readonly Side[]): void {
    for (const side of sides) this.end(side).deaf = true;
  }
}
