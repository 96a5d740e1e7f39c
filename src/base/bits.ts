import { assert } from "./assert.ts";

/** One bit (`busy: 13`) or an inclusive range written as in a datasheet (`queue: [31, 16]`). */
export type BitPosition = number | readonly [high: number, low: number];

export type BitFields<T extends Record<string, BitPosition>> = {
  -readonly [K in keyof T]: T[K] extends number ? boolean : number;
};

/** Named bits of one 32-bit word. Made by {@link bits}. */
export interface Bits<T extends Record<string, BitPosition>> {
  /** Name to position, as declared. */
  readonly at: T;
  /** Name to mask in the word, as an unsigned number. */
  readonly mask: { readonly [K in keyof T]: number };
  /** All declared bits. */
  readonly all: number;
  /** The word as named values: a single bit is a boolean, a range a number. */
  unpack(word: number): BitFields<T>;
  /** The word of the named values; what is not named is 0. */
  pack(fields: Partial<BitFields<T>>): number;
  /** The names of the set bits, `name=value` for ranges, unknown bits in hex: `read|write|0x40`. */
  describe(word: number): string;
}

interface Position {
  readonly name: string;
  readonly low: number;
  readonly width: number;
  readonly mask: number;
  readonly single: boolean;
}

function position(name: string, at: BitPosition): Position {
  const single = typeof at === "number";
  const [high, low] = single ? [at, at] : at;
  assert(low >= 0 && high <= 31 && low <= high, `bits ${name}: [${high}, ${low}] is no range`);
  const width = high - low + 1;
  const mask = width === 32 ? 0xffffffff : (((1 << width) - 1) << low) >>> 0;
  return { name, low, width, mask, single };
}

/**
 * Declares the named bits of a 32-bit word; overlapping ranges are refused when the module loads.
 */
export function bits<const T extends Record<string, BitPosition>>(at: T): Bits<T> {
  const positions = Object.entries(at).map(([name, where]) => position(name, where));
  let all = 0;
  for (const { name, mask } of positions) {
    assert((all & mask) === 0, `bits ${name}: overlaps another field`);
    all = (all | mask) >>> 0;
  }
  const value = (word: number, { mask, low }: Position) => ((word & mask) >>> low) >>> 0;
  return {
    at,
    mask: Object.fromEntries(positions.map(({ name, mask }) => [name, mask])) as Bits<T>["mask"],
    all,
    unpack: (word) =>
      Object.fromEntries(
        positions.map((each) => [
          each.name,
          each.single ? value(word, each) === 1 : value(word, each),
        ]),
      ) as BitFields<T>,
    pack(fields) {
      let word = 0;
      for (const each of positions) {
        const field = Number((fields as Record<string, number | boolean>)[each.name] ?? 0);
        assert(field >= 0 && field < 2 ** each.width, `bits ${each.name}: ${field} does not fit`);
        word = (word | (field << each.low)) >>> 0;
      }
      return word;
    },
    describe(word) {
      const parts = positions
        .filter(({ mask }) => (word & mask) !== 0)
        .map((each) => (each.single ? each.name : `${each.name}=${value(word, each)}`));
      const unknown = (word & ~all) >>> 0;
      if (unknown !== 0) parts.push(`0x${unknown.toString(16)}`);
      return parts.length === 0 ? "none" : parts.join("|");
    },
  };
}
