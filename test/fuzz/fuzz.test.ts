import { describe, expect, it } from "vitest";
import { describeMessage } from "../../src/wire/describe.ts";
import { Frame } from "../../src/wire/framer.ts";
import { parseVersion } from "../../src/wire/negotiate.ts";
import type { makeFramer, Receiving } from "./framer-model.ts";
import { fuzz, Random, runs, seed } from "./random.ts";
import { fuzzDescribe, fuzzDescriptors, fuzzFramer, fuzzVersion } from "./subjects.ts";

describe(`with FUZZ_SEED=${seed}`, () => {
  it("the framer cuts any stream as the plain rule does", () => {
    fuzz(runs(2000), (random) => fuzzFramer(random));
  });

  it("the framer neither loses a descriptor nor gives it out twice", () => {
    fuzz(runs(2000), (random) => fuzzDescriptors(random));
  });

  it("any VERSION is refused or understood", () => {
    fuzz(runs(5000), (random) => fuzzVersion(random, parseVersion));
  });

  it("any message becomes one line", () => {
    fuzz(runs(5000), (random) => fuzzDescribe(random, describeMessage));
  });
});

describe("the fuzzer itself", () => {
  it("does the same again with the same seed, and something else with another", () => {
    const first = new Random(7);
    const second = new Random(7);
    const numbers = Array.from({ length: 100 }, () => first.u32());
    expect(Array.from({ length: 100 }, () => second.u32())).toEqual(numbers);
    expect(new Random(8).u32()).not.toBe(numbers[0]);
    expect(new Set(numbers).size).toBe(100);
  });

  it("names the seed that finds a failure again", () => {
    const failing = () => {
      throw new Error("planted");
    };
    expect(() => fuzz(1, failing)).toThrow(`FUZZ_SEED=${seed} FUZZ_RUNS=1 finds it again`);
  });

  /** What a failure says; the seed of the planted ones is always the same. */
  const found = "finds it again";
  type Made = ReturnType<typeof makeFramer>;
  const planted = ({ bytes, framer }: Made, change: Partial<Receiving>) => {
    const real = {
      get at() {
        return framer.at;
      },
      get size() {
        return framer.size;
      },
      get end() {
        return framer.end;
      },
      room: () => framer.room(),
      received: (count: number) => framer.received(count),
      attach: (fds: readonly number[]) => framer.attach(fds),
      next: () => framer.next(),
      takeFds: () => framer.takeFds(),
      takeAllFds: () => framer.takeAllFds(),
    };
    return { bytes, framer: Object.defineProperties(real, descriptorsOf(change)) };
  };
  const descriptorsOf = (change: Partial<Receiving>) => Object.getOwnPropertyDescriptors(change);

  /** Mistakes that a framer could have, each of which the fuzzer must find. */
  const mistakes: Record<string, (made: Made) => ReturnType<typeof planted>> = {
    "a byte too many in a message": (made) =>
      planted(made, {
        get size() {
          return made.framer.size + (made.framer.size % 5 === 3 ? 1 : 0);
        },
      }),
    "a message one byte behind where it is": (made) =>
      planted(made, {
        get at() {
          return made.framer.at + (made.framer.size === 17 ? 1 : 0);
        },
      }),
    "a message too large taken for one too small": (made) =>
      planted(made, {
        next() {
          const frame = made.framer.next();
          return frame === Frame.tooLarge ? Frame.tooSmall : frame;
        },
      }),
    "descriptors kept for the next message": (made) => {
      let kept: readonly number[] = [];
      return planted(made, {
        takeFds() {
          const given = kept;
          kept = made.framer.takeFds();
          return given;
        },
      });
    },
    "descriptors lost when there are several": (made) =>
      planted(made, { takeFds: () => made.framer.takeFds().slice(0, 1) }),
  };

  it.each(Object.entries(mistakes))("finds %s", (_, wrap) => {
    expect(() => fuzz(500, (random) => fuzzFramer(random, wrap), 1)).toThrow(found);
  });

  it("finds descriptors that nobody closes", () => {
    const wrap = (made: Made) => planted(made, { attach: () => true });
    expect(() => fuzz(500, (random) => fuzzDescriptors(random, wrap), 1)).toThrow(found);
  });

  it("finds a decoder that throws, or that lets a limit through", () => {
    const throwing = (payload: Uint8Array) => {
      if (payload.length === 11) throw new RangeError("planted");
      return parseVersion(payload);
    };
    const lax = (payload: Uint8Array) => {
      const parsed = parseVersion(payload);
      if (typeof parsed === "number" || parsed.limits.maxMsgFds < 1000) return parsed;
      return { ...parsed, limits: { ...parsed.limits, maxMsgFds: 5000 } };
    };
    for (const parse of [throwing, lax]) {
      expect(() => fuzz(20_000, (random) => fuzzVersion(random, parse), 1)).toThrow(found);
    }
  });

  it("finds a description over two lines", () => {
    const broken: typeof describeMessage = (way, bytes, fds) =>
      describeMessage(way, bytes, fds) + (bytes[2] === 9 ? "\n" : "");
    expect(() => fuzz(500, (random) => fuzzDescribe(random, broken), 1)).toThrow(found);
  });
});
