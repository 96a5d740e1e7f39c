import { FerryError, messageOf } from "../base/errors.ts";
import { type Budgets, defaultBudgets } from "../migration/hosts/budgets.ts";
import type { Clock } from "../migration/hosts/clock.ts";
import type { MigrationEvent, Outcome, Tell, TimedEvent } from "../migration/hosts/events.ts";
import { greet } from "../migration/hosts/greeting.ts";
import {
  type Fate,
  fateOf,
  type Journal,
  type JournalRecord,
  recover,
} from "../migration/hosts/journal.ts";
import type { Link } from "../migration/hosts/link.ts";
import type { MessageOf } from "../migration/hosts/link-messages.ts";
import { newToken, Offers, type Random } from "../migration/hosts/offers.ts";
import { defaultPolicy } from "../migration/hosts/precopy.ts";
import { Reception, type ReceptionParts } from "../migration/hosts/reception.ts";
import { Recorder, type Report } from "../migration/hosts/report.ts";
import type { Source } from "../migration/hosts/source.ts";
import type { SourceParts, SourceRequest } from "../migration/hosts/source-parts.ts";
import type { Target, TargetParts } from "../migration/hosts/target.ts";
import type { MigrationPort } from "../migration/port.ts";
import { departure, type Surroundings } from "./departure.ts";
import { formatAddress, parseAddress } from "./links/address.ts";
import { FileSource } from "./links/file-source.ts";
import { filePeer } from "./links/file-target.ts";
import { type LinkFactory, type Place, peerOf } from "./links/link-factory.ts";
import { Listeners } from "./links/listeners.ts";
import { placeOf, readRequest } from "./migration-requests.ts";

/** What a device's migration is run with. */
export interface ControlParts {
  readonly port: MigrationPort;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly random: Random;
  readonly links: LinkFactory;
  readonly sweep: SourceParts["sweep"];
  readonly budgets?: Budgets;
  /** Hears everything, for a log. */
  readonly tell?: (event: TimedEvent) => void;
}

/** How a migration ended, with everything that was measured. */
export interface Finished extends Outcome {
  readonly report: Report;
}

/** A migration that goes on, or the last one that did. */
interface Run {
  readonly side: "source" | "target";
  readonly recorder: Recorder;
  /** Null until a target's state has come to it. */
  readonly source: Source | null;
  readonly token: string;
}

type Hear = (event: TimedEvent) => void;

/** The migrations of one device, as an operator commands them. One goes on at a time. */
export class MigrationControl {
  readonly #parts: ControlParts;
  readonly #budgets: Budgets;
  readonly #offers: Offers;
  readonly #reception: Reception;
  readonly #listeners: Listeners;
  readonly #hearers = new Set<Hear>();
  #run: Run | null = null;
  /** The device is on its way to another host, or its whereabouts are being asked for. */
  #leaves = false;

  constructor(parts: ControlParts) {
    const { clock, random, port, journal, links, sweep, budgets = defaultBudgets } = parts;
    this.#parts = parts;
    this.#budgets = budgets;
    this.#offers = new Offers(random, () => clock.now());
    const offers = this.#offers;
    const arrives: ReceptionParts["arrives"] = (...come) => this.#arrives(...come);
    this.#reception = new Reception({ port, journal, clock, budgets, sweep, offers, arrives });
    this.#listeners = new Listeners({
      links,
      clock,
      againMs: budgets.askLastMs,
      serve: (link, at) => void this.#reception.serve(link, at),
      isAwaited: (address) => isAwaited(journal, address),
    });
  }

  /**
   * After a start: what the journal has left open is taken up. A source that was deciding stands
   * still and asks; a target listens again for a source that has not heard.
   */
  async recover(): Promise<void> {
    for (const fate of recover(this.#parts.journal.records)) {
      if (fate.settled) continue;
      if (fate.side === "source") {
        await this.#parts.port.still("drop");
        void this.#meet(fate.record);
      } else await this.#listenAgain(fate);
    }
  }

  async #meet(record: JournalRecord): Promise<void> {
    const { token, address, peer, pki } = record;
    const place = { address: parseAddress(address), pki: pki === "" ? undefined : pki, peer };
    const source = this.#source(place, { ...quiet, token, address, peer, pki });
    this.#leaves = true;
    try {
      await source.meet(record);
    } catch (thrown) {
      this.#note(`${record.device} is undecided and cannot be stopped: ${messageOf(thrown)}`);
    } finally {
      this.#leaves = false;
    }
  }

  async #listenAgain({ record, decision }: Fate): Promise<void> {
    if (decision === "expected") await this.#settle(record);
    if (decision === "own") {
      const lost = "this process was restarted since; what it was doing may be lost.";
      this.#note(`${record.device} had come here from ${record.peer}, and ${lost}`);
    }
    if (record.peer === filePeer) return;
    const pki = record.pki === "" ? undefined : record.pki;
    const place = { address: parseAddress(record.address), pki };
    await this.#listeners.soon(place, (why) => {
      this.#note(`The source of ${record.device} cannot ask here yet: ${why}`);
    });
  }

  /** What cannot be written down now is when the source asks. */
  async #settle(record: JournalRecord): Promise<void> {
    try {
      await this.#reception.settle(record);
    } catch (thrown) {
      this.#note(`${record.device} of ${record.peer} is left undecided: ${messageOf(thrown)}`);
    }
  }

  /** What comes of everything that goes on is left to the next process. */
  halt(): void {
    this.#listeners.close();
    this.#run?.source?.halt();
    for (const target of this.#reception.targets.values()) target.halt();
  }

  /** Moves the device. Ends when it has moved, or is back. */
  async migrate(request: object, hear: Hear = () => {}): Promise<Finished> {
    const wanted = readRequest("migrate", request);
    const place = placeOf(wanted);
    const token = this.#tokenFor(place, wanted.token);
    this.#expectHere();
    this.#expectNew(token);
    this.#leaves = true;
    try {
      const address = formatAddress(place.address);
      const policy = { ...defaultPolicy, ...wanted };
      const asked = { ...wanted, token, address, peer: peerOf(place), policy };
      const source = this.#source(place, asked, wanted);
      return this.#finished(await this.#heard(hear, () => source.run()));
    } finally {
      this.#leaves = false;
    }
  }

  /** A file has given out no token: one is made for it. */
  #tokenFor({ address }: Place, token: string): string {
    if (token !== "") return token;
    if (address.kind !== "file") {
      throw new FerryError("usage", "name the token that the target's offer has printed: --token.");
    }
    return newToken(this.#parts.random);
  }

  #expectHere(): void {
    if (!this.#leaves) return;
    throw new FerryError("busy", `${this.#parts.port.name} is being migrated already.`);
  }

  /** What was decided once is not decided again. */
  #expectNew(token: string): void {
    if (fateOf(this.#parts.journal, "source", token) === null) return;
    const why = `migration ${token} has been decided: have the target make another offer.`;
    throw new FerryError("used", why);
  }

  /** Takes part in a migration to its end, whoever stops listening meanwhile. */
  async #heard<T>(hear: Hear, run: () => Promise<T>): Promise<T> {
    this.#hearers.add(hear);
    try {
      return await run();
    } finally {
      this.#hearers.delete(hear);
    }
  }

  #finished(outcome: Outcome): Finished {
    return { ...outcome, report: this.#report() as Report };
  }

  #source(place: Place, request: SourceRequest, around: Surroundings = {}): Source {
    const { port, journal, clock, links, sweep } = this.#parts;
    const { peer, address, token } = request;
    const recorder = new Recorder(clock, { device: port.name, side: "source", peer, address });
    const tell = this.#teller(recorder);
    const [budgets, waiting] = [this.#budgets, this.#waiting];
    const parts = { port, journal, clock, budgets, tell, sweep, links, waiting };
    const source = departure(parts, place, request, around);
    this.#run = { side: "source", recorder, source, token };
    return source;
  }

  #teller(recorder: Recorder): Tell {
    return (event: MigrationEvent) => {
      const timed = recorder.note(event);
      this.#parts.tell?.(timed);
      for (const hear of this.#hearers) hear(timed);
    };
  }

  #note(why: string): void {
    const event = { kind: "note", why, atMs: 0 } as const;
    this.#parts.tell?.(event);
    for (const hear of this.#hearers) hear(event);
  }

  /** A source has come with a device. */
  #arrives({ token }: MessageOf<"hello">, peer: string, { address }: TargetParts["at"]): Tell {
    const { clock, port } = this.#parts;
    const recorder = new Recorder(clock, { device: port.name, side: "target", peer, address });
    const isOver = this.#report()?.outcome !== null;
    if (!this.#leaves && isOver) {
      this.#run = { side: "target", recorder, source: null, token };
    }
    return this.#teller(recorder);
  }

  /** The target of the migration that goes on, or went on last. */
  get #target(): Target | null {
    return this.#run === null ? null : (this.#reception.targets.get(this.#run.token) ?? null);
  }

  /** Makes a place for a device from another host, and listens for it. */
  async offer(request: object): Promise<{ token: string; address: string; lastsMs: number }> {
    const { from, listen, pki, lastsMs, thaw } = readRequest("offer", request);
    const place = { address: parseAddress(listen), pki: pki === "" ? undefined : pki };
    const listener = await this.#listeners.at(place, lastsMs);
    const { token } = this.#offers.put(from, { lastsMs, thaw });
    return { token, address: formatAddress(listener.address), lastsMs };
  }

  /** Takes the device out of a file. */
  async load(request: object, hear: Hear = () => {}): Promise<Finished> {
    const { from, thaw } = readRequest("load", request);
    const address = parseAddress(from);
    if (address.kind !== "file") throw new FerryError("usage", "load takes file:PATH.");
    this.#expectHere();
    const link = await FileSource.open(address.path);
    const { token } = link.hello;
    const lastsMs = this.#budgets.greetMs;
    const offer = this.#offers.put(filePeer, { lastsMs, token, thaw, asks: false });
    try {
      const at = { address: from, pki: "" };
      const outcome = await this.#heard(hear, () => this.#reception.serve(link, at));
      if (outcome === null) throw new FerryError("refused", `${from}: ${link.refusal}`);
      return this.#finished(outcome);
    } finally {
      link.close();
      this.#offers.withdraw(offer);
    }
  }

  /** Asks the target whether it would take the device; nothing moves, and its offer stands. */
  async precheck(request: object): Promise<{ readonly compatible: true; readonly with: string }> {
    const wanted = readRequest("precheck", request);
    const place = placeOf(wanted);
    const token = this.#tokenFor(place, wanted.token);
    const { port, clock, links } = this.#parts;
    const dial = (): Promise<Link> => links.dial(place);
    const calling = { port, clock, budgets: this.#budgets, token, dial };
    const talk = await greet(calling, "precheck", new AbortController().signal);
    talk.close();
    return { compatible: true, with: peerOf(place) };
  }

  /** Goes on after a pause, or without one. */
  continue(request: object): void {
    const { before } = readRequest("continue", request);
    this.#ownSource().continue(before);
  }

  /** Ends what goes on; the device stays where it was. */
  async abort(request: object): Promise<void> {
    const { reason, token } = readRequest("abort", request);
    const run = this.#current(token);
    if (run.source !== null) run.source.abort(reason);
    else await this.#target?.abort(reason);
  }

  /** The target whose device stands still here until it is told to go. */
  get #waiting(): Target | undefined {
    return [...this.#reception.targets.values()].find((each) => each.waitsForThaw);
  }

  /** Sets a device going that was to wait for it. */
  async thaw(): Promise<void> {
    if (this.#waiting !== undefined) return await this.#waiting.setGoing();
    throw new FerryError("not-waiting", "no device waits here to be set going.");
  }

  /** Resets the device, also out of ERROR; refused while it is migrated. */
  async reset(): Promise<void> {
    const { port } = this.#parts;
    const { master } = await port.status();
    if (this.#leaves || master !== "none") {
      throw new FerryError("busy", `${port.name} is being migrated: end that first.`);
    }
    await port.reset();
  }

  /** The operator's word on who has a device whose two sides cannot meet. */
  async resolve(request: object): Promise<void> {
    const { owner, token } = readRequest("resolve", request);
    const run = this.#current(token);
    await (run.source ?? this.#target)?.resolve(owner);
  }

  /** What goes on now, or stands undecided; refused where another one is meant. */
  #current(token = ""): Run {
    const { name } = this.#parts.port;
    const run = this.#run;
    if (run === null || this.#report()?.outcome !== null) {
      throw new FerryError("not-migrating", `${name} is not being migrated.`);
    }
    if (token === "" || token === run.token) return run;
    throw new FerryError("another", `what goes on with ${name} is migration ${run.token}.`);
  }

  #ownSource(): Source {
    const { source } = this.#current();
    if (source !== null) return source;
    throw new FerryError("not-paused", "the device comes here: only its source can pause.");
  }

  /** What this very process is needed for, as the end of a sentence about the device; or null. */
  get engagement(): string | null {
    const isOpen = this.#leaves || this.#waiting !== undefined || this.#report()?.outcome === null;
    if (isOpen) return "is being migrated: end that first.";
    return this.#offers.size > 0 ? "is on offer to another host: wait for its end." : null;
  }

  /** What the device says of itself, and how its migration stands. */
  async status(): Promise<object> {
    const { port } = this.#parts;
    const run = this.#run;
    const target = this.#target;
    return {
      device: port.name,
      port: await port.status(),
      compatibility: await port.compatibility(),
      offers: this.#offers.size,
      listening: this.#listeners.addresses,
      migration:
        run === null
          ? null
          : {
              side: run.side,
              token: run.token,
              paused: run.source?.paused ?? null,
              undecided: run.source?.undecided ?? target?.undecided ?? false,
              waitsForThaw: target?.waitsForThaw ?? false,
              report: this.#report(),
            },
    };
  }

  /** Hears everything until the returned function is called. */
  events(hear: Hear): () => void {
    this.#hearers.add(hear);
    return () => this.#hearers.delete(hear);
  }

  #report(): Report | null {
    const bytes = this.#run?.source?.bytes ?? this.#target?.bytes ?? 0;
    return this.#run?.recorder.report(bytes) ?? null;
  }
}

/** A source may still ask at this address what has become of its device. */
function isAwaited({ records }: Journal, address: string): boolean {
  return recover(records).some(
    ({ side, settled, record }) => side === "target" && !settled && record.address === address,
  );
}

/** For a source that only asks: nothing of it is used. */
const quiet = { policy: defaultPolicy, pauseBefore: [], vcpusStopped: false } as const;
