/** Two hosts with a VF each, a guest that moves from one to the other, and an operator. */
import { Carve } from "../../../src/device/carve.ts";
import { Wrapper } from "../../../src/device/wrapper.ts";
import {
  defaultConfiguration,
  type QmConfiguration,
} from "../../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../../src/devices/hisi-acc/qm/pf.ts";
import type { QueueManager } from "../../../src/devices/hisi-acc/qm/queue-manager.ts";
import { HisiAccDriver } from "../../../src/migration/drivers/hisi-acc/driver.ts";
import { Migratable } from "../../../src/migration/migratable.ts";
import { guestBarBytes, Qm, qmBar } from "../../../src/spec/hisi-qm.ts";
import { sec2DeviceId } from "../../../src/spec/hisi-sec2.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { Guest, Vmm } from "../../device/vmm.ts";
import { base, Driver, memoryBytes, type QueuePair } from "../../devices/hisi-acc/qm/driver.ts";
import { ManualCompute, XorEngine, xorSqe } from "../../devices/hisi-acc/qm/xor-engine.ts";
import { type Arrival, move, readAll, TestClock } from "../operator.ts";

export type Control = "own" | "silicon";
export const controls: readonly Control[] = ["own", "silicon"];
/** Milliseconds that pass in a turn. */
const turnMs = 1;

/** The exclusive-or engine in the place of SEC2. */
export class Engine extends XorEngine {
  override readonly description = {
    name: "xor",
    deviceId: sec2DeviceId,
    classCode: 0x120000,
    sqeBytes: xorSqe.bytes,
    tagAt: xorSqe.tag,
    capabilities: { 12580: 0x7c77, 12612: 0x2, 12656: 0xf },
  };
}

/** One access to a function's registers. */
export interface Access {
  readonly writes: boolean;
  readonly offset: number;
  readonly count: number;
}

/** Notes what is done to a function. */
class Recorder extends Wrapper {
  readonly accesses: Access[] = [];

  override read(...given: Parameters<Wrapper["read"]>): number {
    const [region, offset, , , count] = given;
    if (region === qmBar) this.accesses.push({ writes: false, offset, count });
    return super.read(...given);
  }

  override write(...given: Parameters<Wrapper["write"]>): number {
    const [region, offset, , , count] = given;
    if (region === qmBar) this.accesses.push({ writes: true, offset, count });
    return super.write(...given);
  }
}

/** A VF on a host, with what is around it. */
export class Host {
  readonly pf: Pf;
  readonly engine = new Engine();
  readonly compute = new ManualCompute();
  readonly vf: QueueManager;
  readonly clock: TestClock;
  readonly migration: HisiAccDriver;
  readonly device: Migratable;
  readonly vmm: Vmm;
  /** What the control half looks like, for who looks behind the driver's back. */
  readonly control: Vmm;
  /** What the driver has done to the function, while the device was made too. */
  readonly accesses: Access[];
  /** Done between the turns of a move. */
  perTurn: () => void = () => {};

  constructor(control: Control, changes: Partial<QmConfiguration> = {}, pf?: Pf) {
    const { engine, compute } = this;
    this.clock = new TestClock();
    this.pf = pf ?? new Pf({ queueBase: 0x100, now: this.clock.now });
    const configuration = {
      ...defaultConfiguration,
      queues: 16,
      controlMailbox: control === "own",
      ...changes,
    };
    this.vf = this.pf.createVf({ engine, compute, configuration });
    const guest = new Carve(this.vf, { bar: qmBar, size: guestBarBytes, bits: this.vf.carvedBits });
    const broker = this.pf.broker(this.pf.vfs.length);
    const recorder = new Recorder(this.vf);
    this.accesses = recorder.accesses;
    const planes = { guest, control: recorder, memory: this.vf.memory, broker };
    this.migration = new HisiAccDriver(planes, { now: this.clock.now });
    this.device = new Migratable(planes, this.migration, this.clock.now);
    this.vmm = new Vmm(this.device);
    this.control = new Vmm(this.vf);
  }

  /** Moves; milliseconds pass with the turns. */
  move(to: number): Arrival {
    this.device.claim();
    return move(this.device, to, () => {
      this.clock.ms += turnMs;
      this.perTurn();
    });
  }

  /** Stops and gives the stream out. */
  save(): Uint8Array<ArrayBuffer> {
    const { result } = this.move(MigState.stopCopy);
    if (result < 0) throw new Error(`not saved: ${result}`);
    return readAll(this.device);
  }

  /** Takes a stream in; the device stands still afterwards. */
  load(stream: Uint8Array): Arrival {
    this.move(MigState.resuming);
    this.device.writeStream(stream, 0, stream.length);
    return this.move(MigState.stop);
  }

  /** A register, the control half's too. */
  register(name: keyof typeof Qm.registers, index = 0): number {
    return this.control.read(qmBar, Qm.at[name] + 4 * index);
  }
}

/** A guest and its driver, on a host. */
export interface Machine {
  readonly host: Host;
  readonly guest: Guest;
  readonly driver: Driver;
  readonly pairs: readonly QueuePair[];
}

/** A guest with these queues, by number and depth. */
export function boot(
  host: Host,
  queues: ReadonlyArray<readonly [number: number, depth: number]> = [
    [0, 4],
    [9, 5],
  ],
  eventDepth = 4,
): Machine {
  const guest = new Guest(base, memoryBytes);
  if (host.vmm.map(guest) !== 0) throw new Error("no guest memory");
  const driver = new Driver(host.vmm, guest);
  driver.start(eventDepth, eventDepth);
  const pairs = queues.map(([number, depth]) => driver.queue(number, depth, 1));
  return { host, guest, driver, pairs };
}

/** The same guest on another host, with a copy of its memory. */
export function arrive(from: Machine, host: Host): Machine {
  const guest = new Guest(base, memoryBytes);
  guest.write(base, from.guest.read(base, memoryBytes));
  if (host.vmm.map(guest) !== 0) throw new Error("no guest memory");
  const { eq, aeq, sqcTable, cqcTable } = from.driver;
  const driver = Object.assign(new Driver(host.vmm, guest, from.driver.allocate(0)), {
    eq: copy(eq, { guest }),
    aeq: copy(aeq, { guest }),
    sqcTable,
    cqcTable,
  });
  const pairs = from.pairs.map((pair) => copy(pair, { driver, cq: copy(pair.cq, { guest }) }));
  return { host, guest, driver, pairs };
}

/** The same with some of it replaced. */
const copy = <T extends object>(of: T, changes: Partial<T>): T =>
  Object.assign(Object.create(Object.getPrototypeOf(of)), of, changes);
