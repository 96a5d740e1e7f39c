import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { Seal } from "../../src/migration/seal.ts";

describe("a seal", () => {
  it("lets resets be made and counts them, until it is closed", () => {
    const seal = new Seal();
    expect([seal.count(), seal.count(), seal.resets]).toEqual([true, true, 2]);
    expect(seal.close(2)).toBe(true);
    expect([seal.count(), seal.resets]).toEqual([false, 2]);
    seal.open();
    expect([seal.count(), seal.resets]).toEqual([true, 3]);
  });

  it("is not closed by who has not heard of the last reset", () => {
    const seal = new Seal();
    seal.count();
    expect([seal.close(0), seal.close(2), seal.count()]).toEqual([false, false, true]);
  });

  it("is closed when it was before", () => {
    const seal = new Seal();
    expect([seal.close(0), seal.close(0), seal.close(1)]).toEqual([true, true, false]);
  });

  it("counts on when 31 bits are full", () => {
    const word = Int32Array.of(-2);
    const seal = new Seal(word);
    expect(seal.resets).toBe(2 ** 31 - 1);
    expect([seal.close(2 ** 31 - 1), seal.count()]).toEqual([true, false]);
    seal.open();
    expect([seal.count(), seal.resets]).toEqual([true, 0]);
  });

  it("a reset and its closing in two threads at once: one of both comes first", async () => {
    const rounds = 10_000;
    const words = new Int32Array(new SharedArrayBuffer(16));
    const workerData = { words, rounds };
    const thread = new Worker(new URL("./resetting-thread.mjs", import.meta.url), { workerData });
    const seal = new Seal(words.subarray(0, 1));
    let both = 0;
    for (let round = 1; round <= rounds; round++) {
      Atomics.store(words, 0, 0);
      Atomics.store(words, 1, round);
      // Each round a little later than the one before.
      for (let wait = (37 * round) % 2000; wait > 0; wait--) Atomics.load(words, 1);
      const closed = seal.close(0);
      if (Atomics.wait(words, 2, round - 1, 30_000) === "timed-out") throw new Error("no answer");
      if (closed === (Atomics.load(words, 3) === 1)) both += 1;
    }
    expect(both).toBe(0);
    await thread.terminate();
  });
});
