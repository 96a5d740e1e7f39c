import { type FileHandle, open, readFile, rename } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { FerryError, messageOf } from "../base/errors.ts";
import {
  decisions,
  expectFollows,
  type Journal,
  type JournalRecord,
  journalRecord,
  recover,
} from "../migration/hosts/journal.ts";
import { parseJson } from "../migration/hosts/shapes.ts";

/** A longer file is no journal of ours. */
export const journalBytesMax = 16 * 1024 * 1024;
/** From so many records on, those of migrations that are over are left out ... */
export const recordsMax = 4096;
/** ... but for so many of the latest. */
export const settledMax = 256;

/** A line is a checksum of the rest of it, and a record. */
function lineOf(record: JournalRecord): string {
  const json = JSON.stringify(record);
  return `${crc32(json).toString(16).padStart(8, "0")} ${json}\n`;
}

/** A line's record; null when it is damaged. */
function parseLine(line: string): JournalRecord | null {
  const json = line.slice(9);
  if (line.slice(0, 9) !== `${crc32(json).toString(16).padStart(8, "0")} `) return null;
  return journalRecord(parseJson(json)) ?? null;
}

/** Makes what happened to a folder's entries durable. */
export async function syncFolder(path: string): Promise<void> {
  const folder = await open(path, "r");
  try {
    await folder.sync();
  } finally {
    await folder.close();
  }
}

const unusable = (path: string, thrown: unknown): FerryError =>
  new FerryError("no-journal", `the journal ${path} cannot be used: ${messageOf(thrown)}`);

/**
 * A journal in a file, which only its owner may read. It is open for writing in synchronous mode: a
 * write is done when it is durable. A line that was being written when the
 * process or the machine ended is left out; nobody has acted on it.
 */
export class JournalFile implements Journal {
  readonly path: string;
  #file: FileHandle;
  #records: JournalRecord[];
  #bytes: number;
  /** Why nothing can be written any more; null while it can. */
  #end: string | null = null;
  #queue: Promise<void> = Promise.resolve();

  private constructor(path: string, file: FileHandle, records: JournalRecord[], bytes: number) {
    this.path = path;
    this.#file = file;
    this.#records = records;
    this.#bytes = bytes;
  }

  static async open(path: string): Promise<JournalFile> {
    let file: FileHandle | null = null;
    try {
      file = await open(path, "as+", 0o600);
      await file.chmod(0o600);
      await syncFolder(dirname(path));
      const { records, bytes } = parse(path, await readAll(path, file));
      const journal = new JournalFile(path, file, records, bytes);
      await journal.#cutOff();
      if (records.length > recordsMax) await journal.#compact();
      return journal;
    } catch (thrown) {
      await file?.close();
      if (thrown instanceof FerryError) throw thrown;
      throw unusable(path, thrown);
    }
  }

  /** Throws when there can be no journal at `path`; one that is there stays as it is. */
  static async check(path: string): Promise<void> {
    try {
      await (await open(path, "a", 0o600)).close();
    } catch (thrown) {
      throw unusable(path, thrown);
    }
  }

  get records(): readonly JournalRecord[] {
    return this.#records;
  }

  append(record: JournalRecord): Promise<void> {
    const done = this.#queue.then(() => this.#append(record));
    this.#queue = done.catch(() => {});
    return done;
  }

  async #append(record: JournalRecord): Promise<void> {
    if (this.#end !== null) throw new FerryError("no-journal", this.#end);
    expectFollows(this, record);
    const line = Buffer.from(lineOf(record));
    try {
      await writeWhole(this.#file, line);
    } catch (thrown) {
      await this.#takeBack(messageOf(thrown));
      throw new FerryError("no-journal", `${this.path}: ${messageOf(thrown)}`);
    }
    this.#bytes += line.length;
    this.#records.push(record);
    if (this.#records.length > recordsMax) await this.#compact();
  }

  /** What may be on the disk and may be not would be a decision that nobody knows of. */
  async #takeBack(why: string): Promise<void> {
    try {
      await this.#cutOff();
    } catch {
      this.#end = `${this.path} can be written no more (${why}). Make room, then restart.`;
    }
  }

  async #cutOff(): Promise<void> {
    await this.#file.truncate(this.#bytes);
    await this.#file.sync();
  }

  /** Leaves out what nobody asks for any more. The old file counts until the new one is durable. */
  async #compact(): Promise<void> {
    const path = `${this.path}.new`;
    try {
      const kept = withoutOld(this.#records);
      if (kept.length === this.#records.length) return;
      const text = Buffer.from(kept.map(lineOf).join(""));
      const file = await open(path, "w", 0o600);
      await writeWhole(file, text);
      await file.sync();
      await file.close();
      await rename(path, this.path);
      await syncFolder(dirname(this.path));
      const before = this.#file;
      this.#file = await open(this.path, "as+");
      await before.close();
      this.#records = kept;
      this.#bytes = text.length;
    } catch (thrown) {
      const why = messageOf(thrown);
      this.#end = `${this.path} cannot be compacted (${why}). Make room, then restart.`;
    }
  }

  async close(): Promise<void> {
    await this.#queue;
    this.#end = `${this.path} is closed.`;
    await this.#file.close();
  }
}

async function readAll(path: string, file: FileHandle): Promise<string> {
  const { size } = await file.stat();
  if (size <= journalBytesMax) return await readFile(path, "utf8");
  throw new FerryError("journal-broken", `${path} has ${size} bytes: it is no journal.`);
}

async function writeWhole(file: FileHandle, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length; ) {
    const { bytesWritten } = await file.write(bytes, at);
    at += bytesWritten;
  }
}

/** The records of a text and how many bytes of it they are; damage before its end is an error. */
function parse(path: string, text: string): { records: JournalRecord[]; bytes: number } {
  const lines = text.split("\n");
  // What stands behind the last line break was being written.
  lines.pop();
  const records: JournalRecord[] = [];
  let bytes = 0;
  for (const [at, line] of lines.entries()) {
    const record = parseLine(line);
    if (record === null) {
      if (at === lines.length - 1) break;
      const where = `line ${at + 1} of ${path} is damaged: find out who has which device`;
      throw new FerryError("journal-broken", `${where}, then move it away.`);
    }
    records.push(record);
    bytes += Buffer.byteLength(line) + 1;
  }
  recover(records);
  return { records, bytes };
}

/**
 * The records of what is not over, and of the latest that are. A source that has gone back by
 * itself asks for no `never`; one that asks all the same after it was left out is told nothing.
 */
function withoutOld(records: readonly JournalRecord[]): JournalRecord[] {
  const fates = recover(records);
  const settled = fates.filter((fate) => fate.settled || fate.decision === "never");
  const old = new Set(
    settled
      .slice(0, Math.max(0, settled.length - settledMax))
      .map(({ side, record: { token } }) => `${side} ${token}`),
  );
  return records.filter(({ decision, token }) => !old.has(`${decisions[decision].side} ${token}`));
}
