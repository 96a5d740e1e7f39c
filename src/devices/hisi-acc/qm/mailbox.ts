import { pending } from "../../../memory/transfer.ts";
import { MailboxHead, MailboxStatus } from "../../../spec/hisi-qm.ts";
import { type CommandParts, Commands } from "./commands.ts";
import type { QmBank } from "./event-queue.ts";
import { Fiber } from "./fiber.ts";
import { FunctionFlags } from "./state.ts";

const flag = FunctionFlags.mask;
const { busy, status } = MailboxHead.mask;
const dword = { head: 0, low: 1, high: 2, last: 3 } as const;

/**
 * The 128 bits through which a driver commands the function. They may come as one, two or four
 * accesses, ascending; the command begins when the last dword is in, and is over when `busy` is
 * clear. While it runs nothing that is written is taken.
 */
export class Mailbox {
  readonly #bank: QmBank;
  readonly #name: "MAILBOX" | "CONTROL_MAILBOX";
  readonly #executing: number;
  readonly #parts: CommandParts;
  readonly #fiber: Fiber;
  readonly #commands: Commands;

  constructor(bank: QmBank, parts: CommandParts, name: "MAILBOX" | "CONTROL_MAILBOX") {
    const guests = name === "MAILBOX";
    this.#bank = bank;
    this.#name = name;
    this.#executing = guests ? flag.executing : flag.controlExecuting;
    this.#parts = parts;
    this.#fiber = new Fiber(parts.memory);
    this.#commands = new Commands(parts, this.#fiber, !guests);
  }

  /** Dword `index` is written. */
  write(value: number, index: number): void {
    const { state, controlMailbox } = this.#parts;
    if (this.#name === "CONTROL_MAILBOX" && !controlMailbox) return;
    if (state.is(this.#executing)) return;
    this.#bank.set(this.#name, value, index);
    if (index !== dword.last || (this.#bank.get(this.#name, dword.head) & busy) === 0) return;
    state.set(this.#executing, true);
    this.#start();
    this.step();
  }

  #start(): void {
    const word = (index: number) => this.#bank.get(this.#name, index);
    const { head, low, high } = dword;
    this.#fiber.start(this.#commands.run(word(head), word(low), word(high)));
  }

  /** Would `step` get anywhere? */
  get ready(): boolean {
    return this.#fiber.ready(this.#parts.requests.progress);
  }

  step(): void {
    const result = this.#fiber.step(this.#parts.requests.progress);
    if (result === pending) return;
    const failed = result < 0;
    const outcome = failed ? MailboxStatus.failed : MailboxStatus.done;
    const head = this.#bank.get(this.#name, dword.head) & ~(busy | status);
    this.#bank.set(this.#name, head | MailboxHead.pack({ status: outcome }), dword.head);
    if (!failed) {
      this.#bank.set(this.#name, this.#commands.resultLow, dword.low);
      this.#bank.set(this.#name, this.#commands.resultHigh, dword.high);
    }
    this.#parts.state.set(this.#executing, false);
  }

  /** Starts a command anew that the state says was under way, after it was aborted or replaced. */
  recover(): void {
    this.#fiber.abort();
    if (this.#parts.state.is(this.#executing)) this.#start();
  }
}
