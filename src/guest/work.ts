/** Work whose outcome is known: what a driver is tried with. */
import type { Call } from "./call.ts";
import type { QmDriver } from "./qm-driver.ts";

/** A request under way, and whether its value is the right one once it has ended. */
export interface Trial {
  readonly call: Call<unknown>;
  correct(): boolean;
}

/** Requests of one kind and size. */
export interface Work {
  /** `cbc(aes) encrypt`. */
  readonly name: string;
  /** Data of one request, in bytes. */
  readonly bytes: number;
  start(): Trial;
}

/** A driver and the work that there is for it. */
export interface Workload {
  /** `hisi-sec2`. */
  readonly device: string;
  readonly qm: QmDriver;
  readonly works: readonly Work[];
}

/** A trial that is right when its call gives exactly these bytes. */
export function expectBytes(call: Call<Uint8Array>, expected: Uint8Array): Trial {
  return { call, correct: () => Buffer.compare(call.value, expected) === 0 };
}

/** What came of some work. Times are in milliseconds. */
export interface WorkResult {
  readonly name: string;
  readonly bytes: number;
  readonly requests: number;
  readonly errors: number;
  /** What went wrong first. */
  readonly firstError: string | null;
  readonly elapsedMs: number;
  readonly medianMs: number;
  /** 99 of 100 requests took no longer. */
  readonly p99Ms: number;
}

/** The latency that a share of the requests does not exceed. */
const quantile = (sorted: Float64Array, share: number): number =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))] ?? 0;

/** What is wrong with a trial that has ended; null when nothing is. */
function errorOf(trial: Trial): string | null {
  if (trial.call.failure !== null) return trial.call.failure.message;
  return trial.correct() ? null : "the device's answer is wrong.";
}

/**
 * Does work for a while and verifies every answer. There are always `depth` requests under way, or
 * as many as the queues take; at least so many are done, however short the while is. A FerryError
 * when the device stops answering.
 */
export function doWork(
  qm: QmDriver,
  work: Work,
  { depth, durationMs }: { readonly depth: number; readonly durationMs: number },
): WorkResult {
  const wanted = Math.min(depth, qm.depth);
  const startMs = performance.now();
  const latencies: number[] = [];
  const errors: string[] = [];
  let underWay = Array.from({ length: wanted }, () => work.start());
  while (underWay.length > 0) {
    qm.poll();
    for (const trial of underWay) {
      qm.checkInTime(trial.call);
      if (!trial.call.done) continue;
      latencies.push(trial.call.elapsedMs);
      const error = errorOf(trial);
      if (error !== null) errors.push(error);
    }
    underWay = underWay.filter(({ call }) => !call.done);
    const isOver = performance.now() - startMs >= durationMs;
    while (!isOver && underWay.length < wanted) underWay.push(work.start());
  }
  const sorted = Float64Array.from(latencies).sort();
  return {
    name: work.name,
    bytes: work.bytes,
    requests: latencies.length,
    errors: errors.length,
    firstError: errors[0] ?? null,
    elapsedMs: performance.now() - startMs,
    medianMs: quantile(sorted, 0.5),
    p99Ms: quantile(sorted, 0.99),
  };
}
