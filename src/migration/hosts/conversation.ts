import { FerryError, messageOf } from "../../base/errors.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import type { Link } from "./link.ts";
import { decode, encode, type Message, type MessageName, type MessageOf } from "./link-messages.ts";

/** Messages that are read before somebody asks for them. */
const queuedMax = 2;

/** Error codes by which a conversation ends before its purpose. */
export const linkLost = "link-lost";
export const peerAborted = "peer-aborted";
export const peerRefused = "peer-refused";

/** What ends a conversation whenever it is said, as an error with the other side's sentence. */
function ending(message: Message | undefined): FerryError | null {
  if (message?.say === "abort") return new FerryError(peerAborted, message.reason);
  if (message?.say === "refuse") return new FerryError(peerRefused, message.sentence);
  return null;
}

/**
 * A link with its messages: sends, waits for what may come next, shows that it is there and notices
 * when the other side does not. Reading stops when nobody asks for what was read, so a slow reader
 * slows the sender down.
 */
export class Conversation {
  readonly #link: Link;
  readonly #clock: Clock;
  readonly #budgets: Budgets;
  #peer: string;
  readonly #queue: Message[] = [];
  readonly #over = new AbortController();
  #lost: FerryError | null = null;
  #waiting: (() => void) | null = null;
  /** Which wait is on: one that was cut off takes nothing. */
  #turn = 0;
  #room: (() => void) | null = null;
  /** When the other side showed last that it is there; null while we do not look. */
  #heardMs: number | null = null;
  #pinging = false;

  constructor(link: Link, clock: Clock, budgets: Budgets) {
    this.#link = link;
    this.#peer = link.peer;
    this.#clock = clock;
    this.#budgets = budgets;
    void this.#listen();
    void this.#watch();
  }

  /** Who the other side is; of several names the one by which it was recognised. */
  get peer(): string {
    return this.#peer;
  }

  /** All that the other side is called. */
  get names(): readonly string[] {
    return [this.#link.peer, ...(this.#link.otherNames ?? [])];
  }

  /** It is known by this one of its names. */
  recognise(name: string): void {
    this.#peer = name;
  }

  /** Given when it is over; the reason says why. */
  get over(): AbortSignal {
    return this.#over.signal;
  }

  /** Done when it is on its way; an error, too, when the other side has said that it is over. */
  async send(message: Message): Promise<void> {
    if (this.#lost === null) {
      await this.#link
        .send(encode(message))
        .catch((thrown: unknown) => this.#lose(messageOf(thrown)));
    }
    const error = ending(this.#queue[0]) ?? this.#lost;
    if (error !== null) throw error;
  }

  /** Says what nothing depends on. A link that does not take it soon is given up. */
  async mention(message: Message): Promise<void> {
    const late = this.#clock.after(this.#budgets.pingMs, () => this.close());
    await this.send(message).catch(() => {});
    late();
  }

  /** Memory of DATA that nobody needs any more. */
  recycle(bytes: Uint8Array<ArrayBuffer>): void {
    this.#link.recycle?.(bytes);
  }

  /** The next message, which must be one of these; ABORT and REFUSE are errors. */
  async next<N extends MessageName>(
    expected: readonly N[],
    budgetMs: number,
    cancel?: AbortSignal,
  ): Promise<MessageOf<N>> {
    const what = `the other side's ${expected.map((each) => each.toUpperCase()).join(" or ")}`;
    const wait = { what, budgetMs, cancel };
    const taken = within(this.#clock, wait, this.#take());
    const message = await taken.finally(() => this.#turn++);
    if (expected.some((each) => each === message.say)) return message as MessageOf<N>;
    throw ending(message) ?? this.#lose(`it said ${message.say.toUpperCase()} out of turn`);
  }

  async #take(): Promise<Message> {
    const turn = this.#turn;
    while (this.#queue.length === 0) {
      if (this.#lost !== null) throw this.#lost;
      await new Promise<void>((resolve) => {
        this.#waiting = resolve;
      });
      if (turn !== this.#turn) throw new Error("nobody waits for it any more");
    }
    this.#room?.();
    return this.#queue.shift() as Message;
  }

  /** Ends it for this side; says nothing. */
  close(): void {
    this.#lose("this side has closed it");
  }

  #lose(why: string): FerryError {
    if (this.#lost !== null) return this.#lost;
    this.#lost = new FerryError(linkLost, `the link to ${this.peer} is lost: ${why}.`);
    this.#over.abort(ending(this.#queue[0]) ?? this.#lost);
    this.#link.close();
    this.#waiting?.();
    this.#room?.();
    return this.#lost;
  }

  async #listen(): Promise<void> {
    while (this.#lost === null) {
      this.#heardMs = this.#clock.now();
      const frame = await this.#link.receive().catch((thrown: unknown) => {
        this.#lose(messageOf(thrown));
        return null;
      });
      const message = frame === null ? null : decode(frame);
      if (message === null) {
        this.#lose(frame === null ? "the other side has ended it" : "it said what makes no sense");
        return;
      }
      if (message.say === "ping") continue;
      this.#heardMs = null;
      this.#queue.push(message);
      this.#waiting?.();
      while (this.#queue.length >= queuedMax && this.#lost === null) {
        await new Promise<void>((resolve) => {
          this.#room = resolve;
        });
      }
    }
  }

  async #watch(): Promise<void> {
    const { pingMs, silenceMs } = this.#budgets;
    while (this.#lost === null) {
      await this.#clock.sleep(pingMs, this.#over.signal);
      const silentMs = this.#heardMs === null ? 0 : this.#clock.now() - this.#heardMs;
      if (silentMs > silenceMs) this.#lose(`it has been silent for ${silenceMs} ms`);
      else void this.#ping();
    }
  }

  /** One at a time: behind a full link they would pile up. */
  async #ping(): Promise<void> {
    if (this.#pinging || this.#lost !== null) return;
    this.#pinging = true;
    await this.send({ say: "ping" }).catch(() => {});
    this.#pinging = false;
  }
}
