import { assert } from "./assert.ts";
import { type BitPosition, type Bits, bits } from "./bits.ts";
import { type Hooks, RegisterBank } from "./register-bank.ts";

/**
 * What a write does to the bits that `writable` names, and what a read gives:
 * - `ro`: a write is dropped;
 * - `rw`: the bits become what is written;
 * - `w1c`: a written one clears the bit, a written zero leaves it;
 * - `wo`: like `rw`, but a read gives zero;
 * - `hook`: nothing is stored; the device's hook is handed the value and stores what it wants read.
 */
export type Access = "ro" | "rw" | "w1c" | "wo" | "hook";

/** One line of a datasheet's register table. */
export interface Register {
  /** Byte offset, a multiple of the size. */
  readonly at: number;
  /** Bytes; 4 unless told. */
  readonly size?: 1 | 2 | 4 | 8;
  /** How many of them in a row, `stride` bytes apart (unless told: their size). */
  readonly count?: number;
  readonly stride?: number;
  readonly access: Access;
  /** The bits that a write reaches; all of them unless told. */
  readonly writable?: number;
  /** The value after a reset; 0 unless told. */
  readonly reset?: number;
  readonly bits?: Readonly<Record<string, BitPosition>>;
  readonly doc: string;
}

export type Registers = Readonly<Record<string, Register>>;

type BitsOf<T extends Registers> = {
  readonly [K in keyof T as T[K] extends { bits: Record<string, BitPosition> } ? K : never]: Bits<
    NonNullable<T[K]["bits"]>
  >;
};

/** The rules of all registers, one 32-bit word after the other. */
export interface RegisterRules {
  /** Bits that a write sets to what is written. */
  readonly writable: Int32Array;
  /** Bits that a written one clears. */
  readonly clearable: Int32Array;
  /** Bits that a read shows. */
  readonly readable: Int32Array;
  /** All of them as they are stored after a reset: `size` bytes, little-endian. */
  readonly reset: Uint8Array;
}

/** A checked register table. Made by {@link registers}. */
export interface RegisterTable<T extends Registers> {
  readonly name: string;
  /** Bytes, a multiple of 4. */
  readonly size: number;
  readonly registers: T;
  /** Name to byte offset. */
  readonly at: { readonly [K in keyof T]: number };
  /** Name to named bits, for the registers that have some. */
  readonly bits: BitsOf<T>;
  readonly rules: RegisterRules;
  /** The live registers, stored in `size` bytes of `view` from `at` (a multiple of 4). */
  bank(view: DataView, at: number, hooks: Hooks<T>): RegisterBank<T>;
}

/** Bytes of a register. */
export const sizeOf = (register: Register): number => register.size ?? 4;

/** Byte offset of the register, or of number `index` of a row of them. */
export const offsetOf = (register: Register, index = 0): number =>
  register.at + index * (register.stride ?? sizeOf(register));

const twoTo32 = 2 ** 32;

/** Lays `size` bytes of `value` over the words; what was there before stays around them. */
function lay(words: Int32Array, at: number, size: number, value: number): void {
  const word = at >>> 2;
  words[word] = (words[word] as number) | ((value % twoTo32) << (8 * (at & 3)));
  if (size === 8) words[word + 1] = Math.floor(value / twoTo32);
}

/** The same with all bits set: of 8 bytes they are no exact number. */
function layOnes(words: Int32Array, at: number, size: number): void {
  if (size < 8) lay(words, at, size, 2 ** (8 * size) - 1);
  else words.fill(-1, at >>> 2, (at >>> 2) + 2);
}

function check(table: string, size: number, name: string, register: Register): void {
  const bytes = sizeOf(register);
  const last = offsetOf(register, (register.count ?? 1) - 1);
  const what = `${table}.${name}`;
  assert(register.at >= 0 && register.at % bytes === 0, `${what}: is not aligned to ${bytes}`);
  assert((register.stride ?? bytes) % bytes === 0, `${what}: its stride is not aligned`);
  assert((register.stride ?? bytes) >= bytes, `${what}: its stride is less than its size`);
  assert(last + bytes <= size, `${what}: ends behind the table's ${size} bytes`);
  assert(register.access !== "hook" || bytes < 8, `${what}: a hook takes at most 4 bytes`);
  for (const value of [register.writable ?? 0, register.reset ?? 0]) {
    assert(value >= 0 && value < 2 ** (8 * bytes), `${what}: ${value} does not fit ${bytes} bytes`);
  }
}

/** Marks the bytes of one register as taken. */
function take(taken: Uint8Array, at: number, size: number, what: string): void {
  for (let byte = at; byte < at + size; byte++) {
    assert(taken[byte] === 0, `${what}: overlaps another register`);
    taken[byte] = 1;
  }
}

/** Which rule a write to a register of this class follows; null where a write stores nothing. */
function targetOf(rules: RegisterRules, access: Access): Int32Array | null {
  if (access === "w1c") return rules.clearable;
  return access === "rw" || access === "wo" ? rules.writable : null;
}

function compile(table: string, size: number, all: Registers): RegisterRules {
  const words = () => new Int32Array(size / 4);
  const rules = {
    writable: words(),
    clearable: words(),
    readable: words(),
    reset: new Uint8Array(size),
  };
  const taken = new Uint8Array(size);
  for (const [name, register] of Object.entries(all)) {
    check(table, size, name, register);
    const { access, count = 1, writable, reset = 0 } = register;
    const bytes = sizeOf(register);
    for (let index = 0; index < count; index++) {
      const at = offsetOf(register, index);
      take(taken, at, bytes, `${table}.${name}`);
      const reached = targetOf(rules, access);
      if (reached !== null && writable === undefined) layOnes(reached, at, bytes);
      else if (reached !== null) lay(reached, at, bytes, writable ?? 0);
      if (access !== "wo") layOnes(rules.readable, at, bytes);
      for (let byte = 0; byte < bytes; byte++) rules.reset[at + byte] = reset / 256 ** byte;
    }
  }
  return rules;
}

/**
 * Declares `size` bytes of registers, one line a register as in the datasheet. A register that
 * overlaps another, is not aligned or does not fit stops the module from loading. Bytes without a
 * register read as zero.
 */
export function registers<const T extends Registers>(
  name: string,
  size: number,
  table: T,
): RegisterTable<T> {
  assert(size > 0 && size % 4 === 0, `${name}: ${size} bytes are no whole words`);
  const entries = Object.entries<Register>(table);
  const withBits = entries.filter(([, register]) => register.bits !== undefined);
  const self: RegisterTable<T> = {
    name,
    size,
    registers: table,
    at: Object.fromEntries(entries.map(([key, { at }]) => [key, at])) as RegisterTable<T>["at"],
    bits: Object.fromEntries(
      withBits.map(([key, register]) => [key, bits(register.bits ?? {})]),
    ) as BitsOf<T>,
    rules: compile(name, size, table),
    bank: (view, at, hooks) => new RegisterBank(self, view, at, hooks),
  };
  return self;
}
