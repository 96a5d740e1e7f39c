import { FerryError } from "../../../src/base/errors.ts";
import type { WriteWatch } from "../../../src/memory/guest-memory.ts";
import type { Compatibility } from "../../../src/migration/driver.ts";
import type {
  MigrationPort,
  MigrationStatus,
  MoveReport,
  Stillness,
} from "../../../src/migration/port.ts";
import { MigState, migStateName } from "../../../src/spec/vfio.ts";

type Bytes = Uint8Array<ArrayBuffer>;
const { running, stop, stopCopy, resuming, preCopy } = MigState;

/** Begins every image in a stream; the last image counts. */
const mark = 0xaa;

/** A device whose state is a few bytes, with everything that may go wrong as a switch. */
export class FakePort implements MigrationPort {
  readonly name = "fake";
  /** What the device knows, and so what must arrive. */
  state: Bytes;
  /** True while a guest's work is in it. */
  guest: boolean;
  now: MigState = running;
  frozen: Stillness = "none";
  master: MigrationStatus["master"] = "none";
  connected = true;
  resets = 0;
  sealed = false;
  noted = 0;
  /** Bytes that change between two rounds, and those that never stop to. */
  dirty: number[] = [];
  hasPrecopy = true;
  pieceBytes = 4;
  /** Sentences to fail with, by what is asked: `move STOP_COPY`. */
  readonly failures = new Map<string, string>();
  /** Everything that was asked, in order. */
  readonly log: string[] = [];
  /** Called before anything is done: the place to crash or to reset. */
  before: (what: string) => void | Promise<void> = () => {};
  #out: Bytes[] = [];
  #in: number[] = [];
  #loaded: Bytes | null = null;
  #turn: Promise<void> = Promise.resolve();

  constructor(state: readonly number[]) {
    this.state = Uint8Array.from(state);
    this.guest = state.length > 0;
  }

  /** What is asked is done in turn, however long that before it takes. */
  async #inTurn(what: string): Promise<void> {
    const turn = this.#turn.then(() => this.before(what));
    this.#turn = turn;
    await turn;
  }

  async #do(what: string): Promise<void> {
    await this.#inTurn(what);
    this.log.push(what);
    const why = this.failures.get(what);
    if (why !== undefined) throw new FerryError("device", why);
  }

  async compatibility(): Promise<Compatibility> {
    const version = { driver: "fake", version: 1, oldestVersion: 1 };
    return { ...version, vendor: 0x19e5, device: 0xa255, revision: 1, facts: { queues: 4 } };
  }

  async judge(theirs: Compatibility): Promise<string | null> {
    await this.before("judge");
    return theirs.driver === "fake" ? (this.failures.get("judge") ?? null) : "another driver.";
  }

  async status(): Promise<MigrationStatus> {
    await this.before("status");
    const { now, master, connected, frozen, resets } = this;
    const dirtyBytes = this.dirty[0] ?? 0;
    const pending = { initialBytes: 0, dirtyBytes };
    return { state: now, master, connected, frozen, pending, stopCopyBytes: 4, resets };
  }

  async claim(): Promise<void> {
    await this.#do("claim");
    this.master = "operator";
  }

  async release(): Promise<void> {
    await this.#do("release");
    this.master = "none";
  }

  async still(how: Stillness): Promise<void> {
    await this.#do(`still ${how}`);
    this.frozen = how;
  }

  async move(to: MigState): Promise<MoveReport> {
    if (to === preCopy && !this.hasPrecopy) throw new FerryError("device", "no PRE_COPY.");
    await this.#do(`move ${migStateName(to)}`);
    if (to === stopCopy || to === preCopy) this.#save();
    if (to === stop && this.now === resuming) {
      this.#loaded = Uint8Array.from(this.#in.slice(this.#in.lastIndexOf(mark) + 1));
    }
    if (to === running && this.#loaded !== null) {
      this.state = this.#loaded;
      this.guest = true;
    }
    if (to === resuming) this.#in = [];
    this.now = to;
    return { state: to, phases: [] };
  }

  #save(): void {
    const { pieceBytes } = this;
    const state = Uint8Array.of(mark, ...this.state);
    for (let at = 0; at < state.length; at += pieceBytes) {
      this.#out.push(state.slice(at, at + pieceBytes));
    }
  }

  async setGoing(resets: number | null): Promise<MoveReport> {
    const report = await this.move(running);
    if (resets !== null) {
      await this.seal(true, resets);
      await this.seal(false, resets);
    }
    await this.still("none");
    await this.release();
    return report;
  }

  async abort(): Promise<void> {
    await this.#do("abort");
    this.now = running;
    this.#out = [];
  }

  async watchWrites(how: WriteWatch): Promise<void> {
    await this.#do(`watchWrites ${how}`);
  }

  async showWrites(): Promise<number> {
    await this.#do("showWrites");
    return this.state.length;
  }

  async reset(): Promise<void> {
    await this.#do("reset");
    this.#forget();
  }

  #forget(): void {
    this.now = running;
    this.guest = false;
    this.state = new Uint8Array(0);
    this.#out = [];
    this.#in = [];
    this.#loaded = null;
  }

  /** Its process is another one; what the device knew is still there, unless it had moved. */
  restart(stopped: boolean, moved: boolean): void {
    if (moved) this.#forget();
    this.now = stopped ? stop : running;
    this.sealed = false;
    this.frozen = "none";
    this.master = "none";
  }

  /** What a guest does. */
  guestReset(): void {
    if (this.sealed) this.noted += 1;
    else this.#guestResets();
  }

  #guestResets(): void {
    this.resets += 1;
    this.now = running;
  }

  async seal(on: boolean, resets: number): Promise<boolean> {
    await this.#do(`seal ${on}`);
    if (on && resets !== this.resets) return false;
    this.sealed = on;
    if (on) this.noted = 0;
    if (!on && this.noted > 0) this.#guestResets();
    return true;
  }

  async read(room: Bytes): Promise<Bytes> {
    await this.#inTurn("read");
    if (this.now === preCopy && this.#out.length === 0 && this.dirty.length > 0) {
      this.dirty.shift();
    }
    const bytes = this.#out.shift() ?? new Uint8Array(0);
    if (bytes.length > room.length) throw new Error("a piece is too long");
    room.set(bytes);
    return room.subarray(0, bytes.length);
  }

  async write(bytes: Bytes): Promise<Bytes> {
    await this.#do("write");
    this.#in.push(...bytes);
    return bytes;
  }

  /** True while the device acts in its guest's name. */
  get acts(): boolean {
    return this.guest && (this.now === running || this.now === preCopy);
  }
}
