import { type Clock, sleepBy } from "../src/migration/hosts/clock.ts";

interface Timer {
  readonly atMs: number;
  readonly ring: () => void;
}

/** Milliseconds since 1970 when every simulation begins. */
const epochMs = 1_700_000_000_000;

/** Time that passes only when nobody has anything to do: it then leaps to the next timer. */
export class SimClock implements Clock {
  #nowMs = 0;
  /** The next one last; of those at the same time, the one that was set first. */
  readonly #timers: Timer[] = [];

  now(): number {
    return this.#nowMs;
  }

  wall(): number {
    return epochMs + this.#nowMs;
  }

  after(ms: number, act: () => void): () => void {
    const timer = { atMs: this.#nowMs + ms, ring: act };
    const timers = this.#timers;
    let at = timers.length;
    while (at > 0 && (timers[at - 1] as Timer).atMs <= timer.atMs) at -= 1;
    timers.splice(at, 0, timer);
    return () => {
      const place = timers.indexOf(timer);
      if (place >= 0) timers.splice(place, 1);
    };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepBy(this, ms, signal);
  }

  /** Leaps to the next timer and rings it; false when there is none. */
  leap(): boolean {
    const next = this.#timers.pop();
    if (next === undefined) return false;
    this.#nowMs = next.atMs;
    next.ring();
    return true;
  }
}
