import { errno } from "../base/errno.ts";
import type { Phase, Step } from "./driver.ts";
import type { PhaseReport } from "./port.ts";

/** A phase, or its undoing, while it is under way. */
export class PhaseRun {
  readonly #name: string;
  readonly #step: Step;
  readonly #now: () => number;
  readonly #startMs: number;
  readonly #endMs: number;
  #result: number | null = null;
  #elapsedMs = 0;

  constructor(name: string, phase: Phase, undoing: boolean, now: () => number) {
    this.#name = undoing ? `undo ${name}` : name;
    this.#step = undoing ? phase.undo() : phase.run();
    this.#now = now;
    this.#startMs = now();
    this.#endMs = this.#startMs + phase.budgetMs;
  }

  /**
   * Goes on until the driver waits for something. The result, once it has ended: 0, or a negated
   * errno, ETIMEDOUT when the budget is used up.
   */
  step(): number | null {
    if (this.#result !== null) return this.#result;
    const { done, value } = this.#step.next();
    if (done === true) this.#end(value);
    else if (this.#now() >= this.#endMs) this.cancel(-errno.ETIMEDOUT);
    return this.#result;
  }

  /** Cuts it off. */
  cancel(result: number): void {
    if (this.#result !== null) return;
    this.#step.return(result);
    this.#end(result);
  }

  #end(result: number): void {
    this.#result = result;
    this.#elapsedMs = this.#now() - this.#startMs;
  }

  /** How it went; `sinceMs` is when the move began. */
  report(sinceMs: number): PhaseReport {
    return {
      phase: this.#name,
      startMs: this.#startMs - sinceMs,
      elapsedMs: this.#elapsedMs,
      result: this.#result ?? -errno.EINPROGRESS,
    };
  }
}
