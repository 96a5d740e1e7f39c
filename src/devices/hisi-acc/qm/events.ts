import { errno } from "../../../base/errno.ts";
import { DmaStep } from "../../../device/dma-step.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { pending } from "../../../memory/transfer.ts";
import { Aeqe, AeqeType, eqeBytes } from "../../../spec/hisi-qm.ts";
import type { EventQueue } from "./event-queue.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import { QueueSet } from "./queue-set.ts";
import { FunctionFaults, FunctionFlags, QueueFlags } from "./state.ts";

const flag = QueueFlags.mask;
const fault = FunctionFaults.mask;
const { eqOverflow, eqOverflowTold } = FunctionFlags.mask;
/** Stands for the EQ's overflow among the queues that have an error to tell. */
const none = -1;

/**
 * Entries of the EQ and the AEQ that are to be written. They are flags in the state until they are:
 * one event and one error a queue, so there can be no more of them than queues.
 */
export class Events {
  readonly #dma: DmaStep;
  readonly #contexts: QueueContexts;
  readonly #state: FunctionState;
  readonly #eq: EventQueue;
  readonly #aeq: EventQueue;
  readonly #events: QueueSet;
  readonly #errors: QueueSet;
  readonly #entry = new Uint8Array(eqeBytes);
  readonly #view = new DataView(this.#entry.buffer);
  /** What a message is writing: to which ring, for which queue. */
  #target: EventQueue | null = null;
  #queue = none;
  #generation = 0;

  constructor(
    memory: GuestMemory,
    contexts: QueueContexts,
    state: FunctionState,
    eq: EventQueue,
    aeq: EventQueue,
  ) {
    this.#dma = new DmaStep(memory);
    this.#contexts = contexts;
    this.#state = state;
    this.#eq = eq;
    this.#aeq = aeq;
    this.#events = new QueueSet(contexts.count);
    this.#errors = new QueueSet(contexts.count);
  }

  /** A queue has completions and the guest wants to know. */
  event(queue: number): void {
    this.#contexts.setArmed(queue, false);
    this.#contexts.set(queue, flag.event);
    this.#events.add(queue);
    this.flush();
  }

  /** A queue has stopped because of an error of this `AeqeType`. */
  error(queue: number, type: number): void {
    this.#contexts.setError(queue, type);
    this.#errors.add(queue);
    this.flush();
  }

  get #waiting(): boolean {
    const some = this.#events.size > 0 || this.#errors.size > 0;
    return some || this.#state.is(eqOverflow);
  }

  /** Would `flush` get anywhere? */
  get ready(): boolean {
    return !this.#dma.waiting && (this.#target !== null || this.#waiting);
  }

  /** Writes what is to be written, until a message has to carry it. */
  flush(): void {
    while (!this.#dma.waiting) {
      if (this.#target === null && !this.#choose()) return;
      const target = this.#target as EventQueue | null;
      if (target === null) continue;
      const result = this.#dma.write(target.entryAddress, this.#entry, 0, eqeBytes);
      if (result === pending) {
        this.#tell();
        return;
      }
      this.#target = null;
      // Cancelled, or for a ring that is not the same any more: it is still to be written.
      const moved = this.#generation !== target.generation;
      if (!moved && result !== -errno.ECANCELED) this.#written(target, result);
    }
  }

  /** A message has begun to write the entry in hand. */
  #tell(): void {
    if (this.#queue !== none) this.#contexts.set(this.#queue, flag.telling);
  }

  /** Does a message write an entry? */
  get committing(): boolean {
    return this.#dma.waiting;
  }

  /** Takes the next thing to write up; false when there is none. Errors go first. */
  #choose(): boolean {
    const failed = this.#errors.first;
    const isTold = failed >= 0 && this.#contexts.is(failed, flag.telling);
    if (!isTold && this.#state.is(eqOverflow)) {
      this.#prepare(this.#aeq, none, Aeqe.pack({ type: AeqeType.eqOverflow }));
      return true;
    }
    if (failed >= 0) {
      if (!this.#contexts.is(failed, flag.error)) this.#errors.take();
      else {
        const type = this.#contexts.errorType(failed);
        this.#prepare(this.#aeq, failed, Aeqe.pack({ queue: failed, type }));
      }
      return true;
    }
    const queue = this.#events.first;
    if (queue < 0) return false;
    if (this.#contexts.is(queue, flag.event)) this.#prepare(this.#eq, queue, queue);
    else this.#events.take();
    return true;
  }

  #prepare(target: EventQueue, queue: number, entry: number): void {
    this.#queue = queue;
    // A message may have written it before, and the guest taken it: then it seems to be full.
    if (target.full && queue !== none && this.#contexts.is(queue, flag.telling)) {
      this.#written(target, 0);
      return;
    }
    if (!target.installed || target.full) {
      this.#lost(target, target.installed ? fault.aeqOverflow : 0);
      return;
    }
    this.#target = target;
    this.#generation = target.generation;
    this.#view.setUint32(0, entry | target.phase, true);
  }

  #written(target: EventQueue, result: number): void {
    if (result < 0) {
      this.#state.addFault(fault.eventMemory);
      this.#lost(target, 0);
      return;
    }
    this.#done(target);
    if (target === this.#eq) this.#state.set(eqOverflowTold, false);
    target.advance();
  }

  /** The entry in hand is dealt with. */
  #done(target: EventQueue): void {
    if (target === this.#eq) {
      this.#events.take();
      this.#contexts.clear(this.#queue, flag.event | flag.telling);
    } else if (this.#queue === none) {
      this.#state.set(eqOverflow, false);
    } else {
      this.#errors.take();
      this.#contexts.clear(this.#queue, flag.error | flag.telling);
    }
  }

  /**
   * There is no place for the entry in hand. An event's queue stays armed, so that the next
   * completion tries again; that the EQ overflows is told once until it has taken an event.
   */
  #lost(target: EventQueue, aeqFault: number): void {
    const queue = this.#queue;
    this.#done(target);
    if (target === this.#aeq) {
      this.#state.addFault(aeqFault);
      return;
    }
    this.#contexts.setArmed(queue, true);
    if (!target.installed || this.#state.is(eqOverflowTold)) return;
    this.#state.addFault(fault.eqOverflow);
    this.#state.set(eqOverflow | eqOverflowTold, true);
  }

  /** An EQ was installed: its overflow is worth telling again. */
  eqInstalled(): void {
    this.#state.set(eqOverflow | eqOverflowTold, false);
  }

  /**
   * Looks in the state for what is to be written, after it was aborted or replaced. What a message
   * was writing comes first, in the place where it was: the guest may have taken it.
   */
  recover(): void {
    this.#dma.abort();
    this.#target = null;
    this.#events.clear();
    this.#errors.clear();
    this.#add(flag.telling);
    this.#add(0);
  }

  /** Adds the queues that have something to tell, and these flags. */
  #add(flags: number): void {
    for (const queue of this.#contexts.known()) {
      if (this.#contexts.is(queue, flag.event | flags)) this.#events.add(queue);
      if (this.#contexts.is(queue, flag.error | flags)) this.#errors.add(queue);
    }
  }
}
