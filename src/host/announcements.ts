import type { TimedEvent } from "../migration/hosts/events.ts";

/** How long what nobody waits for is kept back. */
const laterMs = 50;

/** A VMM goes on when it hears of these: what its device writes has ended, and begun elsewhere. */
const awaited: readonly string[] = ["save", "thaw"];

/** True for what somebody acts on at once. */
function isAwaited(event: TimedEvent): boolean {
  if (event.kind === "progress") return false;
  if (event.kind !== "phase") return true;
  return event.step === "ends" ? awaited.includes(event.phase) : event.step !== "begins";
}

/** True for what is the last of a migration. */
export const isLast = ({ kind }: TimedEvent): boolean => kind === "verdict";

/**
 * Passes events on, in their order. Most of them happen while a guest stands still, and writing one
 * to a log or a socket takes longer than many a phase: they are kept until one comes that is
 * `urgent`, or a moment has passed.
 */
export class Announcements {
  readonly #pass: (event: TimedEvent) => void;
  readonly #urgent: (event: TimedEvent) => boolean;
  #kept: TimedEvent[] = [];
  #timer: NodeJS.Timeout | null = null;

  constructor(
    pass: (event: TimedEvent) => void,
    urgent: (event: TimedEvent) => boolean = isAwaited,
  ) {
    this.#pass = pass;
    this.#urgent = urgent;
  }

  readonly tell = (event: TimedEvent): void => {
    this.#kept.push(event);
    if (this.#urgent(event)) this.flush();
    else this.#timer ??= setTimeout(() => this.flush(), laterMs);
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
