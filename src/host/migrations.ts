import { randomBytes } from "node:crypto";
import type { TimedEvent } from "../migration/hosts/events.ts";
import { Announcements } from "./announcements.ts";
import { sweepSeldom } from "./garbage.ts";
import { type Berth, findBerth } from "./host.ts";
import { hostClock } from "./host-clock.ts";
import { JournalFile } from "./journal-file.ts";
import { hostLinks } from "./links/link-factory.ts";
import { MigrationControl } from "./migration-control.ts";

/** Whoever logs what happens to which device. */
export type TellDevice = (device: string, event: TimedEvent) => void;

interface Entry {
  readonly berth: Berth;
  readonly control: MigrationControl;
  readonly journal: JournalFile;
  readonly announcements: Announcements;
}

/** The migrations of a host's devices, each with a journal of its own. */
export class Migrations {
  readonly #entries: Entry[] = [];
  readonly #pathOf: (berth: Berth, index: number) => string;
  readonly #tell: TellDevice;

  /** `pathOf` says where the journal of a device lies. */
  constructor(pathOf: (berth: Berth, index: number) => string, tell: TellDevice) {
    this.#pathOf = pathOf;
    this.#tell = tell;
  }

  /**
   * Opens a device's journal and takes up what it has left open. Done before clients are let in: a
   * device whose owner is undecided stands still for the first of them.
   */
  async add(berth: Berth): Promise<void> {
    const journal = await JournalFile.open(this.#pathOf(berth, this.#entries.length));
    const { port } = berth.device;
    const announcements = Announcements.toLog((event) => this.#tell(port.name, event));
    const control = new MigrationControl({
      port,
      journal,
      clock: hostClock,
      random: randomBytes,
      links: hostLinks,
      sweep: sweepSeldom,
      tell: announcements.tell,
    });
    this.#entries.push({ berth, control, journal, announcements });
    await control.recover();
  }

  /** Throws when a device's journal could not be written here. */
  async check(berth: Berth, index: number): Promise<void> {
    await JournalFile.check(this.#pathOf(berth, index));
  }

  /** Why another process cannot have the devices now, in a sentence; null when it can. */
  get obstacle(): string | null {
    const engaged = this.#entries.find(({ control }) => control.engagement !== null);
    if (engaged === undefined) return null;
    const { berth, control } = engaged;
    return `${berth.device.spec.name} ${control.engagement}`;
  }

  /** The device behind a socket, or the only one when none is named. */
  find(device: unknown): MigrationControl {
    const berths = this.#entries.map(({ berth }) => berth);
    const index = berths.indexOf(findBerth(berths, device));
    return (this.#entries[index] as Entry).control;
  }

  /** The process ends: what goes on is left to the next one. */
  async close(): Promise<void> {
    for (const { control } of this.#entries) control.halt();
    await Promise.all(this.#entries.map(({ journal }) => journal.close()));
    for (const { announcements } of this.#entries) announcements.flush();
  }
}
