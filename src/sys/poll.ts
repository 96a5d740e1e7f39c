import { Arena } from "./arena.ts";
import * as libc from "./libc.ts";

const entryBytes = 8;

/** A set of descriptors to wait on, at fixed places; a place with descriptor -1 is skipped. */
export class PollSet {
  readonly capacity: number;
  readonly #arena: Arena;
  #count = 0;

  constructor(capacity: number) {
    this.capacity = capacity;
    this.#arena = new Arena(capacity * entryBytes);
  }

  get count(): number {
    return this.#count;
  }

  clear(): void {
    this.#count = 0;
  }

  /** Adds a descriptor and returns its place, or -1 when the set is full. */
  add(fd: number, events: number): number {
    if (this.#count === this.capacity) return -1;
    const at = this.#count * entryBytes;
    this.#arena.view.setInt32(at, fd, true);
    this.#arena.view.setUint32(at + 4, events, true);
    return this.#count++;
  }

  /** Waits until something is ready: how many are, 0 after `timeoutMs`, or a negated errno. */
  wait(timeoutMs: number): number {
    return libc.poll(this.#arena.address, this.#count, timeoutMs);
  }

  /** The same without blocking the calling thread. */
  waitAsync(timeoutMs: number): Promise<number> {
    return libc.pollAsync(this.#arena.address, this.#count, timeoutMs);
  }

  /** Gives its memory back; nobody may be waiting on it, nor uses it again. */
  free(): void {
    this.#arena.free();
  }

  /** What became ready at a place, as `POLL*` bits. */
  ready(place: number): number {
    return this.#arena.view.getUint16(place * entryBytes + 6, true);
  }
}
