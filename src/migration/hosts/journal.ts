/**
 * What each side of a migration has decided, durably and before it acts on it. From the records
 * alone a host that was restarted can tell, for every migration, who has the device.
 */
import { FerryError } from "../../base/errors.ts";
import { name, token } from "./link-messages.ts";
import * as s from "./shapes.ts";

/** A decision, in the words of the side that made it. */
export const decisions = {
  /** Source: may say COMMIT next, and stands still from there on until it knows. */
  deciding: { side: "source", settled: false },
  /** Source: the device stays here; COMMIT was not said, or the target has durably said `never`. */
  kept: { side: "source", settled: true },
  /** Source: the device is the target's. */
  gone: { side: "source", settled: true },
  /** Target: says ACCEPT next. What comes then is decided upon, or has gone with the process. */
  expected: { side: "target", settled: false },
  /** Target: will not have it, whatever comes. */
  never: { side: "target", settled: false },
  /** Target: has it. This is the commit point. */
  own: { side: "target", settled: false },
  /** Target: the source knows, and will not ask again. */
  done: { side: "target", settled: true },
} as const;
export type Decision = keyof typeof decisions;
export type Side = (typeof decisions)[Decision]["side"];

/** The decisions that may follow one; the first ones come after none. */
const following: Readonly<Record<Decision | "none", readonly Decision[]>> = {
  none: ["deciding", "expected", "never"],
  deciding: ["kept", "gone"],
  kept: [],
  gone: [],
  expected: ["never", "own"],
  never: ["done"],
  own: ["done"],
  done: [],
};

/** One line of a journal. */
export const journalRecord = s.object({
  token,
  decision: s.oneOf(...(Object.keys(decisions) as Decision[])),
  /** The device of this host. */
  device: name,
  /** The other host, and where it or its file is to be found; the target says where it listens. */
  peer: name,
  address: s.text(1024),
  /** The folder with this host's certificate, for another link; empty where none is needed. */
  pki: s.optional(s.text(4096), ""),
  /** Who decided: the two sides, or an operator in their place. */
  by: s.oneOf("protocol", "operator"),
  /** Milliseconds since 1970, for people. */
  atMs: s.whole(),
});
export type JournalRecord = s.Read<typeof journalRecord>;

/** Where decisions are written. */
export interface Journal {
  /** Everything that is durable, oldest first. */
  readonly records: readonly JournalRecord[];
  /**
   * Done when it is durable. What contradicts the records is refused. When it rejects, the record
   * is not there and never will be, or the journal is at an end and takes nothing any more.
   */
  append(record: JournalRecord): Promise<void>;
}

/** What a journal says of one migration as one side sees it. */
export interface Fate {
  readonly side: Side;
  /** The last record. */
  readonly record: JournalRecord;
  /** Before `done`: what the target had decided. */
  readonly decision: Decision;
  /** Nothing is to be done, and nobody asks any more. */
  readonly settled: boolean;
}

const keyOf = (side: Side, tokenText: string): string => `${side} ${tokenText}`;

/** What has become of every migration. A FerryError when the records contradict each other. */
export function recover(records: readonly JournalRecord[]): Fate[] {
  const fates = new Map<string, Fate>();
  for (const record of records) {
    const { side, settled } = decisions[record.decision];
    const key = keyOf(side, record.token);
    const before = fates.get(key);
    if (!following[before?.record.decision ?? "none"].includes(record.decision)) {
      throw new FerryError(
        "journal-broken",
        `the journal says ${record.decision} after ${before?.record.decision ?? "nothing"} for ` +
          `${record.device}, migration ${record.token}. Find out which host has the device.`,
      );
    }
    const decision = record.decision === "done" ? (before?.decision ?? "done") : record.decision;
    fates.set(key, { side, record, decision, settled });
  }
  return [...fates.values()];
}

/** Throws when a journal that has this record too would contradict itself. */
export function expectFollows(journal: Journal, record: JournalRecord): void {
  recover([...recordsOf(journal, decisions[record.decision].side, record.token), record]);
}

function recordsOf({ records }: Journal, side: Side, tokenText: string): JournalRecord[] {
  return records.filter(
    ({ token: other, decision }) => other === tokenText && decisions[decision].side === side,
  );
}

/** What the journal says of one migration; null when it knows nothing of it. */
export function fateOf(journal: Journal, side: Side, tokenText: string): Fate | null {
  return recover(recordsOf(journal, side, tokenText))[0] ?? null;
}
