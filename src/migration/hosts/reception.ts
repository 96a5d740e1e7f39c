import { FerryError, messageOf } from "../../base/errors.ts";
import { Conversation } from "./conversation.ts";
import type { Outcome } from "./events.ts";
import { fateOf, type JournalRecord } from "./journal.ts";
import type { Link } from "./link.ts";
import { type MessageOf, protocolVersion } from "./link-messages.ts";
import type { Offers } from "./offers.ts";
import { Target, type TargetParts } from "./target.ts";
import { type TargetFate, Verdict } from "./target-verdict.ts";

/** Links at once on which nothing complete was said yet. */
export const strangersMax = 8;
/** Migrations whose targets are remembered beside the journal. */
const targetsMax = 64;

/** What is answered to a source that asks what has become of its device. */
interface Knowledge {
  readonly fate: TargetFate | "undecided";
  readonly sentence: string;
}

/** What a reception works with; the rest depends on the source that comes. */
export interface ReceptionParts extends Omit<TargetParts, "at" | "tell" | "thaw"> {
  readonly offers: Offers;
  /** A source has come with a device: who hears what it tells, and how it is to end. */
  arrives(
    hello: MessageOf<"hello">,
    peer: string,
    at: TargetParts["at"],
  ): Pick<TargetParts, "tell" | "thaw">;
}

/**
 * Where sources call: a device that was offered a place becomes a `Target`, and who asks after one
 * that came before is told what became of it.
 */
export class Reception {
  readonly #parts: ReceptionParts;
  readonly #targets = new Map<string, Target>();
  #strangers = 0;

  constructor(parts: ReceptionParts) {
    this.#parts = parts;
  }

  /** The targets of this process, the newest last. */
  get targets(): ReadonlyMap<string, Target> {
    return this.#targets;
  }

  /** Serves one link to its end. What came of the migration; null when there was none. */
  async serve(link: Link, at: TargetParts["at"]): Promise<Outcome | null> {
    if (this.#strangers >= strangersMax) {
      link.close();
      return null;
    }
    const { clock, budgets } = this.#parts;
    const talk = new Conversation(link, clock, budgets);
    try {
      this.#strangers += 1;
      const first = await talk
        .next(["hello", "query"], budgets.greetMs)
        .finally(() => (this.#strangers -= 1));
      if (first.say === "hello") return await this.#welcome(first, talk, at);
      await this.#answer(first.token, talk);
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
    } finally {
      talk.close();
    }
    return null;
  }

  async #welcome(
    hello: MessageOf<"hello">,
    talk: Conversation,
    at: TargetParts["at"],
  ): Promise<Outcome | null> {
    const misfit = this.#misfit(hello, talk.peer);
    if (misfit !== null) {
      await talk.send({ say: "refuse", sentence: misfit });
      return null;
    }
    if (hello.purpose === "precheck") {
      await this.#judge(hello, talk);
      return null;
    }
    const how = this.#parts.arrives(hello, talk.peer, at);
    const target = new Target({ ...this.#parts, ...how, at }, hello, talk);
    this.#remember(hello.token, target);
    return await target.run();
  }

  /** Why this HELLO gets no place; null when it has one, which is used up unless it only asks. */
  #misfit({ protocol, token, purpose }: MessageOf<"hello">, peer: string): string | null {
    if (protocol !== protocolVersion) {
      return `protocol version ${protocol} is not spoken here; it is ${protocolVersion}.`;
    }
    const { offers, journal } = this.#parts;
    if (fateOf(journal, "target", token) !== null) return "this migration was here before.";
    const offer = purpose === "migrate" ? offers.take(token, peer) : offers.find(token, peer);
    return typeof offer === "string" ? `${offer}.` : null;
  }

  async #judge({ compatibility }: MessageOf<"hello">, talk: Conversation): Promise<void> {
    const { port } = this.#parts;
    const sentence = await port.judge(compatibility).catch(messageOf);
    if (sentence !== null) await talk.send({ say: "refuse", sentence });
    else await talk.send({ say: "accept", device: port.name });
  }

  #remember(token: string, target: Target): void {
    for (const [old, { undecided, waitsForThaw, fate }] of this.#targets) {
      if (this.#targets.size < targetsMax) break;
      if (!undecided && !waitsForThaw && fate !== null) this.#targets.delete(old);
    }
    this.#targets.set(token, target);
  }

  /** Tells the source what became of its device, and hears that it was heard. */
  async #answer(token: string, talk: Conversation): Promise<void> {
    const knowledge = await this.#know(token, talk.peer);
    await talk.send({ say: "answer", ...knowledge });
    if (knowledge.fate === "undecided") return;
    await talk.next(["released"], this.#parts.budgets.releaseMs);
    await this.#verdictOf(token)?.close();
  }

  /** A source that asks has lost its link, so nothing can come of a COMMIT that is under way. */
  async #know(token: string, peer: string): Promise<Knowledge> {
    const record = fateOf(this.#parts.journal, "target", token)?.record;
    if (record === undefined || record.peer !== peer) return unknown;
    const live = this.#targets.get(token);
    try {
      const fate = await (live?.decide("never", "protocol") ?? this.settle(record));
      const lost = live === undefined && fate === "own";
      return { fate, sentence: lost ? diedSince : "" };
    } catch (thrown) {
      return { fate: "undecided", sentence: messageOf(thrown) };
    }
  }

  /** After a restart: a state that had come has gone with the process, so it is `never`. */
  async settle(record: JournalRecord): Promise<TargetFate> {
    return await new Verdict(this.#parts.journal, this.#parts.clock, record).decide("never");
  }

  #verdictOf(token: string): Verdict | null {
    const { journal, clock } = this.#parts;
    const record = fateOf(journal, "target", token)?.record;
    return record === undefined ? null : new Verdict(journal, clock, record);
  }
}

const unknown: Knowledge = {
  fate: "undecided",
  sentence: "this host's journal knows nothing of it: ask the host that it was sent to.",
};
const diedSince = "The target was restarted since; what the device was doing may be lost.";
