import { assert } from "../../../base/assert.ts";
import { errno } from "../../../base/errno.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { pending } from "../../../memory/transfer.ts";
import { AeqeType } from "../../../spec/hisi-qm.ts";
import type { Engine, GuestWrite, Outcome } from "../engine.ts";
import { Answers, isLong } from "./answers.ts";
import type { ComputePort } from "./compute-port.ts";
import type { Events } from "./events.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import { QueueSet } from "./queue-set.ts";
import { Slot } from "./slot.ts";
import { FunctionFaults, FunctionFlags, QueueFlags } from "./state.ts";

/**
 * Requests of one function that are under way at once, each of another queue. Each may have one
 * transfer carried by messages; with those of mailboxes, tables and events there must be no more
 * than whoever carries them takes.
 */
export const inFlightMax = 32;
/** A slice of work ends after so many new requests, or so many milliseconds. */
export const sliceRequestsMax = 64;
export const sliceMs = 0.5;

const flag = QueueFlags.mask;
const fault = FunctionFaults.mask;
const { paused } = FunctionFlags.mask;
/** Not an errno: the completion queue has no room. */
const cqOverflow = -4096;

/** What requests need of their function. */
export interface RequestParts {
  readonly memory: GuestMemory;
  readonly engine: Engine;
  readonly compute: ComputePort;
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly events: Events;
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number;
}

/**
 * Serves the queues: one request of a queue at a time and in order, the queues in turn. The guest
 * sees nothing of a request until its output, status, completion and event are written, all in one
 * slice; where messages must carry a write, they go one after the other in that order.
 */
export class Requests {
  readonly #parts: RequestParts;
  readonly #ready: QueueSet;
  /** Queues that have a request under way. */
  readonly #busy: Uint8Array;
  readonly #free: Slot[] = [];
  readonly #used: Slot[] = [];
  /** Outcomes that messages were writing when they were ended; they are written anew. */
  readonly #unwritten = new Map<number, Outcome>();
  readonly #answers: Answers;
  #ended = 0;
  /** Which of the requests under way had the last step. */
  #turn = 0;
  #beginsFirst = false;
  #rests = false;

  constructor(parts: RequestParts) {
    const { memory, engine, contexts } = parts;
    const { sqeBytes } = engine.description;
    this.#parts = parts;
    this.#answers = new Answers(memory, contexts);
    this.#ready = new QueueSet(contexts.count);
    this.#busy = new Uint8Array(contexts.count);
    for (let i = 0; i < inFlightMax; i++) this.#free.push(new Slot(memory, sqeBytes));
  }

  /** Counts what a fiber may wait for: requests that ended, answers to computations. */
  get progress(): number {
    return this.#ended + this.#parts.compute.settled;
  }

  /** Something else has happened that a fiber may wait for. */
  noteProgress(): void {
    this.#ended += 1;
  }

  /** Requests under way. */
  get inFlight(): number {
    return this.#used.length;
  }

  /** Do messages write what the guest gets to see of a request? */
  get committing(): boolean {
    return this.#used.some(this.#commits);
  }

  readonly #commits = ({ queue, abandoned }: Slot): boolean =>
    !abandoned && this.#unwritten.has(queue);

  /** Begins nothing more, until it is told to go on or aborted. */
  rest(on: boolean): void {
    this.#rests = on;
  }

  /** Has the queue a request under way? */
  busy(queue: number): boolean {
    return this.#busy[queue] !== 0;
  }

  /** Would `slice` get anywhere? */
  get hasWork(): boolean {
    return this.#mayBegin || this.#used.some(this.#movable);
  }

  get #mayBegin(): boolean {
    const held = this.#rests || this.#parts.state.is(paused);
    return this.#ready.size > 0 && this.#free.length > 0 && !held;
  }

  readonly #movable = ({ fiber, abandoned }: Slot): boolean =>
    abandoned ? !fiber.carrying : fiber.ready(this.progress);

  /** The queue may have requests. */
  kick(queue: number): void {
    if (this.#busy[queue] === 0 && this.#parts.contexts.hasRequests(queue)) this.#ready.add(queue);
  }

  /**
   * One bounded slice. It ends behind the step in which its time is over, so requests under way and
   * new ones come first by turns: neither can keep the others from their time.
   */
  slice(): void {
    const until = this.#parts.now() + sliceMs;
    this.#beginsFirst = !this.#beginsFirst;
    if (this.#beginsFirst) {
      if (this.#beginSome(until)) this.#goOn(until);
    } else if (this.#goOn(until)) {
      this.#beginSome(until);
    }
  }

  /** A step of each request under way, going on where the last slice ended; false: no time left. */
  #goOn(until: number): boolean {
    for (let left = this.#used.length; left > 0; left--) {
      this.#turn =
        (this.#turn > 0 ? Math.min(this.#turn, this.#used.length) : this.#used.length) - 1;
      const slot = this.#used[this.#turn] as Slot;
      if (!this.#movable(slot)) continue;
      this.#step(slot, this.#turn);
      if (this.#parts.now() > until) return false;
    }
    return true;
  }

  /** Begins requests; false: no time left. */
  #beginSome(until: number): boolean {
    for (let left = sliceRequestsMax; left > 0 && this.#mayBegin; left--) {
      this.#begin(this.#ready.take());
      if (this.#parts.now() > until) return false;
    }
    return true;
  }

  #begin(queue: number): void {
    const { contexts } = this.#parts;
    if (!contexts.hasRequests(queue)) return;
    const slot = this.#free.pop() as Slot;
    slot.queue = queue;
    slot.abandoned = false;
    slot.outcome = null;
    slot.fiber.start(this.#serve(slot, queue));
    this.#busy[queue] = 1;
    this.#used.push(slot);
    this.#step(slot, this.#used.length - 1);
  }

  #step(slot: Slot, index: number): void {
    const result = slot.abandoned ? 0 : slot.fiber.step(this.progress);
    if (result === pending) return;
    const last = this.#used.pop() as Slot;
    if (last !== slot) this.#used[index] = last;
    this.#free.push(slot);
    this.#ended += 1;
    if (slot.abandoned) return;
    const { queue } = slot;
    this.#busy[queue] = 0;
    if (result < 0 && result !== -errno.ECANCELED) this.#fail(queue, result);
    else this.kick(queue);
  }

  /** Stops a queue for good: only a new context starts it again. */
  #fail(queue: number, result: number): void {
    const { contexts, state, events } = this.#parts;
    this.#forget(queue);
    contexts.set(queue, flag.stopped);
    const overflow = result === cqOverflow;
    state.addFault(overflow ? fault.cqOverflow : fault.queueMemory);
    events.error(queue, overflow ? AeqeType.cqOverflow : AeqeType.cqeError);
  }

  /** Nothing is half written for the queue. */
  #forget(queue: number): void {
    this.#unwritten.delete(queue);
    this.#parts.contexts.clear(queue, flag.torn | flag.answering);
  }

  /** The queue has, or will have, another context: its request under way ends without a trace. */
  abandon(queue: number): void {
    this.#forget(queue);
    this.noteProgress();
    if (this.#busy[queue] === 0) return;
    this.#busy[queue] = 0;
    for (const slot of this.#used) {
      if (slot.queue !== queue || slot.abandoned) continue;
      slot.fiber.drop();
      slot.abandoned = true;
    }
  }

  *#serve(slot: Slot, queue: number): Generator<void, number> {
    const { contexts, engine, compute } = this.#parts;
    if (contexts.is(queue, flag.answering)) return yield* this.#answerAgain(slot, queue);
    const kept = this.#unwritten.get(queue);
    if (kept !== undefined) return yield* this.#complete(slot, queue, kept);
    const address = contexts.sqeAddress(queue);
    const { length } = slot.bytes;
    const { fiber, bytes } = slot;
    const result =
      fiber.readNow(address, bytes, 0, length) ?? (yield* fiber.read(address, bytes, 0, length));
    if (result < 0) return result;
    const outcome = yield* engine.serve(slot.sqe, contexts.algType(queue), slot.fiber, compute);
    if (typeof outcome === "number") return outcome;
    const { status } = outcome;
    assert(status.offset + status.bytes.length <= length, "a status reaches behind its entry");
    return yield* this.#complete(slot, queue, outcome);
  }

  /** Writes everything that the guest gets to see of a request, and moves the rings on. */
  *#complete(slot: Slot, queue: number, outcome: Outcome): Generator<void, number> {
    if (this.#parts.contexts.cqFull(queue)) return cqOverflow;
    let result = isLong(outcome)
      ? yield* this.#answers.writeLong(slot, outcome)
      : this.#answers.writeOutput(outcome);
    if (result === 0) result = this.#answers.writeEnd(queue, outcome);
    if (result === -errno.EINPROGRESS) {
      this.#keep(slot, queue, outcome);
      result = yield* this.#answers.writeByMessages(slot.fiber, queue, outcome);
    }
    if (result < 0) return result;
    this.#advance(queue, outcome);
    if (slot.outcome !== null) this.#parts.compute.discard((outcome.writes[0] as GuestWrite).bytes);
    return 0;
  }

  /** The message may have been taken, and its completion by the guest: then it seems to be full. */
  *#answerAgain(slot: Slot, queue: number): Generator<void, number> {
    const isTaken = this.#parts.contexts.cqFull(queue);
    const result = isTaken ? 0 : yield* this.#answers.complete(slot.fiber, queue);
    if (result === 0) this.#advance(queue, this.#unwritten.get(queue) ?? null);
    return result;
  }

  /** `outcome` is null when another process has made it. */
  #advance(queue: number, outcome: Outcome | null): void {
    const { contexts, engine, events } = this.#parts;
    if (outcome === null || this.#unwritten.has(queue)) this.#forget(queue);
    contexts.advance(queue);
    if (outcome !== null) engine.completed?.(outcome);
    if (contexts.armed(queue)) events.event(queue);
  }

  /**
   * Messages begin to write an outcome. Another process cannot go on with that; it can serve the
   * request again unless what is being written is what would have to be read.
   */
  #keep(slot: Slot, queue: number, outcome: Outcome): void {
    if (this.#unwritten.has(queue)) return;
    this.#unwritten.set(queue, outcome);
    const over = outcome.writes.some(({ iova, length }) => slot.fiber.hasRead(iova, length));
    if (over) this.#parts.contexts.set(queue, flag.torn);
  }

  /** Nobody knows how much of the output is written, maybe over its own input: writes all of it. */
  #finish(slot: Slot, outcome: Outcome): void {
    const { queue } = slot;
    const result = this.#answers.writeOutput(outcome) || this.#answers.writeEnd(queue, outcome);
    if (result === -errno.EINPROGRESS) this.#keep(slot, queue, outcome);
    else if (result < 0) this.#fail(queue, result);
    else this.#advance(queue, outcome);
  }

  /** Messages were ended: what was under way starts anew. */
  abort(): void {
    for (const slot of this.#used.splice(0)) {
      if (slot.outcome !== null && !slot.abandoned) this.#finish(slot, slot.outcome);
      slot.fiber.abort();
      this.#free.push(slot);
    }
    this.#busy.fill(0);
    this.#ended += 1;
    this.#rests = false;
    this.recover();
  }

  /** Looks in the state for queues with requests. */
  recover(): void {
    this.#ready.clear();
    for (const queue of this.#parts.contexts.known()) this.kick(queue);
  }

  /**
   * The state is another one: what was to be written is not known any more. Queues whose request
   * cannot be served again are stopped, with an error that is to be told.
   */
  restored(): void {
    const { contexts, state } = this.#parts;
    this.#unwritten.clear();
    for (const queue of contexts.known()) {
      if (!contexts.is(queue, flag.torn) || contexts.is(queue, flag.answering)) continue;
      contexts.clear(queue, flag.torn);
      contexts.set(queue, flag.stopped);
      contexts.setError(queue, AeqeType.cqeError);
      state.addFault(fault.queueMemory);
    }
    this.recover();
  }
}
