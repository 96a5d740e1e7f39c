/** What Linux's `hisi_qm` does with a VF, register by register, in the order that it does it. */
import { Carve } from "../../../../src/device/carve.ts";
import {
  defaultConfiguration,
  type QmConfiguration,
} from "../../../../src/devices/hisi-acc/qm/configuration.ts";
import { Pf } from "../../../../src/devices/hisi-acc/qm/pf.ts";
import type { QueueManager } from "../../../../src/devices/hisi-acc/qm/queue-manager.ts";
import {
  Cqc,
  cqeBytes,
  EventContext,
  eqeBytes,
  guestBarBytes,
  qmBar,
  Sqc,
} from "../../../../src/spec/hisi-qm.ts";
import { PciIrq } from "../../../../src/spec/vfio.ts";
import { type Eventfd, Guest, Vmm } from "../../../device/vmm.ts";
import { ManualCompute, XorEngine, xorSqe } from "./xor-engine.ts";

export const base = 0x1_0000_0000;
export const memoryBytes = 8 << 20;
export const at = {
  aeqMask: 0x04,
  eqMask: 0x0c,
  ifcSource: 0x20,
  ifcMask: 0x24,
  ifcStatus: 0x28,
  ifcSet: 0x2c,
  isolation: 0x30,
  pageSize: 0x34,
  vfState: 0x60,
  writeBack: 0x204,
  writeBackDone: 0x208,
  mailbox: 0x300,
  queueDoorbell: 0x1000,
  eventDoorbell: 0x2000,
  eqc: 0x8000,
  aeqc: 0x8020,
} as const;
export const command = {
  sqc: 0,
  cqc: 1,
  eqc: 2,
  aeqc: 3,
  sqcTable: 4,
  cqcTable: 5,
  vft: 6,
  stopQueue: 8,
  flush: 9,
  send: 0xc,
  receive: 0xd,
  pause: 0xe,
} as const;
export const ring = { sq: 0, cq: 1, eq: 2, aeq: 3 } as const;
const busy = 1 << 13;
const get = 1 << 14;

export type Store = "16" | "8+8" | "4x4";

/** An EQE or AEQE as the driver takes it out of its ring. */
export interface Event {
  readonly queue: number;
  readonly type: number;
}

/** A completion as the driver takes it out of its ring. */
export interface Completion {
  readonly sqHead: number;
  readonly sqNumber: number;
}

/** A ring of entries with a phase, seen from its consumer. */
class Ring {
  head = 0;
  phase = 1;
  readonly guest: Guest;
  readonly address: number;
  readonly depth: number;
  readonly entryBytes: number;

  constructor(guest: Guest, address: number, depth: number, entryBytes: number) {
    this.guest = guest;
    this.address = address;
    this.depth = depth;
    this.entryBytes = entryBytes;
    this.restart();
  }

  restart(): void {
    this.head = 0;
    this.phase = 1;
    this.guest.write(this.address, Buffer.alloc(this.depth * this.entryBytes));
  }

  /** The next entry if `phaseOf` says that it is a new one. */
  take(phaseOf: (entry: Buffer) => number): Buffer | null {
    const entry = this.guest.read(this.address + this.head * this.entryBytes, this.entryBytes);
    if (phaseOf(entry) !== this.phase) return null;
    this.head = (this.head + 1) % this.depth;
    if (this.head === 0) this.phase ^= 1;
    return entry;
  }
}

const eventPhase = (entry: Buffer): number => (entry.readUInt32LE(0) >>> 16) & 1;

/** Whether the computation is a long one; 2 for the longest in the device's own thread. */
type Long = boolean | 2;

/** A queue pair, as `hisi_qp`. */
export class QueuePair {
  readonly driver: Driver;
  readonly number: number;
  readonly depth: number;
  readonly sq: number;
  readonly cq: Ring;
  tail = 0;

  constructor(driver: Driver, number: number, depth: number) {
    this.driver = driver;
    this.number = number;
    this.depth = depth;
    this.sq = driver.allocate(depth * xorSqe.bytes);
    this.cq = new Ring(driver.guest, driver.allocate(depth * cqeBytes), depth, cqeBytes);
  }

  sqeAddress(slot: number): number {
    return this.sq + slot * xorSqe.bytes;
  }

  /** Fills the next slot; `ring` tells the device. */
  fill(source: number, target: number, length: number, key: number, long: Long = false): number {
    const slot = this.tail;
    const sqe = Buffer.alloc(xorSqe.bytes);
    sqe.writeBigUInt64LE(BigInt(source), xorSqe.source);
    sqe.writeBigUInt64LE(BigInt(target), xorSqe.target);
    sqe.writeUInt32LE(length, xorSqe.length);
    sqe.writeUInt8(key, xorSqe.key);
    sqe.writeUInt8(Number(long), xorSqe.long);
    this.driver.guest.write(this.sqeAddress(slot), sqe);
    this.tail = (slot + 1) % this.depth;
    return slot;
  }

  ring(): void {
    this.driver.doorbell(this.number, ring.sq, this.tail);
  }

  submit(source: number, target: number, length: number, key: number, long: Long = false): number {
    const slot = this.fill(source, target, length, key, long);
    this.ring();
    return slot;
  }

  status(slot: number): number {
    return this.driver.guest.read(this.sqeAddress(slot) + xorSqe.status, 4).readUInt32LE(0);
  }

  /** Empties both rings and installs them anew, as `qm_restart`. */
  restart(): void {
    this.tail = 0;
    this.cq.restart();
    this.driver.install(this);
  }

  /** Takes what is completed, and arms the queue, as `qm_poll_req_cb`. */
  poll(arm = true): Completion[] {
    const found: Completion[] = [];
    for (;;) {
      const entry = this.cq.take((each) => each.readUInt16LE(0x0e) & 1);
      if (entry === null) break;
      found.push({ sqHead: entry.readUInt16LE(0x08), sqNumber: entry.readUInt16LE(0x0a) });
      this.driver.doorbell(this.number, ring.cq, this.cq.head, 0);
    }
    if (arm) this.driver.doorbell(this.number, ring.cq, this.cq.head, 1);
    return found;
  }
}

export class Driver {
  readonly vmm: Vmm;
  readonly guest: Guest;
  readonly irqs: readonly Eventfd[];
  #next: number;
  /** How the mailbox is stored. */
  store: Store = "16";
  eq!: Ring;
  aeq!: Ring;
  sqcTable = 0;
  cqcTable = 0;

  constructor(vmm: Vmm, guest: Guest, next = guest.iova) {
    this.vmm = vmm;
    this.guest = guest;
    this.#next = next;
    this.irqs = vmm.wire(PciIrq.msi, 0, 3);
  }

  allocate(bytes: number): number {
    const address = this.#next;
    this.#next += Math.ceil(bytes / 4096) * 4096;
    if (this.#next > this.guest.iova + this.guest.size) throw new Error("no guest memory left");
    return address;
  }

  read(offset: number): number {
    return this.vmm.read(qmBar, offset);
  }

  write(offset: number, value: number): void {
    if (this.vmm.write(qmBar, offset, value) !== 0) throw new Error(`write to ${offset} refused`);
  }

  storeMailbox(head: number, queue: number, address: number | bigint): void {
    const bytes = Buffer.alloc(16);
    bytes.writeUInt16LE(head, 0);
    bytes.writeUInt16LE(queue, 2);
    bytes.writeBigUInt64LE(BigInt(address), 4);
    const size = { "16": 16, "8+8": 8, "4x4": 4 }[this.store];
    for (let done = 0; done < 16; done += size) {
      this.vmm.device.write(qmBar, at.mailbox + done, bytes, done, size);
    }
  }

  /** One mailbox command: 0, or its status; the device is given turns until it is over. */
  command(op: number, queue = 0, address: number | bigint = 0, asGet = false): number {
    this.storeMailbox(op | busy | (asGet ? get : 0), queue, address);
    for (let polls = 0; (this.read(at.mailbox) & busy) !== 0; polls++) {
      if (polls > 1000) throw new Error("the mailbox stays busy");
      if (this.vmm.device.busy) this.vmm.device.work();
    }
    return (this.read(at.mailbox) >>> 9) & 0xf;
  }

  get result(): bigint {
    return this.vmm.bytes(qmBar, at.mailbox + 4, 8).readBigUInt64LE(0);
  }

  doorbell(queue: number, kind: number, index: number, priority = 0, tag = 0): void {
    const bytes = Buffer.alloc(8);
    bytes.writeUInt32LE((queue | (kind << 12) | (tag << 16)) >>> 0, 0);
    bytes.writeUInt32LE((index | (priority << 16)) >>> 0, 4);
    const offset = kind < ring.eq ? at.queueDoorbell : at.eventDoorbell;
    this.vmm.device.write(qmBar, offset, bytes, 0, 8);
  }

  context(bytes: Uint8Array): number {
    const address = this.allocate(bytes.length);
    this.guest.write(address, bytes);
    return address;
  }

  eventContext(address: number, depth: number): number {
    const bytes = Buffer.alloc(32);
    EventContext.set(new DataView(bytes.buffer, bytes.byteOffset, 32), 0, {
      head: 0,
      tail: 0,
      baseLow: address >>> 0,
      baseHigh: Math.floor(address / 2 ** 32),
      dw3: 0,
      reserved: [0, 0],
      dw6: (depth - 1) | (1 << 16),
    });
    return this.context(bytes);
  }

  /** `qm_eq_aeq_ctx_cfg` and what follows it in `__hisi_qm_start`. */
  start(eqDepth = 2048, aeqDepth = 1024, queues = 16): void {
    this.eq = new Ring(this.guest, this.allocate(eqDepth * eqeBytes), eqDepth, eqeBytes);
    this.aeq = new Ring(this.guest, this.allocate(aeqDepth * eqeBytes), aeqDepth, eqeBytes);
    this.sqcTable = this.allocate(32 * queues);
    this.cqcTable = this.allocate(32 * queues);
    const commands: [number, number][] = [
      [command.eqc, this.eventContext(this.eq.address, eqDepth)],
      [command.aeqc, this.eventContext(this.aeq.address, aeqDepth)],
      [command.sqcTable, this.sqcTable],
      [command.cqcTable, this.cqcTable],
    ];
    for (const [op, address] of commands) {
      if (this.command(op, 0, address) !== 0) throw new Error(`mailbox command ${op} failed`);
    }
    this.doorbell(0, ring.aeq, 0);
    this.doorbell(0, ring.eq, 0);
    this.write(at.eqMask, 0);
    this.write(at.aeqMask, 0);
    this.write(at.vfState, 0);
  }

  sqc(queue: number, address: number, depth: number, changes: Partial<typeof noSqc> = {}): number {
    const bytes = Buffer.alloc(32);
    Sqc.set(new DataView(bytes.buffer, bytes.byteOffset, 32), 0, {
      ...noSqc,
      baseLow: address >>> 0,
      baseHigh: Math.floor(address / 2 ** 32),
      dw3: ((depth - 1) & 0xfff) | (7 << 12),
      cqNumber: queue,
      ...changes,
    });
    return this.context(bytes);
  }

  cqc(address: number, depth: number, changes: Partial<typeof noCqc> = {}): number {
    const bytes = Buffer.alloc(32);
    Cqc.set(new DataView(bytes.buffer, bytes.byteOffset, 32), 0, {
      ...noCqc,
      baseLow: address >>> 0,
      baseHigh: Math.floor(address / 2 ** 32),
      dw3: ((depth - 1) & 0xfff) | (4 << 12),
      dw6: 3,
      ...changes,
    });
    return this.context(bytes);
  }

  /** `hisi_qm_create_qp` and `hisi_qm_start_qp`. */
  queue(number: number, depth = 1024, algType = 0): QueuePair {
    const pair = new QueuePair(this, number, depth);
    this.install(pair, algType);
    return pair;
  }

  install(pair: QueuePair, algType = 0): void {
    const { number, depth } = pair;
    const sqc = this.sqc(number, pair.sq, depth, { w13: algType << 8 });
    if (this.command(command.sqc, number, sqc) !== 0) throw new Error("SQC refused");
    const cqc = this.cqc(pair.cq.address, depth);
    if (this.command(command.cqc, number, cqc) !== 0) throw new Error("CQC refused");
  }

  /** Takes the events that wait and rings the EQ's doorbell, as `qm_eq_irq`. */
  events(): Event[] {
    return this.#take(this.eq, ring.eq);
  }

  errors(): Event[] {
    return this.#take(this.aeq, ring.aeq);
  }

  #take(from: Ring, kind: number): Event[] {
    const found: Event[] = [];
    for (let entry = from.take(eventPhase); entry !== null; entry = from.take(eventPhase)) {
      const word = entry.readUInt32LE(0);
      found.push({ queue: word & 0xffff, type: (word >>> 17) & 0xf });
    }
    this.doorbell(0, kind, from.head);
    return found;
  }
}

const noContext = {
  head: 0,
  tail: 0,
  baseLow: 0,
  baseHigh: 0,
  dw3: 0,
  tag: 0,
  reserved: 0,
  pasid: 0,
  w11: 0,
  reserved2: 0,
};
const noSqc = { ...noContext, cqNumber: 0, w13: 0 };
const noCqc = { ...noContext, dw6: 0 };

/** A VF with the exclusive-or engine and what is around it. */
export interface Bench {
  readonly vf: QueueManager;
  readonly vmm: Vmm;
  readonly driver: Driver;
  readonly guest: Guest;
  readonly engine: XorEngine;
  readonly compute: ManualCompute;
  readonly pf: Pf;
}

export function makeBench(
  changes: Partial<QmConfiguration> = {},
  guest = new Guest(base, memoryBytes),
): Bench {
  const engine = new XorEngine();
  const compute = new ManualCompute();
  const pf = new Pf({ queueBase: 0x100 });
  const configuration = { ...defaultConfiguration, queues: 16, ...changes };
  const vf = pf.createVf({ engine, compute, configuration });
  const vmm = new Vmm(vf);
  if (vmm.map(guest) !== 0) throw new Error("no guest memory");
  return { vf, vmm, driver: new Driver(vmm, guest), guest, engine, compute, pf };
}

/** The same VF as a VMM gets it. */
export const carved = (vf: QueueManager): Carve =>
  new Carve(vf, { bar: qmBar, size: guestBarBytes, bits: vf.carvedBits });
