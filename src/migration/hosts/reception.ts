import { FerryError, messageOf } from "../../base/errors.ts";
import { Conversation } from "./conversation.ts";
import type { Outcome, Tell } from "./events.ts";
import { type Fate, fateOf, type JournalRecord } from "./journal.ts";
import type { Link } from "./link.ts";
import { type MessageOf, protocolVersion } from "./link-messages.ts";
import type { Offer, Offers } from "./offers.ts";
import { Target, type TargetParts } from "./target.ts";
import { type TargetFate, Verdict } from "./target-verdict.ts";

/** Links of one host at once on which nothing complete was said yet, or only a question. */
export const strangersMax = 8;
/** Migrations whose targets are remembered beside the journal. */
const targetsMax = 64;

/** What is answered to a source that asks what has become of its device. */
interface Knowledge {
  readonly fate: TargetFate | "undecided";
  readonly sentence: string;
}

/** What a reception works with; the rest depends on the source that comes. */
export interface ReceptionParts extends Omit<TargetParts, "at" | "tell" | "thaw" | "asks"> {
  readonly offers: Offers;
  /** A source has come with a device: who hears what it tells. */
  arrives(hello: MessageOf<"hello">, peer: string, at: TargetParts["at"]): Tell;
}

/**
 * Where sources call: a device that was offered a place becomes a `Target`, and who asks after one
 * that came before is told what became of it.
 */
export class Reception {
  readonly #parts: ReceptionParts;
  readonly #targets = new Map<string, Target>();
  /** How many there are of each host. */
  readonly #strangers = new Map<string, number>();

  constructor(parts: ReceptionParts) {
    this.#parts = parts;
  }

  /** The targets of this process, the newest last. */
  get targets(): ReadonlyMap<string, Target> {
    return this.#targets;
  }

  /** Serves one link to its end. What came of the migration; null when there was none. */
  async serve(link: Link, at: TargetParts["at"]): Promise<Outcome | null> {
    const { peer } = link;
    if ((this.#strangers.get(peer) ?? 0) >= strangersMax) {
      link.close();
      return null;
    }
    const { clock, budgets } = this.#parts;
    const talk = new Conversation(link, clock, budgets);
    try {
      this.#countStrangers(peer, 1);
      const hello = await this.#hear(talk).finally(() => this.#countStrangers(peer, -1));
      if (hello !== null) return await this.#welcome(hello, talk, at);
    } catch (thrown) {
      if (!(thrown instanceof FerryError)) throw thrown;
    } finally {
      talk.close();
    }
    return null;
  }

  #countStrangers(peer: string, more: number): void {
    const count = (this.#strangers.get(peer) ?? 0) + more;
    if (count === 0) this.#strangers.delete(peer);
    else this.#strangers.set(peer, count);
  }

  /** What is said first; null for a question, once it is answered. */
  async #hear(talk: Conversation): Promise<MessageOf<"hello"> | null> {
    const first = await talk.next(["hello", "query"], this.#parts.budgets.greetMs);
    if (first.say === "hello") return first;
    await this.#answer(first.token, talk);
    return null;
  }

  async #welcome(
    hello: MessageOf<"hello">,
    talk: Conversation,
    at: TargetParts["at"],
  ): Promise<Outcome | null> {
    const offer = this.#offerFor(hello, talk.names);
    if (typeof offer === "string") {
      await talk.send({ say: "refuse", sentence: offer });
      return null;
    }
    talk.recognise(offer.from);
    if (hello.purpose === "precheck") {
      await this.#judge(hello, talk);
      return null;
    }
    const tell = this.#parts.arrives(hello, talk.peer, at);
    const { thaw, asks } = offer;
    const target = new Target({ ...this.#parts, tell, thaw, asks, at }, hello, talk);
    this.#remember(hello.token, target);
    const outcome = await target.run();
    // Nothing was decided, and there is nothing that anybody could ask.
    if (target.fate === null && !target.undecided) this.#targets.delete(hello.token);
    await target.hearReleased();
    return outcome;
  }

  /** The place for this HELLO, which is used up unless it only asks, or why there is none. */
  #offerFor(
    { protocol, token, purpose }: MessageOf<"hello">,
    names: readonly string[],
  ): Offer | string {
    if (protocol !== protocolVersion) {
      return `protocol version ${protocol} is not spoken here; it is ${protocolVersion}.`;
    }
    const { offers, journal } = this.#parts;
    const before = fateOf(journal, "target", token);
    if (before !== null) return wasHere(before);
    if (this.#targets.has(token)) return "this migration comes here already.";
    return purpose === "migrate" ? offers.take(token, names) : offers.find(token, names);
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
    const knowledge = await this.#know(token, talk.names);
    await talk.send({ say: "answer", ...knowledge });
    if (knowledge.fate === "undecided") return;
    await talk.next(["released"], this.#parts.budgets.releaseMs);
    await this.#verdictOf(token)?.close();
  }

  /** A source that asks has lost its link, so nothing can come of a COMMIT that is under way. */
  async #know(token: string, names: readonly string[]): Promise<Knowledge> {
    const record = fateOf(this.#parts.journal, "target", token)?.record;
    if (record === undefined || !names.includes(record.peer)) return unknown;
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

function wasHere({ decision }: Fate): string {
  const ended = decision === "own" ? "and has moved" : "and did not get in: try another host";
  return `this migration was here before, ${ended}.`;
}

const unknown: Knowledge = {
  fate: "undecided",
  sentence: "this host's journal knows nothing of it: ask the host that it was sent to.",
};
const diedSince = "The target was restarted since; what the device was doing may be lost.";
