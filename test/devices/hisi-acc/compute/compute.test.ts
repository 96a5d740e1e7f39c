/** Computations, as a device's thread drives them: it polls and never enters its event loop. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { ComputePool, inlineCostMax } from "../../../../src/devices/hisi-acc/compute.ts";
import type { Computation } from "../../../../src/devices/hisi-acc/engine.ts";
import { compressOperation } from "../../../../src/devices/hisi-acc/zip/operations.ts";
import { POLLIN } from "../../../../src/sys/constants.ts";
import { PollSet } from "../../../../src/sys/poll.ts";

const module = new URL("./operations.mjs", import.meta.url).href;
const long = inlineCostMax + 1;
const patienceMs = 20_000;

const bytes = (...values: number[]) => Uint8Array.from(values);
const double = (): Computation => ({ operation: "double", input: { bytes: bytes(1, 2, 3) } });

/** Waits for what the pool offers to be polled, as a session does; false when nothing came. */
function poll(pool: ComputePool, timeoutMs = patienceMs): boolean {
  const set = new PollSet(1);
  const [watch] = pool.watches;
  if (watch === undefined) return false;
  set.add(watch.fd, POLLIN);
  if (set.wait(timeoutMs) !== 1) return false;
  watch.ready();
  return true;
}

/** Runs a computation to its end. */
function finish(pool: ComputePool, running: Generator<void, unknown>): unknown {
  for (let turns = 0; turns < 100; turns++) {
    const { settled } = pool;
    const { done, value } = running.next();
    if (done) return value;
    if (pool.settled === settled && !poll(pool)) throw new Error("no answer came");
  }
  throw new Error("it goes on for ever");
}

const run = (pool: ComputePool, computation: Computation) =>
  finish(pool, pool.compute(long, computation));

describe("a compute pool", () => {
  let pool: ComputePool;

  beforeEach(() => {
    pool = new ComputePool({ module, workers: 2, outstanding: 3 });
  });
  afterEach(() => pool.close());

  it("computes cheap things at once, without a thread", () => {
    const input = { requestType: 1, source: bytes(7, 7, 7), windowBits: 11, outputMax: 100 };
    const running = pool.compute(inlineCostMax, { operation: compressOperation, input });
    const { done, value } = running.next();
    expect(done).toBe(true);
    expect(value).toMatchObject({ consumed: 3 });
    expect(input.source.length).toBe(3);
    expect(pool.watches).toEqual([]);
  });

  it("computes long things in a worker and says so through an eventfd", () => {
    const running = pool.compute(long, double());
    expect(running.next()).toEqual({ done: false, value: undefined });
    expect(pool.watches).toHaveLength(1);
    expect(running.next().done).toBe(false);
    expect(pool.settled).toBe(0);
    expect(poll(pool)).toBe(true);
    expect(pool.settled).toBe(1);
    expect(running.next()).toEqual({ done: true, value: { bytes: bytes(2, 4, 6) } });
    expect(pool.watches).toEqual([]);
  });

  it("hands input over and copies what shares its buffer", () => {
    const own = bytes(1, 2, 3, 4);
    const shared = bytes(9, 1, 2, 3, 9).subarray(1, 4);
    expect(run(pool, { operation: "part", input: { bytes: own } })).toEqual({ bytes: bytes(2, 3) });
    expect(run(pool, { operation: "double", input: { bytes: shared } })).toEqual({
      bytes: bytes(2, 4, 6),
    });
    expect(own.length).toBe(0);
    expect(shared).toEqual(bytes(1, 2, 3));
  });

  it("keeps no more under way than it may, and serves the others in their order", () => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const held = () => pool.compute(long, { operation: "until", input: { words: gate } });
    const running = [held(), held(), held(), pool.compute(long, double()), held()];
    for (const each of running) expect(each.next().done).toBe(false);
    expect(poll(pool, 50)).toBe(false);
    gate[0] = 5;
    Atomics.notify(gate, 0);
    const word = { word: 5 };
    const doubled = { bytes: bytes(2, 4, 6) };
    expect(running.map((each) => finish(pool, each))).toEqual([word, word, word, doubled, word]);
  });

  it.each(["fail", "exit", "exhaust"])("survives a worker that ends by %s", (operation) => {
    expect(run(pool, { operation, input: {} })).toBe(-errno.EIO);
    expect(run(pool, double())).toEqual({ bytes: bytes(2, 4, 6) });
  });

  it("answers those that wait behind a worker that dies", () => {
    const lone = new ComputePool({ module, workers: 1, outstanding: 2 });
    const dying = lone.compute(long, { operation: "exit", input: {} });
    const next = lone.compute(long, double());
    const last = lone.compute(long, double());
    for (const each of [dying, next, last]) expect(each.next().done).toBe(false);
    expect(finish(lone, dying)).toBe(-errno.EIO);
    expect(finish(lone, next)).toEqual({ bytes: bytes(2, 4, 6) });
    expect(finish(lone, last)).toEqual({ bytes: bytes(2, 4, 6) });
    lone.close();
  });

  it("gives up a computation that does not end, with its worker", () => {
    const impatient = new ComputePool({ module, workers: 1, outstanding: 1, jobTimeoutMs: 1000 });
    expect(run(impatient, { operation: "spin", input: {} })).toBe(-errno.EIO);
    // On a busy machine the next worker may take longer than that to start.
    let result: unknown = -errno.EIO;
    for (let tries = 0; tries < 20 && result === -errno.EIO; tries++) {
      result = run(impatient, double());
    }
    expect(result).toEqual({ bytes: bytes(2, 4, 6) });
    impatient.close();
  });

  it("answers with a failure when a worker cannot load its operations", () => {
    const broken = new ComputePool({ module: `${module}-missing` });
    expect(run(broken, double())).toBe(-errno.EIO);
    expect(run(broken, double())).toBe(-errno.EIO);
    broken.close();
  });

  it("drops the late answer to a request that was aborted, which can run again", () => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const aborted = pool.compute(long, { operation: "until", input: { words: gate } });
    aborted.next();
    aborted.return(undefined);
    expect(pool.watches).toEqual([]);
    const again = pool.compute(long, double());
    expect(again.next().done).toBe(false);
    gate[0] = 1;
    Atomics.notify(gate, 0);
    expect(finish(pool, again)).toEqual({ bytes: bytes(2, 4, 6) });
  });

  it("counts what was aborted until it ends", () => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    for (let i = 0; i < 3; i++) {
      const running = pool.compute(long, { operation: "until", input: { words: gate } });
      running.next();
      running.return(undefined);
    }
    const waiting = pool.compute(long, double());
    expect(waiting.next().done).toBe(false);
    expect(poll(pool, 50)).toBe(false);
    gate[0] = 1;
    Atomics.notify(gate, 0);
    expect(finish(pool, waiting)).toEqual({ bytes: bytes(2, 4, 6) });
  });

  it("aborts all at once; what it has sent and what waits is cancelled", () => {
    const running = Array.from({ length: 5 }, () => pool.compute(long, double()));
    for (const each of running) each.next();
    pool.abort();
    const { settled } = pool;
    expect(settled).toBe(5);
    expect(pool.watches).toEqual([]);
    for (const each of running) {
      expect(each.next()).toEqual({ done: true, value: -errno.ECANCELED });
    }
    expect(run(pool, double())).toEqual({ bytes: bytes(2, 4, 6) });
  });

  it("works in a thread that never enters its event loop, and ends with it", async () => {
    const worker = new Worker(new URL("./device-thread.mjs", import.meta.url));
    const [answer] = await once(worker, "message");
    expect(answer).toEqual({ status: 0x0e, consumed: 0, output: new Uint8Array(0) });
    expect(await once(worker, "exit")).toEqual([0]);
  });

  it("starts anew after it was closed", () => {
    expect(run(pool, double())).toEqual({ bytes: bytes(2, 4, 6) });
    const interrupted = pool.compute(long, { operation: "sleep", input: { ms: 10 } });
    interrupted.next();
    pool.close();
    expect(interrupted.next()).toEqual({ done: true, value: -errno.ECANCELED });
    expect(run(pool, double())).toEqual({ bytes: bytes(2, 4, 6) });
  });
});
