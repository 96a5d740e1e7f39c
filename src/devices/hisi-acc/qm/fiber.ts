import { assert } from "../../../base/assert.ts";
import { errno } from "../../../base/errno.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { Direction, pending, Transfer } from "../../../memory/transfer.ts";
import type { GuestReader } from "../engine.ts";

/** Reads by messages that a fiber remembers; one that reads more counts as having read anything. */
const carriedReadsMax = 64;

/** Bytes that one step moves at most: who needs more takes turns with everything else. */
export const stepBytesMax = 1 << 19;

/** Up to here a loop over the bytes is faster than a view of them and a copy. */
const loopBytes = 32;

/** Before any progress. */
const never = -1;

/**
 * Work as a generator that is taken up slice by slice. It yields while a message carries its DMA,
 * or until the device has made progress elsewhere: `progress` counts that. Nothing of it is state:
 * an aborted fiber's work starts anew.
 */
export class Fiber implements GuestReader {
  readonly #memory: GuestMemory;
  readonly #transfer = new Transfer();
  readonly #carriedReads: number[] = [];
  #run: Generator<void, number> | null = null;
  #seen = never;
  /** Bytes that the step may still move. */
  #bytesLeft = 0;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** True from `start` until it has ended. */
  get active(): boolean {
    return this.#run !== null;
  }

  /** True while a message carries its DMA. */
  get carrying(): boolean {
    return this.#transfer.status === pending;
  }

  /** Begins with work that `step` does. */
  start(run: Generator<void, number>): void {
    assert(this.#run === null, "a fiber is started that has not ended");
    this.#run = run;
    this.#seen = never;
    this.#carriedReads.length = 0;
  }

  /** Would a step get anywhere? */
  ready(progress: number): boolean {
    return this.#run !== null && this.#seen !== progress && !this.carrying;
  }

  /** Goes on until it ends or yields: `pending`, 0, or a negated errno. */
  step(progress: number): number {
    assert(this.#run !== null, "a fiber goes on that has ended");
    this.#bytesLeft = stepBytesMax;
    const { done, value } = this.#run.next();
    if (done === true) {
      this.#run = null;
      return value;
    }
    const waits = !this.carrying && this.#bytesLeft > 0;
    this.#seen = waits ? progress : never;
    return pending;
  }

  /** Forgets the work. What a message carries goes on until its answer. */
  drop(): void {
    this.#run?.return(-errno.ECANCELED);
    this.#run = null;
  }

  /** The same, after whoever carries messages has ended all of them. */
  abort(): void {
    this.drop();
    this.#transfer.status = -errno.ECANCELED;
  }

  /** Ends the step: the next one goes on here. */
  *pause(): Generator<void, void> {
    this.#bytesLeft = 0;
    yield;
  }

  /** As `GuestReader.readNow`. */
  readNow(iova: number, bytes: Uint8Array, at: number, length: number): number | null {
    if (length > this.#bytesLeft) return null;
    if (length <= loopBytes && this.#readShort(iova, bytes, at, length)) return 0;
    const result = this.#memory.read(iova, bytes, at, length);
    if (result === -errno.EINPROGRESS) return null;
    this.#bytesLeft -= length;
    return result;
  }

  /** Descriptors, keys and the like; false when they do not lie in one window. */
  #readShort(iova: number, bytes: Uint8Array, at: number, length: number): boolean {
    const cursor = this.#memory.resolve(iova, length, false);
    if (cursor === null) return false;
    const { bytes: source, at: from } = cursor;
    for (let i = 0; i < length; i++) bytes[at + i] = source[from + i] as number;
    return true;
  }

  /** As `GuestReader.read`. */
  *read(iova: number, bytes: Uint8Array, at: number, length: number): Generator<void, number> {
    for (let done = 0; done < length; ) {
      if (this.#bytesLeft === 0) yield;
      const part = Math.min(length - done, this.#bytesLeft);
      const result = this.#memory.read(iova + done, bytes, at + done, part);
      if (result === -errno.EINPROGRESS) {
        return yield* this.#carryRead(iova + done, bytes, at + done, length - done);
      }
      if (result < 0) return result;
      this.#bytesLeft -= part;
      done += part;
    }
    return 0;
  }

  *#carryRead(
    iova: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): Generator<void, number> {
    if (this.#carriedReads.length < 2 * carriedReadsMax) this.#carriedReads.push(iova, length);
    return yield* this.#carry(Direction.read, iova, bytes, at, length);
  }

  /** Writes guest memory, likewise. */
  *write(iova: number, bytes: Uint8Array, at: number, length: number): Generator<void, number> {
    const result = this.#memory.write(iova, bytes, at, length);
    if (result !== -errno.EINPROGRESS) return result;
    return yield* this.#carry(Direction.write, iova, bytes, at, length);
  }

  *#carry(
    direction: Direction,
    iova: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): Generator<void, number> {
    const transfer = this.#transfer.set(direction, iova, bytes, at, length);
    this.#memory.start(transfer);
    while (this.carrying) yield;
    return transfer.status;
  }

  /** May something that messages have read since the start lie in this range? */
  hasRead(iova: number, length: number): boolean {
    const reads = this.#carriedReads;
    if (reads.length >= 2 * carriedReadsMax) return true;
    for (let i = 0; i < reads.length; i += 2) {
      const start = reads[i] as number;
      if (start < iova + length && iova < start + (reads[i + 1] as number)) return true;
    }
    return false;
  }
}
