import type { Trial, Workload } from "./work.ts";

/** A guest that is always at work: so many requests under way, every answer verified. */
export class SteadyLoad {
  /** Requests that have ended. */
  operations = 0;
  /** Of them, those with a wrong answer or none. */
  wrong = 0;
  /** What went wrong first; empty when nothing did. */
  firstError = "";
  /** When the last one ended, on the clock of `performance.now`. */
  lastEndMs = 0;
  /** When the first one ended since `mark`; 0 when none has. */
  firstEndMs = 0;
  readonly #workload: Workload;
  readonly #depth: number;
  #underWay: Trial[] = [];
  #next = 0;

  /** `depth` requests at once, or as many as the queues take. */
  constructor(workload: Workload, depth: number) {
    this.#workload = workload;
    this.#depth = Math.min(depth, workload.qm.depth);
  }

  /** Requests that the device was given. */
  get submitted(): number {
    return this.#workload.qm.submitted;
  }

  /** Requests under way. */
  get pending(): number {
    return this.#underWay.length;
  }

  /** Gives the device work, then looks for answers, at most for `patienceMs`: how many came. */
  turn(patienceMs: number): number {
    this.fill();
    return this.collect(patienceMs);
  }

  /** Gives the device as much work as it takes, and looks for nothing. */
  fill(): void {
    const { works, qm } = this.#workload;
    while (this.#underWay.length < this.#depth) {
      const work = works[this.#next++ % works.length];
      if (work !== undefined) this.#underWay.push(work.start());
    }
    qm.ring();
  }

  /** Looks for answers and gives no new work. */
  collect(patienceMs: number): number {
    this.#workload.qm.poll(patienceMs);
    return this.#collect();
  }

  /** From here on the first end is looked for. */
  mark(): void {
    this.firstEndMs = 0;
  }

  #collect(): number {
    const before = this.#underWay.length;
    this.#underWay = this.#underWay.filter((trial) => {
      this.#workload.qm.checkInTime(trial.call);
      if (!trial.call.done) return true;
      this.#judge(trial);
      return false;
    });
    return before - this.#underWay.length;
  }

  #judge({ call, correct }: Trial): void {
    this.operations += 1;
    this.lastEndMs = performance.now();
    this.firstEndMs ||= this.lastEndMs;
    const failure = call.failure?.message ?? (correct() ? "" : "the device's answer is wrong");
    if (failure === "") return;
    this.wrong += 1;
    this.firstError ||= failure;
  }
}
