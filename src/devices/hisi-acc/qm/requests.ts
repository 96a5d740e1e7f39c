import { performance } from "node:perf_hooks";
import { assert } from "../../../base/assert.ts";
import { errno } from "../../../base/errno.ts";
import type { Watch } from "../../../device/vfio-device.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { pending } from "../../../memory/transfer.ts";
import { AeqeType, Cqe, cqeBytes } from "../../../spec/hisi-qm.ts";
import type { ComputeService, Engine, Outcome } from "../engine.ts";
import type { Events } from "./events.ts";
import { Fiber } from "./fiber.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import { QueueSet } from "./queue-set.ts";
import { FunctionFaults, FunctionFlags, QueueFlags } from "./state.ts";

/**
 * Requests of one function that are under way at once, each of another queue. Each may have one
 * transfer carried by messages; with those of mailboxes, tables and events there must be no more
 * than whoever carries them takes.
 */
export const inFlightMax = 32;
/** A slice of work ends after so many requests, or so many milliseconds. */
export const sliceRequestsMax = 64;
const sliceMs = 0.5;

const flag = QueueFlags.mask;
const fault = FunctionFaults.mask;
const { paused } = FunctionFlags.mask;
/** Not an errno: the completion queue has no room. */
const cqOverflow = -4096;
const cqeBodyBytes = Cqe.offset.w7;
const phaseBytes = cqeBytes - cqeBodyBytes;

/** Where computations run, and how it is known that some have ended. */
export interface ComputePort extends ComputeService {
  /** Counts answers. */
  readonly settled: number;
  /** What to poll for them. */
  readonly watches: readonly Watch[];
}

/** A request under way. */
class Slot {
  readonly fiber: Fiber;
  readonly sqe: DataView;
  readonly bytes: Uint8Array;
  queue = -1;
  /** Its queue has another context now: it is only waited for. */
  abandoned = false;

  constructor(memory: GuestMemory, sqeBytes: number) {
    this.fiber = new Fiber(memory);
    this.bytes = new Uint8Array(sqeBytes);
    this.sqe = new DataView(this.bytes.buffer);
  }
}

/** What requests need of their function. */
export interface RequestParts {
  readonly memory: GuestMemory;
  readonly engine: Engine;
  readonly compute: ComputePort;
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly events: Events;
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
  readonly #cqe = new Uint8Array(cqeBytes);
  readonly #cqeView = new DataView(this.#cqe.buffer);
  readonly #fence = new Int32Array(1);
  #ended = 0;

  constructor(parts: RequestParts) {
    const { memory, engine, contexts } = parts;
    const { sqeBytes } = engine.description;
    this.#parts = parts;
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

  /** Has the queue a request under way? */
  busy(queue: number): boolean {
    return this.#busy[queue] !== 0;
  }

  /** Would `slice` get anywhere? */
  get hasWork(): boolean {
    return this.#mayBegin || this.#used.some(this.#movable);
  }

  get #mayBegin(): boolean {
    return this.#ready.size > 0 && this.#free.length > 0 && !this.#parts.state.is(paused);
  }

  readonly #movable = ({ fiber, abandoned }: Slot): boolean =>
    abandoned ? !fiber.carrying : fiber.ready(this.progress);

  /** The queue may have requests. */
  kick(queue: number): void {
    if (this.#busy[queue] === 0 && this.#parts.contexts.hasRequests(queue)) this.#ready.add(queue);
  }

  /** One bounded slice. */
  slice(): void {
    const until = performance.now() + sliceMs;
    for (let i = this.#used.length - 1; i >= 0; i--) {
      const slot = this.#used[i] as Slot;
      if (this.#movable(slot)) this.#step(slot, i);
    }
    for (let left = sliceRequestsMax; left > 0 && this.#mayBegin; left--) {
      this.#begin(this.#ready.take());
      if (performance.now() > until) return;
    }
  }

  #begin(queue: number): void {
    const { contexts } = this.#parts;
    if (!contexts.hasRequests(queue)) return;
    const slot = this.#free.pop() as Slot;
    slot.queue = queue;
    slot.abandoned = false;
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
    this.#unwritten.delete(queue);
    contexts.clear(queue, flag.torn);
    contexts.set(queue, flag.stopped);
    const overflow = result === cqOverflow;
    state.addFault(overflow ? fault.cqOverflow : fault.queueMemory);
    events.error(queue, overflow ? AeqeType.cqOverflow : AeqeType.cqeError);
  }

  /** The queue has, or will have, another context: its request under way ends without a trace. */
  abandon(queue: number): void {
    this.#unwritten.delete(queue);
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
    const { contexts, memory, engine, compute } = this.#parts;
    const kept = this.#unwritten.get(queue);
    if (kept !== undefined) return yield* this.#complete(slot, queue, kept);
    const address = contexts.sqeAddress(queue);
    const { length } = slot.bytes;
    let result = memory.read(address, slot.bytes, 0, length);
    if (result === -errno.EINPROGRESS) {
      result = yield* slot.fiber.read(address, slot.bytes, 0, length);
    }
    if (result < 0) return result;
    const outcome = yield* engine.serve(slot.sqe, contexts.algType(queue), slot.fiber, compute);
    if (typeof outcome === "number") return outcome;
    return yield* this.#complete(slot, queue, outcome);
  }

  /** Writes everything that the guest gets to see of a request, and moves the rings on. */
  *#complete(slot: Slot, queue: number, outcome: Outcome): Generator<void, number> {
    const { contexts, memory, events } = this.#parts;
    if (contexts.cqFull(queue)) return cqOverflow;
    for (const write of outcome.writes) {
      let result = memory.write(write.iova, write.bytes, write.at, write.length);
      if (result === -errno.EINPROGRESS) {
        this.#keep(slot, queue, outcome);
        result = yield* slot.fiber.write(write.iova, write.bytes, write.at, write.length);
      }
      if (result < 0) return result;
    }
    const { offset, bytes } = outcome.status;
    assert(offset + bytes.length <= slot.bytes.length, "a status reaches behind its entry");
    const address = contexts.sqeAddress(queue) + offset;
    let result = memory.write(address, bytes, 0, bytes.length);
    if (result === -errno.EINPROGRESS) {
      this.#keep(slot, queue, outcome);
      result = yield* slot.fiber.write(address, bytes, 0, bytes.length);
    }
    if (result === 0) result = this.#writeCqe(queue);
    if (result === -errno.EINPROGRESS) {
      this.#keep(slot, queue, outcome);
      const cqe = this.#cqe.slice();
      result = yield* slot.fiber.write(contexts.cqeAddress(queue), cqe, 0, cqeBytes);
    }
    if (result < 0) return result;
    if (this.#unwritten.delete(queue)) contexts.clear(queue, flag.torn);
    contexts.advance(queue);
    if (contexts.armed(queue)) events.event(queue);
    return 0;
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

  /**
   * The completion in two steps, the word with the phase last: another processor that sees the
   * phase sees the rest. The atomic operation in between keeps both compiler and processor from
   * changing the order.
   */
  #writeCqe(queue: number): number {
    const { contexts, memory } = this.#parts;
    const view = this.#cqeView;
    view.setUint16(Cqe.offset.sqHead, contexts.sqHead(queue), true);
    view.setUint16(Cqe.offset.sqNumber, queue, true);
    view.setUint16(Cqe.offset.w7, contexts.phase(queue), true);
    const address = contexts.cqeAddress(queue);
    const result = memory.write(address, this.#cqe, 0, cqeBodyBytes);
    if (result < 0) return result;
    Atomics.add(this.#fence, 0, 1);
    return memory.write(address + cqeBodyBytes, this.#cqe, cqeBodyBytes, phaseBytes);
  }

  /** Messages were ended: what was under way starts anew. */
  abort(): void {
    for (const slot of this.#used.splice(0)) {
      slot.fiber.abort();
      this.#free.push(slot);
    }
    this.#busy.fill(0);
    this.#ended += 1;
    this.recover();
  }

  /** Looks in the state for queues with requests. */
  recover(): void {
    this.#ready.clear();
    for (let queue = 0; queue < this.#parts.contexts.count; queue++) this.kick(queue);
  }

  /**
   * The state is another one: what was to be written is not known any more. Queues whose request
   * cannot be served again are stopped, with an error that is to be told.
   */
  restored(): void {
    const { contexts, state } = this.#parts;
    this.#unwritten.clear();
    for (let queue = 0; queue < contexts.count; queue++) {
      if (!contexts.is(queue, flag.torn)) continue;
      contexts.clear(queue, flag.torn);
      contexts.set(queue, flag.stopped);
      contexts.setError(queue, AeqeType.cqeError);
      state.addFault(fault.queueMemory);
    }
    this.recover();
  }
}
