import type { GuestMemory } from "../memory/guest-memory.ts";
import { Direction, pending, Transfer } from "../memory/transfer.ts";

/**
 * One piece of DMA as a step that can be taken again: a slice of work that finds it `pending`
 * returns, and the next slice asks the same again until there is an answer. After `abort` it starts
 * anew.
 */
export class DmaStep {
  readonly #memory: GuestMemory;
  readonly #transfer = new Transfer();
  #started = false;

  constructor(memory: GuestMemory) {
    this.#memory = memory;
  }

  /** True while an answer is awaited. */
  get waiting(): boolean {
    return this.#started && this.#transfer.status === pending;
  }

  /** Reads guest memory into `bytes` from `at`: `pending`, 0 or a negated errno. */
  read(iova: number, bytes: Uint8Array, at: number, length: number): number {
    return this.#take(Direction.read, iova, bytes, at, length);
  }

  /** Writes guest memory, likewise. */
  write(iova: number, bytes: Uint8Array, at: number, length: number): number {
    return this.#take(Direction.write, iova, bytes, at, length);
  }

  #take(direction: Direction, iova: number, bytes: Uint8Array, at: number, length: number): number {
    if (!this.#started) {
      this.#memory.start(this.#transfer.set(direction, iova, bytes, at, length));
      this.#started = true;
    }
    if (this.#transfer.status !== pending) this.#started = false;
    return this.#transfer.status;
  }

  /** Forgets what was started; whoever carries it has ended it. */
  abort(): void {
    this.#started = false;
  }
}
