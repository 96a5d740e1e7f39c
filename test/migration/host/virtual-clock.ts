import { type Clock, sleepBy } from "../../../src/migration/hosts/clock.ts";

/** Turns in which nobody has to be woken before the wait is hopeless. */
const idleTurnsMax = 20;

interface Timer {
  readonly atMs: number;
  readonly ring: () => void;
}

/** Time that passes when nothing else happens: whoever sleeps longest is woken last. */
export class VirtualClock implements Clock {
  #now = 0;
  #timers: Timer[] = [];

  now(): number {
    return this.#now;
  }

  wall(): number {
    return 1_700_000_000_000 + this.#now;
  }

  after(ms: number, act: () => void): () => void {
    const leave = (): void => {
      this.#timers = this.#timers.filter((each) => each !== timer);
    };
    const ring = (): void => {
      leave();
      act();
    };
    const timer = { atMs: this.#now + ms, ring };
    this.#timers.push(timer);
    return leave;
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepBy(this, ms, signal);
  }

  /** Lets time pass until `work` is done; fails when it is not done by `limitMs`. */
  async until<T>(work: Promise<T>, limitMs = 10_000_000): Promise<T> {
    let settled = false;
    const settle = (): void => {
      settled = true;
    };
    work.then(settle, settle);
    const endMs = this.#now + limitMs;
    for (let idle = 0; idle < idleTurnsMax; ) {
      await new Promise((resolve) => setImmediate(resolve));
      if (settled) return await work;
      idle = this.#step(endMs) ? 0 : idle + 1;
    }
    throw new Error("nothing happens any more");
  }

  /** Lets `ms` pass. */
  async pass(ms: number): Promise<void> {
    await this.until(this.sleep(ms));
  }

  /** False when nobody sleeps, or for too long. */
  #step(endMs: number): boolean {
    const [next] = this.#timers.toSorted((a, b) => a.atMs - b.atMs);
    if (next === undefined || next.atMs > endMs) return false;
    this.#now = next.atMs;
    next.ring();
    return true;
  }
}
