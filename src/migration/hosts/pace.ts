import type { Clock } from "./clock.ts";

/** How far a sender may run ahead of its rate before it is held back, in milliseconds. */
const slackMs = 20;
/** The rate is that of about this long. */
const windowMs = 200;

/** Counts bytes, tells their rate, and holds a sender back to a bandwidth. */
export class Pace {
  readonly #clock: Clock;
  readonly #bytesPerSecond: number;
  /** When what was sent so far is due at the bandwidth. */
  #dueMs: number;
  #sinceMs: number;
  #since = 0;
  #rate = 0;
  bytes = 0;

  /** `bytesPerSecond` is the most that is sent in a second; 0 for as much as there is. */
  constructor(clock: Clock, bytesPerSecond: number) {
    this.#clock = clock;
    this.#bytesPerSecond = bytesPerSecond;
    this.#dueMs = this.#sinceMs = clock.now();
  }

  /** Bytes a second; 0 while nothing was counted. */
  get rate(): number {
    this.#measure(1);
    return this.#rate;
  }

  #measure(spanMs: number): void {
    const now = this.#clock.now();
    if (now - this.#sinceMs < spanMs || this.#since === 0) return;
    this.#rate = (this.#since * 1000) / (now - this.#sinceMs);
    this.#sinceMs = now;
    this.#since = 0;
  }

  count(bytes: number): void {
    this.bytes += bytes;
    this.#since += bytes;
    this.#measure(windowMs);
  }

  /** Waits while more was counted than the bandwidth allows. */
  async hold(signal: AbortSignal): Promise<void> {
    if (this.#bytesPerSecond === 0) return;
    const now = this.#clock.now();
    this.#dueMs = Math.max(this.#dueMs, now - slackMs);
    if (this.#dueMs > now + slackMs) await this.#clock.sleep(this.#dueMs - now, signal);
  }

  /** Counts bytes against the bandwidth. */
  spend(bytes: number): void {
    this.count(bytes);
    if (this.#bytesPerSecond > 0) this.#dueMs += (bytes * 1000) / this.#bytesPerSecond;
  }
}
