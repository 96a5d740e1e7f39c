import { errno } from "../../../base/errno.ts";
import { MailboxCommand, MailboxHead } from "../../../spec/hisi-qm.ts";
import type { Step } from "../../driver.ts";
import { isBusy, type Mailbox } from "./mailbox.ts";
import type { QmPort } from "./port.ts";

const { command } = MailboxHead.mask;

/**
 * Puts into the guest's mailbox what it held: the guest may be about to look. A command that was
 * under way (`executing`) starts anew; one of which the guest has stored a part does not start.
 */
export function giveBack(port: QmPort, words: readonly number[], executing: boolean): void {
  const isPart = isBusy(words) && !executing;
  port.writeMailbox("MAILBOX", isPart ? words.slice(0, 3) : words);
}

/** The mailbox that the guest has too, while its plane is closed. */
export class GuestMailbox {
  readonly mailbox: Mailbox;
  readonly #port: QmPort;
  readonly #idleMs: number;
  readonly #now: () => number;
  #kept: readonly number[] | null = null;

  /** A command of the guest's may take `idleMs` to end. */
  constructor(port: QmPort, mailbox: Mailbox, idleMs: number, now: () => number) {
    this.#port = port;
    this.mailbox = mailbox;
    this.#idleMs = idleMs;
    this.#now = now;
  }

  /** What the guest left in it; null while it is the guest's. */
  get kept(): readonly number[] | null {
    return this.#kept;
  }

  /**
   * Waits for the guest's command to end. What stays busy is taken for a command of which the guest
   * has stored a part; if it is one that does not end, `take` will tell.
   */
  *await(): Step {
    const endMs = this.#now() + this.#idleMs;
    while (isBusy(this.mailbox.words) && this.#now() < endMs && this.#port.result === 0) yield;
    return this.#port.result;
  }

  /** Begins a command over what is there: EBUSY when a command of the guest's runs. */
  take(request: { readonly command: number }): number {
    const { words } = this.mailbox;
    // What cannot be told from ours is not ours.
    const isSame = ((words[0] as number) & command) === request.command;
    if (isBusy(words) && isSame) return -errno.EBUSY;
    const posted = this.mailbox.post(request);
    if (posted === 0) this.#kept = words;
    return posted;
  }

  /** Waits for our command to end, and puts back what the guest left. */
  *giveBack(): Step {
    const kept = this.#kept;
    if (kept === null) return 0;
    yield* this.await();
    giveBack(this.#port, kept, false);
    this.#kept = null;
    return 0;
  }

  /** The function was reset: there is nothing to put back. */
  forget(): void {
    this.#kept = null;
  }
}

/** The command that makes a function begin no more requests. */
export const pause = { command: MailboxCommand.pause } as const;
