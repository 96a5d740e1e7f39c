import { assert } from "./assert.ts";
import { compiledOr, identifier } from "./compiled.ts";

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

/** A word's bits by their names, either walked one by one or compiled. */
export type WordCodec<T extends Record<string, BitPosition>> = Pick<Bits<T>, "unpack" | "pack">;

/** Where one name's bits are. */
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
  assert(identifier.test(name), `bits ${name}: not an identifier`);
  assert(low >= 0 && high <= 31 && low <= high, `bits ${name}: [${high}, ${low}] is no range`);
  const width = high - low + 1;
  const mask = width === 32 ? 0xffffffff : (((1 << width) - 1) << low) >>> 0;
  return { name, low, width, mask, single };
}

const positionsOf = (at: Record<string, BitPosition>): Position[] =>
  Object.entries(at).map(([name, where]) => position(name, where));

const bitsOf = (word: number, { mask, low }: Position): number => (word & mask) >>> low;

/** Ends the program: a value of our own that has no room. */
function checkRoom(name: string, value: number, end: number): void {
  assert(value >= 0 && value < end, `bits ${name}: ${value} does not fit`);
}

/** The plain codec: walks the table at every call. It is the meaning that the compiled one has. */
export function walkedWord<T extends Record<string, BitPosition>>(at: T): WordCodec<T> {
  const positions = positionsOf(at);
  return {
    unpack: (word) =>
      Object.fromEntries(
        positions.map((each) => {
          const value = bitsOf(word, each);
          return [each.name, each.single ? value === 1 : value];
        }),
      ) as BitFields<T>,
    pack(fields) {
      let word = 0;
      for (const { name, low, width } of positions) {
        const value = Number((fields as Record<string, number | boolean>)[name] ?? 0);
        checkRoom(name, value, 2 ** width);
        word |= value << low;
      }
      return word >>> 0;
    },
  };
}

/** The table as straight-line code, as a structure's; throws where code generation is off. */
export function compiledWord<T extends Record<string, BitPosition>>(at: T): WordCodec<T> {
  const positions = positionsOf(at);
  const values = positions.map(({ name, mask, low, single }) =>
    single ? `${name}: (word & ${mask}) !== 0` : `${name}: (word & ${mask}) >>> ${low}`,
  );
  const words = positions.map(({ name, low, width }) => {
    const end = 2 ** width;
    const check = `if (!(value >= 0 && value < ${end})) checkRoom("${name}", value, ${end});`;
    return `value = +(fields.${name} ?? 0); ${check} word |= value << ${low};`;
  });
  const pack = `let word = 0, value = 0; ${words.join(" ")} return word >>> 0;`;
  return {
    unpack: new Function("word", `return { ${values.join(", ")} };`) as Bits<T>["unpack"],
    pack: new Function("checkRoom", `return (fields) => { ${pack} };`)(checkRoom),
  };
}

/**
 * Declares the named bits of a 32-bit word; overlapping ranges are refused when the module loads.
 */
export function bits<const T extends Record<string, BitPosition>>(at: T): Bits<T> {
  const positions = positionsOf(at);
  let all = 0;
  for (const { name, mask } of positions) {
    assert((all & mask) === 0, `bits ${name}: overlaps another field`);
    all = (all | mask) >>> 0;
  }
  const codec = compiledOr(
    () => compiledWord(at),
    () => walkedWord(at),
  );
  return {
    at,
    mask: Object.fromEntries(positions.map(({ name, mask }) => [name, mask])) as Bits<T>["mask"],
    all,
    ...codec,
    describe(word) {
      const parts = positions
        .filter(({ mask }) => (word & mask) !== 0)
        .map((each) => (each.single ? each.name : `${each.name}=${bitsOf(word, each)}`));
      const unknown = (word & ~all) >>> 0;
      if (unknown !== 0) parts.push(`0x${unknown.toString(16)}`);
      return parts.length === 0 ? "none" : parts.join("|");
    },
  };
}
