import { errno } from "../../base/errno.ts";
import type { Watch } from "../../device/vfio-device.ts";
import { type Job, unshared } from "./compute-mail.ts";
import { operations, perform } from "./compute-operations.ts";
import { ComputeThreads } from "./compute-threads.ts";
import type { Computation, ComputeService } from "./engine.ts";

/** What costs no more than this is computed in the device's thread. Nanoseconds. */
export const inlineCostMax = 2_000_000;

/** Compute workers of one device. */
export const workersMax = 2;

/**
 * Jobs that are under way at once; others wait their turn. Two for each worker, so that none waits
 * for its next one. Jobs whose requests were aborted count until they end.
 */
export const outstandingMax = 2 * workersMax;

/** The longest operation takes a fraction of a second; this is for a machine that has stalled. */
export const jobTimeoutMs = 20_000;

const noWatches: readonly Watch[] = [];
const unanswered = Symbol("unanswered");

/** A computation that a request waits for. */
class Ticket {
  readonly job: Job;
  result: unknown = unanswered;

  constructor(id: number, { operation, input }: Computation) {
    this.job = { id, operation, input: unshared(input) };
  }
}

/** What may differ from the limits above. */
export interface ComputeOptions {
  readonly workers?: number;
  readonly outstanding?: number;
  readonly jobTimeoutMs?: number;
  /** URL of a module that exports `operations`, for the workers instead of the devices' own. */
  readonly module?: string;
}

/**
 * Where the engines of one device compute. Threads are started when the first long computation
 * comes. Answers are fetched without the event loop, which the device's thread never enters: an
 * eventfd says that there are some.
 *
 * A long computation's result is what its operation gave, or a negated errno: EIO when its worker
 * died or took too long, EAGAIN when no thread could be started, ECANCELED after `abort`. The byte
 * arrays of its input are handed over and gone afterwards.
 */
export class ComputePool implements ComputeService {
  /**
   * Counts what has come to an end. A request that has yielded, and waits for no guest memory, need
   * not be resumed before this has changed.
   */
  settled = 0;
  readonly #options: Required<Omit<ComputeOptions, "module">> & { readonly module: string | null };
  readonly #waiting: Ticket[] = [];
  /** By job id. Ids never come again, so a late answer finds nobody. */
  readonly #sent = new Map<number, Ticket>();
  /** Jobs that were sent and not answered yet, aborted ones too. */
  #outstanding = 0;
  #nextId = 1;
  #threads: ComputeThreads | null = null;
  #offered = noWatches;

  constructor(options: ComputeOptions = {}) {
    this.#options = {
      workers: options.workers ?? workersMax,
      outstanding: options.outstanding ?? outstandingMax,
      jobTimeoutMs: options.jobTimeoutMs ?? jobTimeoutMs,
      module: options.module ?? null,
    };
  }

  /** What to poll: an eventfd while a request waits for an answer, nothing otherwise. */
  get watches(): readonly Watch[] {
    return this.#sent.size + this.#waiting.length > 0 ? this.#offered : noWatches;
  }

  *compute(cost: number, computation: Computation): Generator<void, unknown> {
    if (cost <= inlineCostMax) return perform(operations, computation);
    const ticket = new Ticket(this.#nextId++, computation);
    this.#waiting.push(ticket);
    try {
      this.receive();
      while (ticket.result === unanswered) yield;
      return ticket.result;
    } finally {
      this.#forget(ticket);
    }
  }

  /**
   * Takes bytes that nobody needs any more. To free many of them takes milliseconds, so that is
   * left to another thread.
   */
  discard(bytes: Uint8Array): void {
    if (bytes.byteLength === bytes.buffer.byteLength) this.#threads?.discard(bytes);
  }

  /** Takes the answers that have come, and sends what waited for that. */
  receive(): void {
    this.#threads?.drain();
    for (let left = this.#outstanding; left > 0; left--) {
      const answer = this.#threads?.take() ?? null;
      if (answer === null) break;
      this.#outstanding -= 1;
      this.#settle(this.#sent.get(answer.id), answer.result);
    }
    this.#send();
  }

  #settle(ticket: Ticket | undefined, result: unknown): void {
    this.settled += 1;
    if (ticket === undefined) return;
    ticket.result = result;
    this.#sent.delete(ticket.job.id);
  }

  #send(): void {
    while (this.#outstanding < this.#options.outstanding) {
      const ticket = this.#waiting.shift();
      if (ticket === undefined) return;
      const threads = this.#start();
      if (threads === null) {
        this.#settle(ticket, -errno.EAGAIN);
        continue;
      }
      this.#sent.set(ticket.job.id, ticket);
      this.#outstanding += 1;
      threads.send(ticket.job);
    }
  }

  #start(): ComputeThreads | null {
    if (this.#threads !== null) return this.#threads;
    const { workers, jobTimeoutMs, module } = this.#options;
    this.#threads = ComputeThreads.start({ workers, jobTimeoutMs, module });
    const fd = this.#threads?.fd ?? -1;
    this.#offered = fd < 0 ? noWatches : [{ fd, ready: () => this.receive() }];
    return this.#threads;
  }

  #forget(ticket: Ticket): void {
    this.#sent.delete(ticket.job.id);
    const at = this.#waiting.indexOf(ticket);
    if (at >= 0) this.#waiting.splice(at, 1);
  }

  /**
   * Gives up every computation that a request waits for. What is under way in a worker goes on to
   * its end, and its answer is dropped.
   */
  abort(): void {
    for (const ticket of [...this.#sent.values(), ...this.#waiting]) {
      this.#settle(ticket, -errno.ECANCELED);
    }
    this.#waiting.length = 0;
  }

  /** Ends the threads; the next long computation starts new ones. */
  close(): void {
    this.abort();
    this.#threads?.close();
    this.#threads = null;
    this.#offered = noWatches;
    this.#outstanding = 0;
  }
}
