import type { Frame, Link } from "../../../src/migration/hosts/link.ts";
import { decode, type MessageName } from "../../../src/migration/hosts/link-messages.ts";

/** What happens to a message on its way. */
export type Mishap = (message: MessageName, from: "source" | "target") => "lose" | "cut" | null;

/** Frames on their way in one direction before the sender waits. */
const room = 2;

class End implements Link {
  readonly peer: string;
  readonly #say: (frame: Frame) => boolean;
  readonly #close: () => void;
  readonly arrived: Frame[] = [];
  closed = false;
  #reader: (() => void) | null = null;
  readonly #senders: Array<() => void> = [];
  other: End | null = null;

  constructor(peer: string, say: (frame: Frame) => boolean, close: () => void) {
    this.peer = peer;
    this.#say = say;
    this.#close = close;
  }

  async send(frame: Frame): Promise<void> {
    if (this.closed) throw new Error("it is closed");
    // As a socket would: the payload may be used again when it is sent.
    const sent = { ...frame, payload: frame.payload.slice() };
    if (this.#say(frame)) this.other?.arrive(sent);
    const other = this.other as End;
    while (!this.closed && other.arrived.length >= room) {
      await new Promise<void>((resolve) => {
        other.#senders.push(resolve);
      });
    }
  }

  arrive(frame: Frame): void {
    this.arrived.push(frame);
    this.#reader?.();
  }

  async receive(): Promise<Frame | null> {
    while (this.arrived.length === 0 && !this.closed) {
      await new Promise<void>((resolve) => {
        this.#reader = resolve;
      });
    }
    this.#letSend();
    return this.arrived.shift() ?? null;
  }

  close(): void {
    this.#close();
  }

  end(): void {
    this.closed = true;
    this.wake();
    this.other?.wake();
  }

  wake(): void {
    this.#reader?.();
    this.#letSend();
  }

  #letSend(): void {
    for (const goOn of this.#senders.splice(0)) goOn();
  }
}

/** A link within this process. `mishap` looks at every message before it arrives. */
export function memoryLink(
  names: { readonly source: string; readonly target: string },
  mishap: Mishap = () => null,
): { source: Link; target: Link; cut: () => void; silence: () => void } {
  let silent = false;
  const cut = (): void => {
    source.end();
    target.end();
  };
  const sender =
    (from: "source" | "target") =>
    (frame: Frame): boolean => {
      const say = decode(frame)?.say;
      const what = say === undefined || say === "ping" ? null : mishap(say, from);
      if (what === "cut") cut();
      return what === null && !silent;
    };
  const source = new End(names.target, sender("source"), cut);
  const target = new End(names.source, sender("target"), cut);
  source.other = target;
  target.other = source;
  const silence = (): void => {
    silent = true;
  };
  return { source, target, cut, silence };
}
