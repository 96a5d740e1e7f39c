import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import type { MigrationSink } from "../device/vfio-device.ts";
import type { WriteWatch } from "../memory/guest-memory.ts";
import type { Compatibility } from "../migration/driver.ts";
import type { Arrived, Migratable } from "../migration/migratable.ts";
import type { MigrationStatus, MoveReport, Stillness } from "../migration/port.ts";
import { Freeze } from "../server/freeze.ts";
import type { Session } from "../server/session.ts";
import { MigState, migStateName } from "../spec/vfio.ts";
import { viewOf } from "../sys/libc.ts";
import type { Letter } from "./mail.ts";

/** Takes the answer to a letter, now or later: a value, or why there is none. */
export interface Reply {
  answer(value: unknown): void;
  refuse(why: FerryError): void;
}

/** Does what was asked for; what it throws for whoever asked is the answer. */
export function obeying(reply: Pick<Reply, "refuse">, work: () => void): void {
  try {
    work();
  } catch (thrown) {
    if (!(thrown instanceof FerryError)) throw thrown;
    reply.refuse(thrown);
  }
}

const modes: Readonly<Record<Stillness, Freeze>> = Freeze;

const stillnessOf = (freeze: Freeze): Stillness =>
  (Object.keys(modes) as Stillness[]).find((name) => modes[name] === freeze) ?? "none";

/** An array of another thread, which goes back there. */
class Parcel implements MigrationSink {
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly at = 0;

  constructor(bytes: Uint8Array<ArrayBuffer>) {
    this.bytes = bytes;
  }

  lend(address: number, length: number): void {
    this.bytes.set(new Uint8Array(viewOf(address, length)));
  }
}

const refused = (reason: string): FerryError => new FerryError("refused", reason);

/** Serves the letters of a migration in the device's thread. */
export class MigrationDesk {
  readonly #name: string;
  readonly #migratable: Migratable | null;
  readonly #session: Session;
  /** What waits until the device is where it is going. */
  readonly #afterwards: Array<{ readonly reply: Reply; readonly serve: () => void }> = [];
  /** How clients are to stand still by the operator's order, those that come later too. */
  ordered: Freeze = Freeze.none;

  constructor(name: string, migratable: Migratable | null, session: Session) {
    this.#name = name;
    this.#migratable = migratable;
    this.#session = session;
  }

  get #device(): Migratable {
    if (this.#migratable !== null) return this.#migratable;
    throw new FerryError("not-migratable", `${this.#name} has no migration driver.`);
  }

  /** Does what a letter asks; false when it is none of a migration's. */
  obey(letter: Letter, reply: Reply): boolean {
    switch (letter.op) {
      case "compatibility":
        reply.answer(this.#device.compatibility);
        return true;
      case "judge":
        reply.answer(this.#judge(letter.ask));
        return true;
      case "status":
        reply.answer(this.#status());
        return true;
      case "claim":
        this.#claim();
        reply.answer(null);
        return true;
      case "release":
        this.#release();
        reply.answer(null);
        return true;
      case "still":
        this.#still(letter.ask.how);
        reply.answer(null);
        return true;
      default:
        return this.#obeyMore(letter, reply);
    }
  }

  #obeyMore(letter: Letter, reply: Reply): boolean {
    switch (letter.op) {
      case "move":
        this.#move(letter.ask.to, reply);
        return true;
      case "setGoing":
        this.#setGoing(letter.ask.resets, reply);
        return true;
      case "abort":
        this.#abort(reply);
        return true;
      case "watchWrites":
        this.#watchWrites(letter.ask.how);
        reply.answer(null);
        return true;
      case "showWrites":
        this.#onArrival(reply, () => this.#showWrites(reply));
        return true;
      case "unseal":
        this.#device.seal(false, 0);
        reply.answer(null);
        return true;
      case "reset":
        this.#device.reset();
        reply.answer(null);
        return true;
      case "read":
        this.#onArrival(reply, () => this.#read(letter.ask.room, reply));
        return true;
      case "write":
        this.#write(letter.ask.bytes);
        reply.answer(letter.ask.bytes);
        return true;
      default:
        return false;
    }
  }

  #status(): MigrationStatus {
    const device = this.#device;
    const { connected, frozen } = this.#session;
    return {
      state: device.migrationState,
      master: device.master,
      connected,
      frozen: stillnessOf(connected ? frozen : this.ordered),
      pending: device.pending,
      stopCopyBytes: device.stopCopyBytes,
      resets: device.resets,
    };
  }

  /** Drivers of others end their sentences, or do not. */
  #judge(theirs: Compatibility): string | null {
    const misfit = this.#device.driver.judge(theirs);
    return misfit === null || misfit.endsWith(".") ? misfit : `${misfit}.`;
  }

  #claim(): void {
    if (this.#device.claim() === 0) return;
    throw new FerryError("busy", `the VMM of ${this.#name} is migrating it.`);
  }

  /** The client of a device that has left still stands; whoever comes after it has a clean one. */
  #release(): void {
    this.#device.release();
    this.ordered = Freeze.none;
  }

  #still(how: Stillness): void {
    this.ordered = modes[how];
    this.#session.freeze(this.ordered);
  }

  #move(to: MigState, reply: Reply): void {
    this.#device.move(to, this.#arrival(to, reply));
  }

  /** A reset that was noted is as if it had come before the state: it is not made up for. */
  #setGoing(resets: number | null, reply: Reply): void {
    const device = this.#device;
    const arrived = this.#arrival(MigState.running, reply);
    device.move(MigState.running, (result, report) => {
      if (result === 0) {
        if (resets !== null) {
          device.seal(true, resets);
          device.seal(false, resets);
        }
        this.#still("none");
        this.#release();
      }
      arrived(result, report);
    });
  }

  #abort(reply: Reply): void {
    this.#device.abort(this.#arrival(MigState.running, reply));
  }

  /** A device that keeps to itself where its memory lies would lose what it writes. */
  #watchWrites(how: WriteWatch): void {
    const { memory } = this.#device.planes;
    if (how !== "off" && this.#session.connected && !memory.wasMapped) {
      throw new FerryError("not-known", `${this.#name} does not tell which memory it writes.`);
    }
    memory.watchWrites(how);
  }

  /** While the device runs, what it wrote may be the guest's to write over. */
  #showWrites(reply: Reply): void {
    if (this.#device.migrationState !== MigState.stopCopy) {
      throw new FerryError("not-still", `${this.#name} does not stand still.`);
    }
    const touches = this.#device.planes.memory.touches();
    if (typeof touches === "number") {
      const why = `what ${this.#name} has written is not known: ${errnoName(touches)}.`;
      throw new FerryError("not-known", why);
    }
    const { touching, connected } = this.#session;
    if (!connected) throw new FerryError("no-client", `the VMM of ${this.#name} has gone.`);
    touching.begin(touches, (result) => {
      if (result === 0) reply.answer(touches.length);
      else reply.refuse(refused(`the VMM refused writes of ${this.#name}: ${errnoName(result)}.`));
    });
  }

  /** Answers a letter that asked for a move, and then those that had to wait for its end. */
  #arrival(to: MigState, reply: Reply): Arrived {
    const from = this.#device.migrationState;
    return (result, report) => {
      if (result === 0) reply.answer(report);
      else reply.refuse(refused(this.#whyNot(from, to, result, report)));
      this.#serveAfterwards();
    };
  }

  #whyNot(from: MigState, to: MigState, result: number, { phases }: MoveReport): string {
    const device = this.#device;
    const last = phases.findLast(({ result: each }) => each < 0);
    const where = last === undefined ? "" : ` in the phase ${last.phase}`;
    const refused = from === MigState.resuming && device.refusal !== "";
    const why = refused ? device.refusal : `${errnoName(result)}${where}`;
    const names = `${migStateName(from)} to ${migStateName(to)}`;
    const now = migStateName(device.migrationState);
    return `${this.#name} did not get from ${names}: ${why}. It is in ${now} now.`;
  }

  /** What is asked while the device is on its way to a state waits until it is there. */
  #onArrival(reply: Reply, serve: () => void): void {
    this.#afterwards.push({ reply, serve });
    this.#serveAfterwards();
  }

  #serveAfterwards(): void {
    while (!this.#device.moving) {
      const next = this.#afterwards.shift();
      if (next === undefined) return;
      obeying(next.reply, next.serve);
    }
  }

  #read(room: Uint8Array<ArrayBuffer>, reply: Reply): void {
    const count = this.#device.readStream(new Parcel(room), room.length, true);
    if (count >= 0) reply.answer(room.subarray(0, count));
    else reply.refuse(refused(`${this.#name} gives no data: ${errnoName(count)}.`));
  }

  #write(bytes: Uint8Array): void {
    const device = this.#device;
    const result = device.writeStream(bytes, 0, bytes.length);
    if (result === 0) return;
    const why = device.refusal === "" ? errnoName(result) : device.refusal;
    const code = result === -errno.EINVAL ? "refused" : "not-taken";
    throw new FerryError(code, `${this.#name} refuses the state: ${why}.`);
  }
}
