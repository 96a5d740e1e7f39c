import { performance } from "node:perf_hooks";

/** Whoever has the lock, has this. */
export type LockToken = symbol;

/**
 * What only one at a time does with a PF. It ends by itself: whoever has it too long has lost it,
 * and what he then gives back is not another's.
 */
export class PfLock {
  readonly #limitMs: number;
  readonly #now: () => number;
  #owner: LockToken | null = null;
  #endMs = 0;

  constructor(limitMs: number, now: () => number = () => performance.now()) {
    this.#limitMs = limitMs;
    this.#now = now;
  }

  get taken(): boolean {
    return this.#owner !== null && this.#now() < this.#endMs;
  }

  /** Null when another one has it. */
  take(): LockToken | null {
    if (this.taken) return null;
    this.#owner = Symbol("owner");
    this.#endMs = this.#now() + this.#limitMs;
    return this.#owner;
  }

  has(token: LockToken): boolean {
    return this.taken && this.#owner === token;
  }

  release(token: LockToken): void {
    if (this.#owner === token) this.#owner = null;
  }
}
