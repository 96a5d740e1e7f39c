import type { Budgets } from "./budgets.ts";
import type { Clock } from "./clock.ts";
import type { Tell } from "./events.ts";
import type { Pace } from "./pace.ts";

/** Tells now and then how far a stream is. */
export class Progress {
  readonly #clock: Clock;
  readonly #everyMs: number;
  readonly #tell: Tell;
  readonly #pace: Pace;
  #toldMs: number;

  constructor(clock: Clock, { progressMs }: Budgets, tell: Tell, pace: Pace) {
    this.#clock = clock;
    this.#everyMs = progressMs;
    this.#tell = tell;
    this.#pace = pace;
    this.#toldMs = clock.now();
  }

  /** A piece has passed, after so many rounds. */
  passes(rounds: number): void {
    const now = this.#clock.now();
    if (now - this.#toldMs < this.#everyMs) return;
    this.#toldMs = now;
    const { bytes, rate } = this.#pace;
    this.#tell({ kind: "progress", bytes, rounds, dirtyBytes: 0, rate });
  }
}
