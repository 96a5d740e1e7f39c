/**
 * A device in a process of its own: the shipped session, desk and port around it, without a thread.
 * What a thread would wait for is waited for by the world, which gives it turns.
 */
import { assert } from "../src/base/assert.ts";
import type { FerryError } from "../src/base/errors.ts";
import { Wrapper } from "../src/device/wrapper.ts";
import type { DeviceWorker } from "../src/host/device-worker.ts";
import { IdleTurns } from "../src/host/idle-turns.ts";
import type { Letter, ParkedDevice } from "../src/host/mail.ts";
import { MigrationDesk, obeying } from "../src/host/migration-desk.ts";
import { install, Parking, restMsMax } from "../src/host/parking.ts";
import { WorkerPort } from "../src/host/worker-port.ts";
import { Migratable } from "../src/migration/migratable.ts";
import type { MigrationPort } from "../src/migration/port.ts";
import { Freeze } from "../src/server/freeze.ts";
import { End, Session } from "../src/server/session.ts";
import { MigState } from "../src/spec/vfio.ts";
import type { Random } from "../test/fuzz/random.ts";
import type { Control, Kind, Life, Model } from "./kind.ts";
import type { World } from "./world.ts";

/** A letter takes so long to its thread at most. */
const mailMsMax = 3;
/** Bytes of the stream that are read at once, so that a stream is several messages. */
const pieceBytes = 48 * 1024;
const turnRoundsMax = 3;
const turnsAwake = 2;
/** A device is parked within so many turns, if it has as many soon. */
const turnsToUpgrade = 60;
/** What a thread that spins until a device is ready takes for a turn of it, at most. */
const spinMsMax = 6;

/** What costs memory that no process gives back: it serves one machine after the other. */
class Rig implements Life {
  readonly model: Model;
  readonly pristine: Buffer;
  readonly place: Wrapper;
  readonly idle: IdleTurns;
  readonly session: Session;
  machine: Machine | null = null;

  constructor({ newModel }: Kind, control: Control) {
    this.model = newModel(control, this);
    const { planes } = this.model;
    this.pristine = Buffer.from(planes.control.state ?? []);
    this.place = new Wrapper(planes.guest);
    this.idle = new IdleTurns(this.place);
    this.session = new Session(this.place, () => this.machine?.interrupted() ?? true, this.now);
    this.session.waits = false;
  }

  get #here(): Machine {
    assert(this.machine !== null, "a device that nobody has does nothing");
    return this.machine;
  }

  get random(): Random {
    return this.#here.world.random;
  }

  readonly now = (): number => this.machine?.world.clock.now() ?? 0;

  readonly after = (ms: number, act: () => void): void => {
    const machine = this.#here;
    machine.world.clock.after(ms, () => {
      act();
      machine.wake();
    });
  };
}

/** Rigs that are free. */
const pools = new Map<string, Rig[]>();

function poolOf({ name }: Kind, control: Control): Rig[] {
  const key = `${name} ${control}`;
  const pool = pools.get(key) ?? [];
  pools.set(key, pool);
  return pool;
}

export class Machine {
  readonly world: World;
  readonly name: string;
  readonly port: MigrationPort;
  readonly migratable: Migratable;
  /** A guest has touched it that had another device already. */
  touched = false;
  readonly control: Control;
  readonly #rig: Rig;
  readonly #desk: MigrationDesk;
  readonly #parking: Parking;
  /** Is told that the device was parked and goes on, or stays. */
  #upgraded: () => void = () => {};
  /** Turns until it is to be parked; 0 when it is not. */
  #turnsLeft = 0;
  readonly #mail: Array<() => void> = [];
  #mailDueMs = 0;
  #rounds = 0;
  /** Turns until the thread would wait: it looks once more than it finds something. */
  #awake = 0;
  #spins = false;

  constructor(world: World, name: string, control: Control) {
    const { kind } = world;
    this.world = world;
    this.name = name;
    this.control = control;
    this.#rig = poolOf(kind, control).pop() ?? new Rig(kind, control);
    this.#rig.machine = this;
    const { model, place, pristine, session } = this.#rig;
    const { planes } = model;
    const { now } = this.#rig;
    install(planes.control, { wiring: null, state: pristine });
    this.migratable = new Migratable(planes, model.newDriver(), now);
    place.inner = this.migratable;
    this.#desk = new MigrationDesk(kind.name, this.migratable, session);
    const { migratable } = this;
    this.#parking = new Parking({ device: migratable, migratable, session, now });
    // The port asks of a worker nothing but this.
    const [ask, seal] = [this.#ask.bind(this), this.#seal.bind(this)];
    const worker = { spec: { name: kind.name }, ask, seal };
    this.port = new WorkerPort(worker as unknown as DeviceWorker);
  }

  /** Gives the rig back: nothing of the device is left. */
  end(): void {
    const { session, model } = this.#rig;
    const { control } = model.planes;
    if (session.connected) session.close();
    else session.freeze(Freeze.none);
    control.detach();
    control.reset();
    model.calm();
    this.#mail.length = 0;
    this.#upgraded();
    this.#rig.machine = null;
    poolOf(this.world.kind, this.control).push(this.#rig);
  }

  /** A client connects; a process serves one at a time. */
  open(fd: number): void {
    this.#rig.session.open(fd);
    this.wake();
  }

  /**
   * Another version of its server takes it over, or tries to: the client stays, and all that is not
   * in the state is gone. In the middle of its work if it has some, and not while it is migrated.
   */
  upgrade(): Promise<void> {
    const { clock, random } = this.world;
    return new Promise((done) => {
      this.#upgraded = done;
      this.#turnsLeft = 1 + random.below(turnsToUpgrade);
      clock.after(random.below(20), () => this.#askToPark());
    });
  }

  #askToPark(): void {
    if (this.#turnsLeft === 0) return;
    this.#turnsLeft = 0;
    const done = this.#upgraded;
    const goOn = (parked: ParkedDevice): void => {
      install(this.migratable, parked);
      if (parked.connection !== null) this.#rig.session.takeUp(parked.connection);
      this.wake();
      done();
    };
    this.#parking.ask({ answer: (parked) => goOn(parked as ParkedDevice), refuse: () => done() });
    this.wake();
    this.world.clock.after(restMsMax + 1, () => this.wake());
  }

  #maybePark(): void {
    if (this.#turnsLeft === 1) this.#askToPark();
    else if (this.#turnsLeft > 1) this.#turnsLeft -= 1;
    this.#parking.turn();
  }

  get model(): Model {
    return this.#rig.model;
  }

  /** What the device depends on fails, unless its process has died meanwhile. */
  upset(): void {
    if (this.#rig.machine === this) this.model.upset(this.world.random);
  }

  /** It works again. */
  calm(): void {
    if (this.#rig.machine === this) this.model.calm();
  }

  get connected(): boolean {
    return this.#rig.session.connected;
  }

  get still(): boolean {
    return this.#rig.session.frozen !== Freeze.none;
  }

  #ask(op: Letter["op"], ask: unknown): Promise<unknown> {
    const bounded = op === "read" ? { room: new Uint8Array(pieceBytes) } : ask;
    const letter = { id: 0, op, ask: bounded } as Letter;
    const { clock, random } = this.world;
    // Letters do not overtake each other.
    this.#mailDueMs = Math.max(this.#mailDueMs, clock.now() + random.below(mailMsMax));
    return new Promise((answer, reject) => {
      clock.after(this.#mailDueMs - clock.now(), () => {
        this.wake();
        this.#mail.push(() => this.#obey(letter, answer, reject));
      });
    });
  }

  #obey(letter: Letter, answer: (value: unknown) => void, refuse: (why: FerryError) => void): void {
    this.world.moment(`asks ${letter.op}`, `${this.name} device: ${said(letter)}`);
    if (this.#rig.machine !== this) return;
    obeying({ refuse }, () => {
      const known = this.#desk.obey(letter, { answer, refuse });
      assert(known, `the desk knows ${letter.op}`);
    });
  }

  /** In the main thread, at once; one that dies with its process hears no answer. */
  #seal(resets: number): boolean | Promise<never> {
    this.world.moment("asks seal", `${this.name} device: seal`);
    if (this.#rig.machine !== this) return new Promise(() => {});
    return this.migratable.seal(true, resets);
  }

  interrupted(): boolean {
    this.#rounds -= 1;
    return this.#rounds < 0 || this.#mail.length > 0 || this.#parking.due;
  }

  /** Something may be there to be done. */
  get ready(): boolean {
    return this.#awake > 0;
  }

  /** Wakes the thread, as what comes on a socket does. */
  wake(): void {
    this.#awake = turnsAwake;
  }

  /** What a device's thread does between two waits. */
  turn(): void {
    const { session, idle } = this.#rig;
    const before = session.served;
    this.#awake -= 1;
    this.#rounds = 1 + this.world.random.below(turnRoundsMax);
    if (!session.connected) idle.turn();
    else if (session.run() === End.closed) session.close();
    if (session.served > before || this.#mail.length > 0) this.wake();
    else if (this.#works) this.#spin();
    // A letter may end the machine, and with it the letters behind it.
    for (let left = this.#mail.length; left > 0; left--) this.#mail.shift()?.();
    if (this.#rig.machine === this) this.#maybePark();
  }

  /** The thread looks again and again: that takes time. */
  #spin(): void {
    if (!this.migratable.moving) {
      this.wake();
      return;
    }
    if (this.#spins) return;
    this.#spins = true;
    const { clock, random } = this.world;
    clock.after(random.below(spinMsMax), () => {
      this.#spins = false;
      this.wake();
    });
  }

  /** Has the device something to do at once? One that nobody can reach only ends its moves. */
  get #works(): boolean {
    const { busy, moving } = this.migratable;
    return busy && (moving || (this.connected && !this.still));
  }

  /** Does the device run, where the VMM reaches it? */
  get runs(): boolean {
    if (!this.connected || this.still) return false;
    const { migrationState } = this.migratable;
    return migrationState === MigState.running || migrationState === MigState.preCopy;
  }

  /** Does the device act in the name of this guest: does it run with what the guest has left? */
  actsFor(mark: number): boolean {
    return this.runs && this.holds(mark);
  }

  /** Is what this guest has left in the device, whether or not it runs? */
  holds(mark: number): boolean {
    return this.#rig.model.holds(mark);
  }

  get #isPristine(): boolean {
    const { model, pristine } = this.#rig;
    return this.touched || pristine.equals(model.planes.control.state ?? pristine);
  }

  /** What of a guest, or of a migration, is left here; empty when the device is as at its start. */
  get remains(): string[] {
    const { migrationState, master } = this.migratable;
    const wrong: ReadonlyArray<readonly [boolean, string]> = [
      [!this.#isPristine, "its state is not that of a reset"],
      [migrationState !== MigState.running, "it is not RUNNING"],
      [master !== "none", `its ${master} migrates it`],
    ];
    return wrong.filter(([is]) => is).map(([, what]) => what);
  }
}

function said({ op, ask }: Letter): string {
  switch (op) {
    case "move":
      return `move to ${Object.entries(MigState).find(([, state]) => state === ask.to)?.[0]}`;
    case "still":
      return `still ${ask.how}`;
    default:
      return op;
  }
}
