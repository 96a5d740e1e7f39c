import { FerryError } from "../../base/errors.ts";
import type { Clock } from "./clock.ts";
import { type Decision as Decided, fateOf, type Journal, type JournalRecord } from "./journal.ts";

/** What a target can come to. */
export type TargetFate = "own" | "never";

/** The refusal of an operator's word where none is asked for. */
export const notUndecided = (): FerryError =>
  new FerryError("not-undecided", "nothing is to be resolved: it is not undecided.");

/** What its records have in common. */
export type Identity = Pick<JournalRecord, "token" | "device" | "peer" | "address" | "pki">;

/**
 * The one decision of a target: the first who asks for it decides, everybody after that is told
 * what was decided. It is durable before anybody is told.
 */
export class Verdict {
  readonly #journal: Journal;
  readonly #clock: Clock;
  readonly #identity: Identity;
  #opening: Promise<void> | null = null;
  #presented = false;
  #writing: Promise<TargetFate> | null = null;
  #fate: TargetFate | null = null;

  constructor(journal: Journal, clock: Clock, identity: Identity) {
    this.#journal = journal;
    this.#clock = clock;
    this.#identity = identity;
    const before = fateOf(journal, "target", identity.token)?.decision;
    if (before === "own" || before === "never") this.#fate = before;
  }

  /** True while there is something to decide. */
  get open(): boolean {
    return this.#presented && this.#fate === null;
  }

  /** Null while nothing is decided. */
  get fate(): TargetFate | null {
    return this.#fate;
  }

  /** Durable: a state may come. Whoever asks after it is answered from here on. */
  async begin(): Promise<void> {
    this.#opening ??= this.#append("expected", "protocol");
    await this.#opening.catch((thrown: unknown) => {
      this.#opening = null;
      throw thrown;
    });
  }

  /** A state is loaded that is decided upon. */
  present(): void {
    this.#presented = true;
  }

  /** No state comes of what was expected. Nothing is lost when that cannot be written. */
  async dismiss(): Promise<void> {
    if (this.#opening !== null) await this.decide("never").catch(() => {});
  }

  /** Decides for `wanted` if nothing was decided yet; rejects when that cannot be made durable. */
  async decide(wanted: TargetFate, by: JournalRecord["by"] = "protocol"): Promise<TargetFate> {
    await this.#opening?.catch(() => {});
    if (this.#fate !== null) return this.#fate;
    if (this.#writing !== null) {
      const before = await this.#writing.catch(() => null);
      return before ?? (await this.decide(wanted, by));
    }
    this.#writing = this.#append(wanted, by).then(() => wanted);
    try {
      this.#fate = await this.#writing;
      return this.#fate;
    } finally {
      this.#writing = null;
    }
  }

  /** Durable: the source knows. */
  async close(): Promise<void> {
    if (fateOf(this.#journal, "target", this.#identity.token)?.settled === true) return;
    await this.#append("done", "protocol");
  }

  async #append(decision: Decided, by: JournalRecord["by"]): Promise<void> {
    await record(this.#journal, this.#clock, this.#identity, decision, by);
  }
}

/** Appends a decision; a FerryError says that it could not be written down. */
export async function record(
  journal: Journal,
  clock: Clock,
  identity: Identity,
  decision: Decided,
  by: JournalRecord["by"] = "protocol",
): Promise<void> {
  const { token, device, peer, address, pki } = identity;
  const atMs = Math.max(0, Math.round(clock.wall()));
  try {
    await journal.append({ token, decision, device, peer, address, pki, by, atMs });
  } catch (cause) {
    const why = cause instanceof Error ? cause.message : String(cause);
    throw new FerryError("journal", `the decision "${decision}" cannot be written: ${why}`, {
      cause,
    });
  }
}
