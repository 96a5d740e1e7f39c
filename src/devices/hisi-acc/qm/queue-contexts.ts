import { errno } from "../../../base/errno.ts";
import {
  Cqc,
  CqcDw6,
  contextBytes,
  contextDwords,
  cqeBytes,
  cqeShift,
  depthMin,
  QueueDw3,
  QueueW11,
  Sqc,
  SqcW13,
} from "../../../spec/hisi-qm.ts";
import { QueueFlags, QueueRecord } from "./state.ts";

const flag = QueueFlags.mask;
const cqcAt = QueueRecord.offset.cqc;
const at = {
  sqHead: Sqc.offset.head,
  sqTail: Sqc.offset.tail,
  sqBase: Sqc.offset.baseLow,
  sqDw3: Sqc.offset.dw3,
  sqTag: Sqc.offset.tag,
  sqW11: Sqc.offset.w11,
  sqW13: Sqc.offset.w13,
  cqHead: cqcAt + Cqc.offset.head,
  cqTail: cqcAt + Cqc.offset.tail,
  cqBase: cqcAt + Cqc.offset.baseLow,
  cqDw3: cqcAt + Cqc.offset.dw3,
  cqTag: cqcAt + Cqc.offset.tag,
  cqW11: cqcAt + Cqc.offset.w11,
  cqDw6: cqcAt + Cqc.offset.dw6,
  flags: QueueRecord.offset.flags,
} as const;
const twoTo32 = 2 ** 32;

/** Clears what says nothing: a context is to be read elsewhere by who takes nothing else. */
function clean(view: DataView, dwords: readonly number[]): void {
  for (let at = Sqc.offset.dw3; at < contextBytes; at += 4) {
    view.setUint32(at, view.getUint32(at, true) & (dwords[at / 4] as number), true);
  }
}

/**
 * The contexts of all queues, in the state. Heads, tails, depths and shifts of an installed context
 * have been checked; addresses are checked by the guest memory, each time that they are used.
 */
export class QueueContexts {
  readonly count: number;
  readonly bytes: Uint8Array;
  readonly #view: DataView;
  readonly #sqeBytes: number;
  readonly #sqeShift: number;
  /** Requests completed since the device was made, resets and all: for whoever counts along. */
  completed = 0;

  /** `bytes` are `count` records. */
  constructor(bytes: Uint8Array, count: number, sqeBytes: number) {
    this.bytes = bytes;
    this.count = count;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#sqeBytes = sqeBytes;
    this.#sqeShift = Math.log2(sqeBytes);
  }

  #u16(queue: number, offset: number): number {
    return this.#view.getUint16(queue * QueueRecord.size + offset, true);
  }

  #setU16(queue: number, offset: number, value: number): void {
    this.#view.setUint16(queue * QueueRecord.size + offset, value, true);
  }

  #u32(queue: number, offset: number): number {
    return this.#view.getUint32(queue * QueueRecord.size + offset, true);
  }

  #setU32(queue: number, offset: number, value: number): void {
    this.#view.setUint32(queue * QueueRecord.size + offset, value, true);
  }

  #depth(queue: number, dw3At: number): number {
    return (this.#u32(queue, dw3At) & QueueDw3.mask.lastSlot) + 1;
  }

  #base(queue: number, offset: number): number {
    return this.#u32(queue, offset) + this.#u32(queue, offset + 4) * twoTo32;
  }

  /** True when all of these `QueueFlags` are set. */
  is(queue: number, flags: number): boolean {
    return (this.#u32(queue, at.flags) & flags) === flags;
  }

  /** All of its `QueueFlags`. */
  flags(queue: number): number {
    return this.#u32(queue, at.flags);
  }

  set(queue: number, flags: number): void {
    this.#setU32(queue, at.flags, this.#u32(queue, at.flags) | flags);
  }

  clear(queue: number, flags: number): void {
    this.#setU32(queue, at.flags, this.#u32(queue, at.flags) & ~flags);
  }

  /** Notes an error that an AEQE is to tell of. */
  setError(queue: number, type: number): void {
    this.clear(queue, flag.errorType);
    this.set(queue, QueueFlags.pack({ error: true, errorType: type }));
  }

  errorType(queue: number): number {
    return QueueFlags.unpack(this.#u32(queue, at.flags)).errorType;
  }

  /** Are there requests, and may they be served? */
  hasRequests(queue: number): boolean {
    const flags = this.#u32(queue, at.flags);
    const serves = (flags & (flag.sq | flag.cq | flag.stopped)) === (flag.sq | flag.cq);
    return serves && this.sqHead(queue) !== this.#u16(queue, at.sqTail);
  }

  sqHead(queue: number): number {
    return this.#u16(queue, at.sqHead);
  }

  sqDepth(queue: number): number {
    return this.#depth(queue, at.sqDw3);
  }

  sqTag(queue: number): number {
    return this.#u16(queue, at.sqTag);
  }

  algType(queue: number): number {
    return (this.#u16(queue, at.sqW13) & SqcW13.mask.algType) >>> 8;
  }

  /** Guest address of the request at the head. */
  sqeAddress(queue: number): number {
    return this.#base(queue, at.sqBase) + this.sqHead(queue) * this.#sqeBytes;
  }

  /** The guest has filled the slots up to `index`, which is below the depth. */
  setSqTail(queue: number, index: number): void {
    if (index < this.#u16(queue, at.sqTail)) this.#turn(queue, at.sqW11);
    this.#setU16(queue, at.sqTail, index);
  }

  #turn(queue: number, w11At: number): void {
    this.#setU16(queue, w11At, this.#u16(queue, w11At) ^ QueueW11.mask.tailWrap);
  }

  cqDepth(queue: number): number {
    return this.#depth(queue, at.cqDw3);
  }

  cqTag(queue: number): number {
    return this.#u16(queue, at.cqTag);
  }

  /** The guest has seen the completions before `index`, which is below the depth. */
  setCqHead(queue: number, index: number): void {
    this.#setU16(queue, at.cqHead, index);
  }

  cqFull(queue: number): boolean {
    const next = (this.#u16(queue, at.cqTail) + 1) % this.cqDepth(queue);
    return next === this.#u16(queue, at.cqHead);
  }

  cqEmpty(queue: number): boolean {
    return this.#u16(queue, at.cqTail) === this.#u16(queue, at.cqHead);
  }

  /** Guest address of the next completion. */
  cqeAddress(queue: number): number {
    return this.#base(queue, at.cqBase) + this.#u16(queue, at.cqTail) * cqeBytes;
  }

  /** The next completion's phase: 0 or 1. */
  phase(queue: number): number {
    return this.#u32(queue, at.cqDw6) & CqcDw6.mask.phase;
  }

  /** Does the next completion make an event? */
  armed(queue: number): boolean {
    return (this.#u32(queue, at.cqDw6) & CqcDw6.mask.armed) !== 0;
  }

  setArmed(queue: number, armed: boolean): void {
    const others = this.#u32(queue, at.cqDw6) & ~CqcDw6.mask.armed;
    this.#setU32(queue, at.cqDw6, armed ? others | CqcDw6.mask.armed : others);
  }

  /** The request at the head is completed: moves both rings on. */
  advance(queue: number): void {
    this.completed += 1;
    const next = (this.#u16(queue, at.cqTail) + 1) % this.cqDepth(queue);
    this.#setU16(queue, at.cqTail, next);
    if (next === 0) {
      this.#setU32(queue, at.cqDw6, this.#u32(queue, at.cqDw6) ^ CqcDw6.mask.phase);
      this.#turn(queue, at.cqW11);
    }
    this.#setU16(queue, at.sqHead, (this.sqHead(queue) + 1) % this.sqDepth(queue));
  }

  /** Has any queue one of these `QueueFlags`? */
  some(flags: number): boolean {
    for (const queue of this.known()) {
      if ((this.#u32(queue, at.flags) & flags) !== 0) return true;
    }
    return false;
  }

  /** Installs an SQ context from `bytes`, empty unless it `keeps` its head and tail. */
  installSq(queue: number, bytes: Uint8Array, keeps: boolean): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, contextBytes);
    if (!keeps) this.#empty(view, Sqc.offset.w11);
    clean(view, contextDwords.sqc);
    if (!this.#sqFits(queue, view, 0)) return -errno.EINVAL;
    this.bytes.set(bytes.subarray(0, contextBytes), queue * QueueRecord.size);
    this.clear(queue, QueueFlags.all & ~(flag.cq | flag.event));
    this.set(queue, flag.sq);
    return 0;
  }

  /** Installs a CQ context, likewise. */
  installCq(queue: number, bytes: Uint8Array, keeps: boolean): number {
    const view = new DataView(bytes.buffer, bytes.byteOffset, contextBytes);
    if (!keeps) this.#empty(view, Cqc.offset.w11);
    clean(view, contextDwords.cqc);
    if (!this.#cqFits(view, 0)) return -errno.EINVAL;
    this.bytes.set(bytes.subarray(0, contextBytes), queue * QueueRecord.size + cqcAt);
    this.clear(queue, flag.event);
    this.set(queue, flag.cq);
    return 0;
  }

  /** Head and tail lie at the same place in both contexts, as do the words of the wrap bits. */
  #empty(view: DataView, w11At: number): void {
    view.setUint16(Sqc.offset.head, 0, true);
    view.setUint16(Sqc.offset.tail, 0, true);
    view.setUint16(w11At, view.getUint16(w11At, true) & ~QueueW11.mask.tailWrap, true);
  }

  #ringFits(view: DataView, start: number, shift: number): boolean {
    const { lastSlot, entryShift } = QueueDw3.unpack(view.getUint32(start + Sqc.offset.dw3, true));
    const depth = lastSlot + 1;
    const head = view.getUint16(start + Sqc.offset.head, true);
    const tail = view.getUint16(start + Sqc.offset.tail, true);
    return depth >= depthMin && entryShift === shift && head < depth && tail < depth;
  }

  #sqFits(queue: number, view: DataView, start: number): boolean {
    const { disabled } = SqcW13.unpack(view.getUint16(start + Sqc.offset.w13, true));
    const ownCq = view.getUint16(start + Sqc.offset.cqNumber, true) === queue;
    return !disabled && ownCq && this.#ringFits(view, start, this.#sqeShift);
  }

  #cqFits(view: DataView, start: number): boolean {
    return this.#ringFits(view, start, cqeShift);
  }

  #recordFits(queue: number, view: DataView, start: number): boolean {
    const flags = view.getUint32(start + at.flags, true);
    if ((flags & ~QueueFlags.all) !== 0) return false;
    if ((flags & flag.sq) !== 0 && !this.#sqFits(queue, view, start)) return false;
    return (flags & flag.cq) === 0 || this.#cqFits(view, start + cqcAt);
  }

  /** After the state was replaced: does every installed context make sense? */
  fits(): boolean {
    for (let queue = 0; queue < this.count; queue++) {
      if (!this.#recordFits(queue, this.#view, queue * QueueRecord.size)) return false;
    }
    return true;
  }

  /** Replaces all that is known of a queue by a `QueueRecord`. */
  replace(queue: number, record: Uint8Array): number {
    const view = new DataView(record.buffer, record.byteOffset, QueueRecord.size);
    if (!this.#recordFits(queue, view, 0)) return -errno.EINVAL;
    this.bytes.set(record.subarray(0, QueueRecord.size), queue * QueueRecord.size);
    return 0;
  }

  /** All that is known of a queue: a `QueueRecord`. */
  record(queue: number): Uint8Array {
    return this.bytes.subarray(queue * QueueRecord.size, (queue + 1) * QueueRecord.size);
  }

  /** Where in `bytes` a queue's SQ context lies. */
  sqcAt(queue: number): number {
    return queue * QueueRecord.size;
  }

  cqcAt(queue: number): number {
    return queue * QueueRecord.size + cqcAt;
  }

  /** The first queue from this one on that is not as after a reset; `count` when there is none. */
  firstKnown(from: number): number {
    const end = this.count * QueueRecord.size;
    let record = from * QueueRecord.size;
    while (record < end && this.#view.getUint32(record + at.flags, true) === 0) {
      record += QueueRecord.size;
    }
    return Math.min(record / QueueRecord.size, this.count);
  }

  /**
   * The queues that are not as after a reset. They are few, and a guest may stand still while they
   * are looked for.
   */
  *known(): Generator<number> {
    let queue = this.firstKnown(0);
    for (; queue < this.count; queue = this.firstKnown(queue + 1)) yield queue;
  }

  /** The queue is as after a reset. */
  forget(queue: number): void {
    this.bytes.fill(0, queue * QueueRecord.size, (queue + 1) * QueueRecord.size);
  }

  reset(): void {
    this.bytes.fill(0);
  }
}
