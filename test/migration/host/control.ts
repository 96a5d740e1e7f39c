/** A host with one fake device, its journal in memory, and links as they are. */
import { randomBytes } from "node:crypto";
import { hostClock } from "../../../src/host/host-clock.ts";
import { hostLinks, type LinkFactory } from "../../../src/host/links/link-factory.ts";
import { MigrationControl } from "../../../src/host/migration-control.ts";
import type { Clock } from "../../../src/migration/hosts/clock.ts";
import type { TimedEvent } from "../../../src/migration/hosts/events.ts";
import type { Journal, JournalRecord } from "../../../src/migration/hosts/journal.ts";
import { FakePort } from "./fake-port.ts";

export class MemoryJournal implements Journal {
  readonly records: JournalRecord[] = [];

  async append(record: JournalRecord): Promise<void> {
    this.records.push(record);
  }
}

export class TestHost {
  readonly port: FakePort;
  readonly journal = new MemoryJournal();
  readonly events: TimedEvent[] = [];
  readonly control: MigrationControl;
  #heard: () => void = () => {};

  constructor(state: readonly number[], links: LinkFactory = hostLinks, clock: Clock = hostClock) {
    this.port = new FakePort(state);
    this.control = new MigrationControl({
      port: this.port,
      journal: this.journal,
      clock,
      random: (bytes) => randomBytes(bytes),
      links,
      sweep: () => {},
      tell: (event) => {
        this.events.push(event);
        this.#heard();
      },
    });
  }

  /** Waits for an event, or finds one that was. */
  async hears(fits: (event: TimedEvent) => boolean): Promise<void> {
    await new Promise<void>((resolve) => {
      this.#heard = () => {
        if (this.events.some(fits)) resolve();
      };
      this.#heard();
    });
  }
}

export const isVerdict = ({ kind }: TimedEvent): boolean => kind === "verdict";
