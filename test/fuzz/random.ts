/** Randomness from one number, so that a failure can be run again. */
import { randomInt } from "node:crypto";

/** `FUZZ_SEED` of the environment, or a fresh one; every fuzzing test names it. */
export const seed = Number(process.env["FUZZ_SEED"] ?? randomInt(2 ** 31));

/** `FUZZ_RUNS` of the environment, or what a test usually does. */
export const runs = (usual: number): number => Number(process.env["FUZZ_RUNS"] ?? usual);

const edges = [1, 8, 16, 32, 256, 1024, 4096, 65_536, 2 ** 20, 2 ** 31, 2 ** 32 - 2];

/** Integers from a 32-bit counter, stirred well: neighbouring seeds have nothing in common. */
export class Random {
  #state: number;

  constructor(from: number) {
    this.#state = from >>> 0;
  }

  u32(): number {
    this.#state = (this.#state + 0x6d2b_79f5) >>> 0;
    let x = this.#state;
    x = Math.imul(x ^ (x >>> 15), x | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return (x ^ (x >>> 14)) >>> 0;
  }

  /** 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.u32() / 2 ** 32) * limit);
  }

  /** `least` to `most`, both included. */
  between(least: number, most: number): number {
    return least + this.below(most - least + 1);
  }

  /** True once in `times`. */
  oneIn(times: number): boolean {
    return this.below(times) === 0;
  }

  pick<T>(choices: readonly T[]): T {
    return choices[this.below(choices.length)] as T;
  }

  bytes(length: number): Uint8Array {
    return Uint8Array.from({ length }, () => this.u32() >>> 24);
  }

  /** Numbers that programs get wrong, among any others. */
  number32(): number {
    return this.oneIn(3) ? this.u32() : this.pick(edges) + this.pick([-1, 0, 0, 1]);
  }
}

/** A failure with the seed that finds it again. */
function named(thrown: unknown, own: number): Error {
  const message = thrown instanceof Error ? (thrown.stack ?? thrown.message) : String(thrown);
  return new Error(`FUZZ_SEED=${own} FUZZ_RUNS=1 finds it again: ${message}`);
}

/** Runs `once` so often, each time with a randomness of its own; a failure names its seed. */
export function fuzz(times: number, once: (random: Random) => void, from = seed): void {
  for (let run = 0; run < times; run++) {
    const own = (from + run) >>> 0;
    try {
      once(new Random(own));
    } catch (thrown) {
      throw named(thrown, own);
    }
  }
}

/** The same with a turn of the event loop behind each run, in which a server's log is read. */
export async function fuzzInTurns(
  times: number,
  once: (random: Random) => void,
  from = seed,
): Promise<void> {
  for (let run = 0; run < times; run++) {
    fuzz(1, once, (from + run) >>> 0);
    await new Promise((resolve) => setImmediate(resolve));
  }
}
