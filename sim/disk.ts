import { FerryError } from "../src/base/errors.ts";
import type { Decision, Journal, JournalRecord } from "../src/migration/hosts/journal.ts";
import type { Process } from "./process.ts";
import type { World } from "./world.ts";

/** How long a record takes to be durable, and then its writer to hear of it, at most. */
const writeMsMax = 4;
const hearMsMax = 4;

/**
 * What a disk does with the next record: `full` refuses it; `broken` may have it on the disk and
 * may not, and takes nothing more until the process is another one.
 */
export type DiskTrouble = "none" | "full" | "broken";

/** A host's disk: the records that are durable outlive every process. */
export class Disk {
  readonly records: JournalRecord[] = [];
  trouble: DiskTrouble = "none";
  readonly #world: World;
  readonly #host: string;

  constructor(world: World, host: string) {
    this.#world = world;
    this.#host = host;
  }

  /** The journal as a process that starts now finds it. */
  open(process: Process): Journal {
    return process.guard<Journal>(new DiskJournal(this, process));
  }

  /**
   * Done when the record is durable and its writer knows; it may be one without the other. A
   * process that dies meanwhile has not written it.
   */
  async write(record: JournalRecord, process: Process): Promise<boolean> {
    const { clock, random } = this.#world;
    const moment = (how: string): void =>
      this.#world.moment(`${how} ${record.decision}`, `${this.#host} ${how} ${record.decision}`);
    moment("writes");
    await clock.sleep(random.below(writeMsMax));
    const { trouble } = this;
    if (!process.alive) return false;
    if (trouble === "full") throw new FerryError("no-journal", "no space left on device");
    if (trouble === "none" || random.oneIn(2)) {
      this.records.push(record);
      this.#world.decided(this.#host, record);
    }
    moment("has written");
    await clock.sleep(random.below(hearMsMax));
    return trouble === "none";
  }
}

/** What one process knows of the disk. */
class DiskJournal implements Journal {
  readonly records: JournalRecord[];
  readonly #disk: Disk;
  readonly #process: Process;
  #queue: Promise<void> = Promise.resolve();
  #ended = false;

  constructor(disk: Disk, process: Process) {
    this.#disk = disk;
    this.#process = process;
    this.records = [...disk.records];
  }

  append(record: JournalRecord): Promise<void> {
    const done = this.#queue.then(() => this.#append(record));
    this.#queue = done.catch(() => {});
    return done;
  }

  async #append(record: JournalRecord): Promise<void> {
    if (!this.#ended) this.#ended = !(await this.#disk.write(record, this.#process));
    if (this.#ended) throw new FerryError("no-journal", "the journal can be written no more");
    this.records.push(record);
  }
}

/** The decisions that a host has made about one migration, in their order. */
export const decisionsOf = ({ records }: Disk, token: string): Decision[] =>
  records.filter((record) => record.token === token).map(({ decision }) => decision);
