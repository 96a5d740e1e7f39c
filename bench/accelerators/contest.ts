import { performance } from "node:perf_hooks";
import type { Call } from "../../src/guest/call.ts";
import type { QmDriver } from "../../src/guest/qm-driver.ts";
import { OperatorError } from "../operator-error.ts";

/** What is promised of a contest: a share of what node does, or requests a second. */
export interface ContestPromise {
  readonly share?: number;
  readonly perSecond?: number;
}

/** Work that an accelerator and node's own library both do, with the same bytes. */
export interface Contest {
  readonly name: string;
  /** Data of one request. */
  readonly bytes: number;
  readonly promised?: ContestPromise;
  /** Asks the device; the call's value tells whether it was right. */
  submit(): Call<unknown>;
  /** Whether this value of a call is the right one. */
  correct(value: unknown): boolean;
  /** Lets node do it. */
  direct(): void;
}

/** A device with its driver, and what it is asked for. */
export interface Arena {
  readonly qm: QmDriver;
  /** Requests under way at once. */
  readonly depth: number;
  readonly contests: readonly Contest[];
}

/** Work between two looks at the clock. */
const directBatch = 8;

/** Asks once and looks at the answer; the bench itself does not. */
export function verify({ qm }: Arena, contest: Contest): void {
  if (contest.correct(qm.wait(contest.submit()))) return;
  throw new OperatorError(`${contest.name}, ${contest.bytes} bytes: a wrong answer.`);
}

/** Counts work by the time that it took, in milliseconds. */
export type Clock = () => number;

/**
 * Processor time of all of this process's threads: what one CPU has to do, however
 * many others want it at the moment.
 */
export const processorClock: Clock = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
};

/** Requests a second of the device, `depth` of them under way. */
export function deviceRate(
  { qm, depth }: Arena,
  contest: Contest,
  durationMs: number,
  clock: Clock,
): number {
  const calls = Array.from({ length: depth }, () => contest.submit());
  const startMs = performance.now();
  const begun = clock();
  let [count, oldest, nowMs] = [0, 0, startMs];
  while (nowMs - startMs < durationMs) {
    qm.poll();
    for (let call = calls[oldest]; call?.done === true; call = calls[oldest]) {
      if (call.failure !== null) throw call.failure;
      calls[oldest] = contest.submit();
      oldest = (oldest + 1) % depth;
      count += 1;
    }
    nowMs = performance.now();
  }
  const elapsed = clock() - begun;
  for (const call of calls) qm.wait(call);
  return (1000 * count) / elapsed;
}

/** Calls a second of node's own library. */
export function directRate(contest: Contest, durationMs: number, clock: Clock): number {
  const startMs = performance.now();
  const begun = clock();
  let [count, nowMs] = [0, startMs];
  while (nowMs - startMs < durationMs) {
    for (let i = 0; i < directBatch; i++) contest.direct();
    count += directBatch;
    nowMs = performance.now();
  }
  return (1000 * count) / (clock() - begun);
}
