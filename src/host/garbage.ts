import { performance } from "node:perf_hooks";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";

/** So much later there may be much again to sweep: a collection comes with some eight moves. */
const sweptMs = 1000;

type Collect = (how: { type: "minor" | "major"; execution: "sync" }) => void;
let collect: Collect | null = null;
let sweptAtMs = Number.NEGATIVE_INFINITY;

function collector(): Collect {
  setFlagsFromString("--expose-gc");
  return runInNewContext("gc") as Collect;
}

/**
 * From here on each thread marks its own heap. V8 marks beside them otherwise, in threads that take
 * the processors from as many devices as leave at once: 32 need half as long again. And a heap that
 * has grown is not let grow as much again before it is looked at: what is hot here allocates
 * nothing, and a host has many devices.
 */
export function collectFrugally(): void {
  setFlagsFromString("--no-concurrent-marking");
  setFlagsFromString("--optimize-for-size");
}

/** Lets go of what was young and is used no more: a fraction of a millisecond. */
export function sweepYoung(): void {
  collect ??= collector();
  collect({ type: "minor", execution: "sync" });
}

/**
 * Marks and sweeps this thread's heap now, when nobody waits. V8 does it when it likes otherwise,
 * for 5 to 10 ms and on all processors: once in some eight moves.
 */
export function sweepAll(): void {
  collect ??= collector();
  collect({ type: "major", execution: "sync" });
  sweptAtMs = performance.now();
}

/** The same, unless it was done just now: many devices may leave a host at once. */
export function sweepSeldom(): void {
  if (performance.now() - sweptAtMs >= sweptMs) sweepAll();
}
