import { readFileSync } from "node:fs";
import { tagBytes } from "../../devices/hisi-acc/ledger.ts";

/** What became of a guest's requests, by what their devices have noted. */
export interface Account {
  /** Numbers that no device has run. */
  readonly never: number;
  /** Runs beyond the first one of each number. */
  readonly twice: number;
}

/** Holds a guest's numbers, 0 to `submitted` - 1, against the ledgers of all devices it had. */
export function account(submitted: number, ledgers: readonly string[]): Account {
  const all = ledgers.flatMap((path) => {
    const { buffer, byteOffset, length } = readFileSync(path);
    const end = byteOffset + length - (length % tagBytes);
    return [...new BigUint64Array(buffer.slice(byteOffset, end))];
  });
  const own = new Set(all.filter((tag) => tag < submitted));
  return { never: submitted - own.size, twice: all.length - own.size };
}
