import { FerryError } from "../base/errors.ts";
import {
  Cqc,
  CqcDw6,
  Cqe,
  cqeBytes,
  cqeShift,
  DoorbellCommand,
  DoorbellPriority,
  MailboxCommand,
  QueueDw3,
  Sqc,
  SqcW13,
} from "../spec/hisi-qm.ts";
import { Call, type Decode } from "./call.ts";
import type { DmaArea, DmaBuffer } from "./dma-area.ts";
import type { QmDriver } from "./qm-driver.ts";
import { Ring } from "./ring.ts";

const two32 = 2 ** 32;
const phaseAt = Cqe.offset.w7;
const phaseMask = 1;

/**
 * Writes a request to the entry at `at` of `sqe`, which is all zeros, and what it points to into
 * `memory`. Gives back how to read the answer.
 */
export type Encode<T> = (sqe: DataView, at: number, memory: DmaArea) => Decode<T>;

/** What a queue pair is made of. */
export interface QueueOptions {
  /** What its engine may be asked for; each engine has its own numbers. */
  readonly algType: number;
  readonly sqeBytes: number;
  /** Where in it the driver's own number of the request is: `QmDriver.submitted`. */
  readonly tagAt: number;
  /** Requests that may be under way at once. */
  readonly depth: number;
  /** Memory for the data of one request, in bytes. */
  readonly requestBytes: number;
}

/** One entry of the submission queue, with the memory of its request. */
interface Slot {
  readonly memory: DmaArea;
  /** The request that is under way, and how to read its answer; null when the slot is free. */
  call: Call<unknown> | null;
  decode: Decode<unknown> | null;
}

/** A submission queue and the completion queue of the same number. */
export class QueuePair {
  readonly number: number;
  /** How many requests are under way. */
  used = 0;
  readonly #driver: QmDriver;
  readonly #options: QueueOptions;
  readonly #sq: DmaBuffer;
  readonly #cq: Ring;
  readonly #sqc: DmaBuffer;
  readonly #cqc: DmaBuffer;
  readonly #slots: Slot[];
  #tail = 0;
  /** The tail that the device knows. */
  #rung = 0;
  #head = 0;

  /** One slot of a ring stays free: full and empty would look the same. */
  constructor(driver: QmDriver, number: number, options: QueueOptions) {
    const { depth, sqeBytes, requestBytes } = options;
    const { memory } = driver;
    const slots = depth + 1;
    this.number = number;
    this.#driver = driver;
    this.#options = options;
    this.#sq = memory.allocate(slots * sqeBytes);
    this.#cq = new Ring(memory, slots, cqeBytes, phaseAt, phaseMask);
    this.#sqc = memory.allocate(Sqc.size);
    this.#cqc = memory.allocate(Cqc.size);
    this.#slots = Array.from({ length: slots }, () => ({
      ...{ memory: memory.part(requestBytes), call: null, decode: null },
    }));
  }

  /** Tells the device of both rings, empty. What was under way is lost. */
  install(): void {
    for (const slot of this.#slots) {
      slot.call?.abandon(`queue ${this.number} was started anew.`);
      slot.call = slot.decode = null;
    }
    this.used = this.#head = this.#tail = this.#rung = 0;
    this.#cq.restart();
    this.#writeContexts();
    const { number: queue } = this;
    this.#driver.mailbox.run(MailboxCommand.sqc, { queue, address: this.#sqc.iova });
    this.#driver.mailbox.run(MailboxCommand.cqc, { queue, address: this.#cqc.iova });
  }

  #writeContexts(): void {
    const { view } = this.#driver.memory.ram;
    const { algType, sqeBytes } = this.#options;
    const lastSlot = this.#slots.length - 1;
    const none = { head: 0, tail: 0, tag: 0, reserved: 0, pasid: 0, w11: 0, reserved2: 0 };
    const base = ({ iova }: DmaBuffer) => ({
      ...{ baseLow: iova % two32, baseHigh: Math.floor(iova / two32) },
    });
    Sqc.set(view, this.#sqc.at, {
      ...none,
      ...base(this.#sq),
      dw3: QueueDw3.pack({ lastSlot, entryShift: Math.log2(sqeBytes) }),
      cqNumber: this.number,
      w13: SqcW13.pack({ algType }),
    });
    Cqc.set(view, this.#cqc.at, {
      ...none,
      ...base(this.#cq.buffer),
      dw3: QueueDw3.pack({ lastSlot, entryShift: cqeShift }),
      dw6: CqcDw6.pack({ phase: true, armed: this.#driver.interrupts }),
    });
  }

  /** Requests that may be under way at once. */
  get depth(): number {
    return this.#options.depth;
  }

  get isFull(): boolean {
    return this.used === this.depth;
  }

  /** Gives the device a request; a FerryError when the queue is full. */
  submit<T>(encode: Encode<T>): Call<T> {
    if (this.isFull) throw new FerryError("queue-full", `queue ${this.number} is full.`);
    const { bytes, view } = this.#driver.memory.ram;
    const { sqeBytes, tagAt } = this.#options;
    const slot = this.#slots[this.#tail] as Slot;
    const at = this.#sq.at + this.#tail * sqeBytes;
    slot.memory.clear();
    bytes.fill(0, at, at + sqeBytes);
    slot.decode = encode(view, at, slot.memory);
    view.setUint32(at + tagAt, this.#driver.submitted++, true);
    const call = new Call<T>();
    slot.call = call;
    this.used += 1;
    this.#tail = this.#next(this.#tail);
    if (!this.#driver.batches) this.ring();
    return call;
  }

  #next(index: number): number {
    return index + 1 === this.#slots.length ? 0 : index + 1;
  }

  /** Tells the device of the requests that it has not been told of. */
  ring(): void {
    if (this.#rung === this.#tail) return;
    this.#rung = this.#tail;
    this.#driver.doorbell(this.number, DoorbellCommand.sq, this.#tail);
  }

  /** Ends the calls that the device has completed and asks for the next interrupt: how many. */
  poll(): number {
    let count = 0;
    for (let at = this.#cq.take(); at >= 0; at = this.#cq.take()) {
      this.#complete(at);
      count += 1;
    }
    if (count > 0 || this.#driver.interrupts) {
      const priority = this.#driver.interrupts ? DoorbellPriority.arm : 0;
      this.#driver.doorbell(this.number, DoorbellCommand.cq, this.#cq.head, priority);
    }
    return count;
  }

  /** A queue's requests end in the order in which they were submitted. */
  #complete(at: number): void {
    const { view } = this.#driver.memory.ram;
    const sqHead = view.getUint16(at + Cqe.offset.sqHead, true);
    const sqNumber = view.getUint16(at + Cqe.offset.sqNumber, true);
    const slot = this.#slots[this.#head] as Slot;
    const { call, decode } = slot;
    const expects = sqNumber === this.number && sqHead === this.#head;
    if (!expects || call === null || decode === null) {
      const found = `slot ${sqHead} of queue ${sqNumber}`;
      const expected = `slot ${this.#head} of queue ${this.number}`;
      throw new FerryError("device-error", `the device completed ${found}, not ${expected}.`);
    }
    slot.call = slot.decode = null;
    call.finish(decode, view, this.#sq.at + sqHead * this.#options.sqeBytes);
    this.used -= 1;
    this.#head = this.#next(this.#head);
  }
}
