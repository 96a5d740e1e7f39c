/** Comparisons that end a case with what was expected and what came. */
import { Mismatch } from "./case.ts";

const shown = (value: unknown): string =>
  typeof value === "number" && value > 9 ? `${value} (0x${value.toString(16)})` : String(value);

/** `what` is the value's name, as in "argsz of the reply". */
export function expectEqual<T>(what: string, came: T, expected: T): void {
  if (came !== expected) throw new Mismatch(`${what} ${shown(expected)}`, shown(came));
}

/** `expected` says what should be true. */
export function expectThat(condition: boolean, expected: string, came: unknown): void {
  if (!condition) throw new Mismatch(expected, shown(came));
}

/** Compares bytes and names the first that differs. */
export function expectBytes(what: string, came: Uint8Array, expected: Uint8Array): void {
  expectEqual(`length of ${what}`, came.length, expected.length);
  const at = came.findIndex((byte, i) => byte !== expected[i]);
  if (at < 0) return;
  throw new Mismatch(`${what} with byte ${at} ${shown(expected[at])}`, shown(came[at]));
}
