import { errno } from "../../../base/errno.ts";
import type { RegisterBank } from "../../../base/register-bank.ts";
import type { Interrupts } from "../../../device/interrupts.ts";
import {
  depthMin,
  EventContext,
  EventDw6,
  eqeBytes,
  eventContextBytes,
  type Qm,
} from "../../../spec/hisi-qm.ts";
import type { FunctionState } from "./function-state.ts";

const twoTo32 = 2 ** 32;
const dw = { headTail: 0, baseLow: 1, baseHigh: 2, dw6: 6 } as const;
const contextDwords = eventContextBytes / 4;

/** Which of the two event queues: its registers, and what arms its interrupt. */
export interface EventQueueNames {
  readonly context: "EQC" | "AEQC";
  readonly source: "EQ_INT_SOURCE" | "AEQ_INT_SOURCE";
  readonly mask: "EQ_INT_MASK" | "AEQ_INT_MASK";
  /** `FunctionFlags` bit. */
  readonly armed: number;
}

export type QmBank = RegisterBank<(typeof Qm)["registers"]>;

/**
 * The EQ or the AEQ. Its context is the registers in the control half of the BAR and nothing else,
 * so what migrates a function sees the truth and may replace it at any time: head and tail are
 * brought below the depth when they are used. The interrupt is one-shot: a doorbell arms it again.
 */
export class EventQueue {
  readonly #bank: QmBank;
  readonly #state: FunctionState;
  readonly #interrupts: Interrupts;
  readonly #names: EventQueueNames;
  readonly #vector: number;
  /** Counts contexts that were installed. */
  generation = 0;

  /** `vector` is -1 where there is no such interrupt. */
  constructor(
    bank: QmBank,
    state: FunctionState,
    interrupts: Interrupts,
    names: EventQueueNames,
    vector: number,
  ) {
    this.#bank = bank;
    this.#state = state;
    this.#interrupts = interrupts;
    this.#names = names;
    this.#vector = vector;
  }

  #dword(index: number): number {
    return this.#bank.get(this.#names.context, index);
  }

  get #depth(): number {
    return (this.#dword(dw.dw6) & EventDw6.mask.lastSlot) + 1;
  }

  get #head(): number {
    return (this.#dword(dw.headTail) & 0xffff) % this.#depth;
  }

  get #tail(): number {
    return (this.#dword(dw.headTail) >>> 16) % this.#depth;
  }

  #setHeadTail(head: number, tail: number): void {
    this.#bank.set(this.#names.context, tail * 0x10000 + head, dw.headTail);
  }

  /** Was a context installed since the last reset? */
  get installed(): boolean {
    return this.#depth >= depthMin;
  }

  get full(): boolean {
    return (this.#tail + 1) % this.#depth === this.#head;
  }

  /** Guest address of the next entry. */
  get entryAddress(): number {
    const base = this.#dword(dw.baseLow) + this.#dword(dw.baseHigh) * twoTo32;
    return base + this.#tail * eqeBytes;
  }

  /** The next entry's phase bit, where it lies in an entry. */
  get phase(): number {
    return this.#dword(dw.dw6) & EventDw6.mask.phase;
  }

  /** Installs a context, as an empty queue. */
  install(view: DataView): number {
    const { lastSlot } = EventDw6.unpack(view.getUint32(EventContext.offset.dw6, true));
    if (lastSlot + 1 < depthMin) return -errno.EINVAL;
    for (let index = 0; index < contextDwords; index++) {
      this.#bank.set(this.#names.context, view.getUint32(4 * index, true), index);
    }
    this.#setHeadTail(0, 0);
    this.generation += 1;
    this.#rearm();
    return 0;
  }

  /** Writes the context to `view`. */
  dump(view: DataView): void {
    for (let index = 0; index < contextDwords; index++) {
      view.setUint32(4 * index, this.#dword(index), true);
    }
  }

  #rearm(): void {
    this.#bank.set(this.#names.source, 0);
    this.#state.set(this.#names.armed, true);
  }

  /** The guest has seen the entries before `index`; false for an index that there is not. */
  doorbell(index: number): boolean {
    if (!this.installed || index >= this.#depth) return false;
    const tail = this.#tail;
    this.#setHeadTail(index, tail);
    this.#rearm();
    if (index !== tail) this.#signal();
    return true;
  }

  /** The next entry is written. */
  advance(): void {
    const tail = (this.#tail + 1) % this.#depth;
    this.#setHeadTail(this.#head, tail);
    if (tail === 0) {
      const turned = (this.#dword(dw.dw6) ^ EventDw6.mask.phase) >>> 0;
      this.#bank.set(this.#names.context, turned, dw.dw6);
    }
    this.#signal();
  }

  #signal(): void {
    this.#bank.set(this.#names.source, 1);
    this.fire();
  }

  /** Interrupts if there is a reason, and nothing keeps it back. */
  fire(): void {
    const { source, mask, armed } = this.#names;
    if (this.#bank.get(source) === 0 || (this.#bank.get(mask) & 1) !== 0) return;
    if (!this.#state.is(armed)) return;
    this.#state.set(armed, false);
    if (this.#vector >= 0) this.#interrupts.raise(this.#vector);
  }
}
