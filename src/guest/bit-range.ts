import type { BitPosition, Bits } from "../base/bits.ts";

/**
 * A function that puts a number into a named range of a word, without the object that `pack` takes.
 * Its caller knows that the number fits.
 */
export function putter<T extends Record<string, BitPosition>>(
  bits: Bits<T>,
  name: keyof T,
): (value: number) => number {
  const position = bits.at[name] as BitPosition;
  const low = typeof position === "number" ? position : position[1];
  return (value) => value << low;
}
