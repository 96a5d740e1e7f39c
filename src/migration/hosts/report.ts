import type { Clock } from "./clock.ts";
import type { MigrationEvent, Outcome, Progress, TimedEvent } from "./events.ts";
import type { PhaseTime } from "./link-messages.ts";

/** Points of the progress that are kept; of more, every other one is left out. */
const pointsMax = 400;
/** Events that are kept beside the verdict, which is kept in any case. */
const eventsMax = 2000;

/** What is known before anything has happened. */
export interface Journey {
  readonly device: string;
  readonly side: "source" | "target";
  readonly peer: string;
  readonly address: string;
}

/** How one phase went. */
export interface PhaseRow extends PhaseTime {
  readonly result: "done" | "failed" | "undone" | "under way";
}

/** A migration from one side's point of view; times are milliseconds since it began there. */
export interface Report extends Journey {
  /** Milliseconds since 1970. */
  readonly startedMs: number;
  readonly elapsedMs: number;
  readonly phases: readonly PhaseRow[];
  /** The other side's, on this side's time. */
  readonly theirs: readonly PhaseTime[];
  readonly pauses: ReadonlyArray<{ readonly before: string; readonly atMs: number }>;
  readonly progress: ReadonlyArray<Progress & { readonly atMs: number }>;
  readonly bytes: number;
  readonly rounds: number;
  /** Bytes a second over all. */
  readonly rate: number;
  /** From the freeze until somebody ran again; null when nothing was frozen. */
  readonly downtimeMs: number | null;
  readonly notes: readonly string[];
  /** Null while it goes on. */
  readonly outcome: Outcome | null;
}

/** Writes down what a migration tells. */
export class Recorder {
  readonly #clock: Clock;
  readonly #journey: Journey;
  readonly #startMs: number;
  readonly #startedMs: number;
  readonly #events: TimedEvent[] = [];
  #progress: Array<Progress & { readonly atMs: number }> = [];

  constructor(clock: Clock, journey: Journey) {
    this.#clock = clock;
    this.#journey = journey;
    this.#startMs = clock.now();
    this.#startedMs = clock.wall();
  }

  /** An event with its time. */
  note(event: MigrationEvent): TimedEvent {
    const timed = { ...event, atMs: this.#clock.now() - this.#startMs };
    if (timed.kind === "progress") this.#keepPoint(timed);
    // No report tells how often the other side was asked, which goes on for as long as it must.
    else if (timed.kind === "verdict") this.#events.push(timed);
    else if (timed.kind !== "undecided" && this.#events.length < eventsMax) {
      this.#events.push(timed);
    }
    return timed;
  }

  #keepPoint(point: Progress & { readonly atMs: number }): void {
    this.#progress.push(point);
    if (this.#progress.length > pointsMax) {
      this.#progress = this.#progress.filter((_, at) => at % 2 === 0);
    }
  }

  /** The report as of now; `bytes` are those that were counted since the last progress. */
  report(bytes: number): Report {
    const events = this.#events;
    const verdict = events.find((event) => event.kind === "verdict");
    const elapsedMs = verdict?.atMs ?? this.#clock.now() - this.#startMs;
    const phases = phaseRows(events, elapsedMs);
    const last = this.#progress.at(-1);
    const frozen = phases.find(({ phase }) => phase === "freeze");
    return {
      ...this.#journey,
      startedMs: this.#startedMs,
      elapsedMs,
      phases,
      theirs: aligned(verdict?.theirs ?? [], phases),
      pauses: events.flatMap((event) =>
        event.kind === "paused" ? [{ before: event.before, atMs: event.atMs }] : [],
      ),
      progress: this.#progress,
      bytes,
      rounds: last?.rounds ?? 0,
      rate: elapsedMs === 0 ? 0 : (bytes * 1000) / movingMs(phases, elapsedMs),
      downtimeMs: frozen === undefined ? null : elapsedMs - frozen.startMs,
      notes: events.flatMap((event) => (event.kind === "note" ? [event.why] : [])),
      outcome: verdict === undefined ? null : outcomeOf(verdict),
    };
  }
}

function outcomeOf({ outcome, sentence, state, theirs }: Outcome): Outcome {
  return { outcome, sentence, state, theirs };
}

function phaseRows(events: readonly TimedEvent[], elapsedMs: number): PhaseRow[] {
  const rows = new Map<string, PhaseRow>();
  for (const event of events) {
    if (event.kind !== "phase") continue;
    const { phase, step, atMs } = event;
    const row = rows.get(phase);
    if (step === "begins") {
      const elapsed = Math.max(0, elapsedMs - atMs);
      rows.set(phase, { phase, startMs: atMs, elapsedMs: elapsed, result: "under way" });
    } else if (row !== undefined && (step === "ends" || step === "fails")) {
      const result = step === "ends" ? "done" : "failed";
      rows.set(phase, { ...row, elapsedMs: atMs - row.startMs, result });
    } else if (row !== undefined && row.result === "done") {
      rows.set(phase, { ...row, result: "undone" });
    }
  }
  return [...rows.values()];
}

/** The phases in which bytes are moved, on either side. */
const moving = ["precopy", "transfer", "receive"];

function movingMs(phases: readonly PhaseRow[], elapsedMs: number): number {
  const ms = phases
    .filter(({ phase }) => moving.includes(phase))
    .reduce((sum, { elapsedMs: each }) => sum + each, 0);
  return ms > 0 ? ms : elapsedMs;
}

/** Their last phase ended when ours, in which we heard of it, did. */
function aligned(theirs: readonly PhaseTime[], ours: readonly PhaseRow[]): PhaseTime[] {
  const last = ours.find(({ phase }) => phase === "hand over");
  if (last === undefined) return [];
  const end = Math.max(0, ...theirs.map(({ startMs, elapsedMs }) => startMs + elapsedMs));
  const shift = last.startMs + last.elapsedMs - end;
  return theirs.map((each) => ({ ...each, startMs: Math.max(0, each.startMs + shift) }));
}
