import type { TimedEvent } from "../migration/hosts/events.ts";

/** How long what nobody waits for is kept back. From a log: longer than a guest stands still. */
const soonMs = 50;
const laterMs = 250;

/** A VMM goes on when it hears of these: what its device writes has ended, and begun elsewhere. */
const awaited: readonly string[] = ["save", "thaw"];

/** True for what somebody acts on at once. */
function isAwaited(event: TimedEvent): boolean {
  if (event.kind === "progress") return false;
  if (event.kind !== "phase") return true;
  return event.step === "ends" ? awaited.includes(event.phase) : event.step !== "begins";
}

/** True for what is the last of a migration. */
const isLast = ({ kind }: TimedEvent): boolean => kind === "verdict";

/**
 * Passes events on, in their order. Most of them happen while a guest stands still, and writing one
 * to a log or a socket takes longer than many a phase: they are kept until one comes that is
 * `urgent`, or a moment has passed.
 */
export class Announcements {
  readonly #pass: (event: TimedEvent) => void;
  readonly #urgent: (event: TimedEvent) => boolean;
  readonly #laterMs: number;
  #kept: TimedEvent[] = [];
  #timer: NodeJS.Timeout | null = null;

  private constructor(
    pass: (event: TimedEvent) => void,
    urgent: (event: TimedEvent) => boolean,
    laterMs: number,
  ) {
    this.#pass = pass;
    this.#urgent = urgent;
    this.#laterMs = laterMs;
  }

  /** For who acts on what it hears. */
  static toListener(pass: (event: TimedEvent) => void): Announcements {
    return new Announcements(pass, isAwaited, soonMs);
  }

  /** For who reads it: only the last one is urgent. */
  static toLog(pass: (event: TimedEvent) => void): Announcements {
    return new Announcements(pass, isLast, laterMs);
  }

  readonly tell = (event: TimedEvent): void => {
    this.#kept.push(event);
    if (this.#urgent(event)) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), this.#laterMs);
  };

  /** Passes on what is kept. */
  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    const kept = this.#kept;
    this.#kept = [];
    for (const event of kept) this.#pass(event);
  }
}
