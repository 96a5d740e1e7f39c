import { assert } from "../base/assert.ts";
import { type MessageDma, pending, type Touches } from "../memory/transfer.ts";

/** Writes to many places of a client's memory, for somebody who is told how they ended. */
export class Touching {
  readonly #messages: MessageDma;
  readonly #send: () => void;
  #touches: Touches | null = null;
  #ended: (result: number) => void = () => {};

  /** `send` sends what `messages` has taken: whoever waits for it has a guest that stands still. */
  constructor(messages: MessageDma, send: () => void) {
    this.#messages = messages;
    this.#send = send;
  }

  /** True until it has ended. */
  get active(): boolean {
    return this.#touches !== null;
  }

  /** Begins; one at a time. `ended` is told 0 or a negated errno. */
  begin(touches: Touches, ended: (result: number) => void): void {
    assert(this.#touches === null, "a client's memory is being touched already");
    const result = this.#messages.submit(touches);
    if (result < 0) touches.status = result;
    this.#touches = touches;
    this.#ended = ended;
    if (result === 0) this.#send();
    this.settle();
  }

  /** Tells how it has ended, if it has. */
  settle(): void {
    const touches = this.#touches;
    if (touches === null || touches.status === pending) return;
    this.#touches = null;
    this.#ended(touches.status);
  }
}
