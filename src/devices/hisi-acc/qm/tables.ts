import { errno } from "../../../base/errno.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { contextBytes, Sqc, SqcW13 } from "../../../spec/hisi-qm.ts";
import type { QmBank } from "./event-queue.ts";
import { Fiber } from "./fiber.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import { QueueSet } from "./queue-set.ts";
import type { Requests } from "./requests.ts";
import { FunctionFaults, QueueFlags } from "./state.ts";

const flag = QueueFlags.mask;

/** What the tables need of their function. */
export interface TableParts {
  readonly bank: QmBank;
  readonly memory: GuestMemory;
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly requests: Requests;
}

/**
 * The tables of queue contexts in guest memory. The function keeps all contexts itself; it writes
 * them to the tables when it is asked to, and looks a queue up there that is told to go on and that
 * it does not know: so they get from one device to another in the guest's memory.
 */
export class Tables {
  readonly #parts: TableParts;
  readonly #writing: Fiber;
  readonly #loading: Fiber;
  readonly #loads: QueueSet;
  readonly #out = new Uint8Array(contextBytes);
  readonly #sqc = new Uint8Array(contextBytes);
  readonly #cqc = new Uint8Array(contextBytes);

  constructor(parts: TableParts) {
    this.#parts = parts;
    this.#writing = new Fiber(parts.memory);
    this.#loading = new Fiber(parts.memory);
    this.#loads = new QueueSet(parts.contexts.count);
  }

  /** Would `step` get anywhere? */
  get ready(): boolean {
    const { progress } = this.#parts.requests;
    return this.#writing.ready(progress) || this.#loading.ready(progress);
  }

  step(): void {
    const { progress } = this.#parts.requests;
    if (this.#writing.ready(progress)) this.#writing.step(progress);
    if (this.#loading.ready(progress)) this.#loading.step(progress);
  }

  /** CACHE_WB_START was written. */
  writeBack(): void {
    if (this.#writing.active) return;
    this.#parts.bank.set("CACHE_WB_START", 1);
    this.#parts.bank.set("CACHE_WB_DONE", 0);
    this.#writing.start(this.#writeAll());
    this.step();
  }

  *#writeAll(): Generator<void, number> {
    const { bank, contexts, state } = this.#parts;
    const { sqcTable, cqcTable } = state;
    let result = 0;
    for (const queue of contexts.known()) {
      if (result !== 0) break;
      const at = queue * contextBytes;
      if (sqcTable !== 0 && contexts.is(queue, flag.sq)) {
        this.#copy(contexts.sqcAt(queue));
        if (contexts.is(queue, flag.stopped)) this.#disable();
        result = yield* this.#write(sqcTable + at);
      }
      if (result === 0 && cqcTable !== 0 && contexts.is(queue, flag.cq)) {
        this.#copy(contexts.cqcAt(queue));
        result = yield* this.#write(cqcTable + at);
      }
    }
    bank.set("CACHE_WB_START", 0);
    if (result === 0) bank.set("CACHE_WB_DONE", 1);
    else state.addFault(FunctionFaults.mask.eventMemory);
    return result;
  }

  #copy(at: number): void {
    this.#out.set(this.#parts.contexts.bytes.subarray(at, at + contextBytes));
  }

  #disable(): void {
    const at = Sqc.offset.w13;
    this.#out[at] = (this.#out[at] as number) | SqcW13.mask.disabled;
  }

  *#write(iova: number): Generator<void, number> {
    return yield* this.#writing.write(iova, this.#out, 0, contextBytes);
  }

  /** A queue that is not installed was told to go on. */
  load(queue: number): void {
    const { contexts, state } = this.#parts;
    if (state.sqcTable === 0 || state.cqcTable === 0) return;
    contexts.set(queue, flag.load);
    this.#loads.add(queue);
    this.#startLoading();
    this.step();
  }

  #startLoading(): void {
    if (this.#loads.size > 0 && !this.#loading.active) this.#loading.start(this.#loadAll());
  }

  *#loadAll(): Generator<void, number> {
    const { contexts, state } = this.#parts;
    for (let queue = this.#loads.first; queue >= 0; queue = this.#loads.first) {
      const at = queue * contextBytes;
      let result = yield* this.#loading.read(state.sqcTable + at, this.#sqc, 0, contextBytes);
      if (result === 0) {
        result = yield* this.#loading.read(state.cqcTable + at, this.#cqc, 0, contextBytes);
      }
      if (result === -errno.ECANCELED) continue;
      this.#loads.take();
      // The guest may have installed it meanwhile.
      if (contexts.is(queue, flag.load)) this.#install(queue, result);
    }
    return 0;
  }

  #install(queue: number, result: number): void {
    const { contexts, state, requests } = this.#parts;
    contexts.clear(queue, flag.load);
    if (result < 0) {
      state.addFault(FunctionFaults.mask.eventMemory);
      return;
    }
    // Its guest may have got no further than the one context when it moved.
    contexts.installSq(queue, this.#sqc, true);
    contexts.installCq(queue, this.#cqc, true);
    requests.kick(queue);
  }

  /** Starts anew what the state says was under way, after it was aborted or replaced. */
  recover(): void {
    const { bank, contexts } = this.#parts;
    this.#writing.abort();
    this.#loading.abort();
    this.#loads.clear();
    if (bank.get("CACHE_WB_START") !== 0) this.#writing.start(this.#writeAll());
    for (const queue of contexts.known()) {
      if (contexts.is(queue, flag.load)) this.#loads.add(queue);
    }
    this.#startLoading();
  }
}
