/**
 * The table of a function's MSI-X: a VMM has it and leaves it behind, no server sees it. It is
 * read through the function's BAR where the guest has set it up, and written there again.
 */
import { FerryError } from "../base/errors.ts";
import { Msix, msixEntryBytes } from "../spec/pci-capabilities.ts";
import { type Config, registerOf } from "./config-writes.ts";
import type { Write } from "./gdb-stub.ts";
import { barAddress, type PciFunction } from "./pci-place.ts";

const wordBytes = 4;
const entryWords = msixEntryBytes / wordBytes;
/** The bit of COMMAND with which a function answers to memory. */
const memorySpace = 2;
/** Of the last word of an entry: the vector is kept back. */
const vectorMask = 1;
/** An entry that nobody has set up since a reset. */
const untouched = [0, 0, 0, vectorMask];

const { MESSAGE_CONTROL, TABLE, PENDING } = Msix.bits;

/** Where a table is in physical memory. */
interface TablePlace {
  readonly at: number;
  readonly words: number;
  /** Where the pending bits are. */
  readonly pendingAt: number;
}

/** Where the function's table is; null when it has none that a guest can have reached. */
export function tablePlace(config: Config, place: PciFunction): TablePlace | null {
  const [control, table, pending] = (["MESSAGE_CONTROL", "TABLE", "PENDING"] as const).map(
    (name) => registerOf(config, "msix", name)?.value,
  );
  if (control === undefined || table === undefined || pending === undefined) return null;
  const { lastVector, enable } = MESSAGE_CONTROL.unpack(control);
  const command = registerOf(config, "", "COMMAND")?.value ?? 0;
  const addressOf = ({ bar, offset8 }: { readonly bar: number; readonly offset8: number }) =>
    barAddress(place, bar, offset8 * 8);
  const [at, pendingAt] = [addressOf(TABLE.unpack(table)), addressOf(PENDING.unpack(pending))];
  if ((command & memorySpace) !== 0 && at >= 0) {
    return { at, words: (lastVector + 1) * entryWords, pendingAt };
  }
  if (!enable) return null;
  throw new FerryError("msix", "MSI-X is on, but its table is out of reach: memory space is off.");
}

/** Whether a vector that the guest has set up is kept back by a mask. */
export function holdsVectors(config: Config, words: readonly number[]): boolean {
  const control = registerOf(config, "msix", "MESSAGE_CONTROL")?.value ?? 0;
  const { enable, functionMask } = MESSAGE_CONTROL.unpack(control);
  const isHeld = (entry: readonly number[]): boolean =>
    functionMask || ((entry[3] ?? 0) & vectorMask) !== 0;
  return enable && entriesOf(words).some((entry) => isSet(entry) && isHeld(entry));
}

/** The writes that give a table, at `at` in memory, these words: of each entry its mask last. */
export function tableWrites(at: number, words: readonly number[]): Write[] {
  return entriesOf(words).flatMap((entry, vector) => {
    if (!isSet(entry)) return [];
    return entry.map((value, word) => {
      return { at: at + vector * msixEntryBytes + word * wordBytes, size: 4 as const, value };
    });
  });
}

const entriesOf = (words: readonly number[]): number[][] =>
  Array.from({ length: words.length / entryWords }, (_, vector) =>
    words.slice(vector * entryWords, (vector + 1) * entryWords),
  );

const isSet = (entry: readonly number[]): boolean =>
  entry.some((word, at) => word !== untouched[at]);
