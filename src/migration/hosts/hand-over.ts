/**
 * The source's part of the decision. What is true at every moment: before COMMIT is said, which is
 * not before `deciding` is durable, the device is the source's; after it the source stands still
 * and keeps the state until it has durably written what the target, or an operator in its place,
 * has said. A process that finds `deciding` does not know whether COMMIT was said.
 */
import { FerryError, messageOf } from "../../base/errors.ts";
import { handled } from "../../base/handled.ts";
import type { MigrationPort } from "../port.ts";
import type { Conversation } from "./conversation.ts";
import { peerRefused } from "./conversation.ts";
import type { Journal, JournalRecord } from "./journal.ts";
import type { PhaseTime } from "./link-messages.ts";
import { type Asking, askFate } from "./reconcile.ts";
import { type Identity, notUndecided, record, type TargetFate } from "./target-verdict.ts";

/** How the decision fell. */
export interface Settlement {
  readonly fate: TargetFate;
  readonly sentence: string;
  readonly by: JournalRecord["by"];
  readonly theirs: readonly PhaseTime[];
  /** Where to say that it was heard; null when nobody listens. */
  readonly conversation: Conversation | null;
}

interface Parts extends Asking {
  readonly port: MigrationPort;
  readonly journal: Journal;
  readonly identity: Identity;
}

export class HandOver {
  readonly #parts: Parts;
  readonly #halt = new AbortController();
  #asking = new AbortController();
  #noting: Promise<void> | null = null;
  #resolution: Settlement | null = null;
  #undecided = false;
  /** What has become of the device is written down. */
  #settled = false;

  constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** True while the source stands still because it does not know. */
  get undecided(): boolean {
    return this.#undecided;
  }

  /** Begins to write down that COMMIT may be said: while the target loads there is time for it. */
  prepare(): void {
    this.#noting = handled(this.#record("deciding", "protocol"));
  }

  /** Done when it is written down, or rejects. Until COMMIT there is a way back. */
  get prepared(): Promise<void> {
    return this.#noting ?? Promise.reject(new FerryError("journal", "nothing was prepared."));
  }

  /**
   * COMMIT was not said, and never will be: the device runs here. Done when that is written down;
   * a process that ends before, which is false, asks the target after its restart.
   */
  async takeBack(): Promise<boolean> {
    const { tell, clock, budgets } = this.#parts;
    const isNoted = await this.#noting?.then(
      () => true,
      () => false,
    );
    if (isNoted !== true) return true;
    while (!this.#settled && !this.#halt.signal.aborted) {
      try {
        await this.#record("kept", "protocol");
        this.#settled = true;
      } catch (thrown) {
        tell({ kind: "note", why: messageOf(thrown) });
        await clock.sleep(budgets.askLastMs, this.#halt.signal);
      }
    }
    return this.#settled;
  }

  /** Says COMMIT and hears what came of it. Null when `halt` came first: then nothing changes. */
  async decide(conversation: Conversation): Promise<Settlement | null> {
    try {
      return await this.#settle(await this.#commit(conversation), "");
    } catch (thrown) {
      conversation.close();
      return await this.meet(messageOf(thrown));
    }
  }

  async #commit(conversation: Conversation): Promise<Settlement> {
    const { budgets, token } = this.#parts;
    const heard = { by: "protocol", conversation } as const;
    try {
      await conversation.send({ say: "commit", token });
      const { trouble, phases } = await conversation.next(["own"], budgets.ownMs);
      return { ...heard, fate: "own", sentence: trouble, theirs: phases };
    } catch (thrown) {
      if (!(thrown instanceof FerryError) || thrown.code !== peerRefused) throw thrown;
      return { ...heard, fate: "never", sentence: thrown.message, theirs: [] };
    }
  }

  /** Asks until there is an answer, from the other side or from an operator. */
  async meet(why: string): Promise<Settlement | null> {
    return await this.#settle(null, why);
  }

  /** The operator's word in the target's place. Refused when the source is not undecided. */
  resolve(fate: TargetFate): void {
    if (!this.#undecided) throw notUndecided();
    const sentence = "An operator has resolved it.";
    this.#resolution = { fate, sentence, by: "operator", theirs: [], conversation: null };
    this.#asking.abort();
  }

  /** Stops asking and decides nothing: the process ends. */
  halt(): void {
    this.#halt.abort();
  }

  /**
   * Writes the outcome down. What nobody has said yet is asked for; what cannot be written is not
   * true, and is asked for again.
   */
  async #settle(heard: Settlement | null, why: string): Promise<Settlement | null> {
    let settlement = heard;
    let reason = why;
    while (!this.#halt.signal.aborted) {
      settlement ??= await this.#ask(reason);
      if (settlement === null) continue;
      try {
        await this.#record(settlement.fate === "own" ? "gone" : "kept", settlement.by);
        this.#undecided = false;
        this.#settled = true;
        return settlement;
      } catch (thrown) {
        settlement.conversation?.close();
        settlement = null;
        reason = messageOf(thrown);
      }
    }
    settlement?.conversation?.close();
    return null;
  }

  /** Null when it was stopped, for a reason that the caller looks at. */
  async #ask(why: string): Promise<Settlement | null> {
    this.#undecided = true;
    this.#resolution = null;
    this.#asking = new AbortController();
    const stop = AbortSignal.any([this.#asking.signal, this.#halt.signal]);
    const answer = await askFate(this.#parts, why, stop);
    return answer === null ? this.#resolution : { ...answer, by: "protocol", theirs: [] };
  }

  async #record(decision: "deciding" | "kept" | "gone", by: JournalRecord["by"]): Promise<void> {
    const { journal, clock, identity } = this.#parts;
    await record(journal, clock, identity, decision, by);
  }
}
