import { errno } from "../../../base/errno.ts";
import { MailboxHead, MailboxStatus } from "../../../spec/hisi-qm.ts";
import type { Step } from "../../driver.ts";
import type { Mailboxes, QmPort } from "./port.ts";

const { mask } = MailboxHead;
/** What says which command it is. */
const identity = mask.command | mask.get | mask.queue;

/** A command, as the mailbox takes it. */
export interface Request {
  readonly command: number;
  readonly queue?: number;
  readonly get?: boolean;
  /** Guest address, or immediate value. */
  readonly low?: number;
  readonly high?: number;
}

/** What four dwords say of a command's progress. */
export const isBusy = (words: readonly number[]): boolean =>
  ((words[0] as number) & mask.busy) !== 0;

/** A mailbox of the function's, as who migrates it uses it. */
export class Mailbox {
  /** Of the last command that gave one. */
  resultLow = 0;
  resultHigh = 0;
  readonly #port: QmPort;
  readonly #name: Mailboxes;

  constructor(port: QmPort, name: Mailboxes) {
    this.#port = port;
    this.#name = name;
  }

  get words(): number[] {
    return this.#port.readMailbox(this.#name);
  }

  /** Stores a command: EBUSY when the mailbox does not take it. */
  post({ command, queue = 0, get = false, low = 0, high = 0 }: Request): number {
    const head = MailboxHead.pack({ command, queue, get, busy: true });
    this.#port.writeMailbox(this.#name, [head, low, high, 0]);
    const [seen = 0] = this.words;
    return ((seen ^ head) & identity) === 0 ? this.#port.result : -errno.EBUSY;
  }

  /** Waits for the end of the command that was stored. */
  *outcome(): Step {
    let words = this.words;
    while (isBusy(words) && this.#port.result === 0) {
      yield;
      words = this.words;
    }
    const [head = 0, low = 0, high = 0] = words;
    this.resultLow = low;
    this.resultHigh = high;
    const { status } = MailboxHead.unpack(head);
    return status === MailboxStatus.done ? this.#port.result : -errno.EIO;
  }

  *run(request: Request): Step {
    const posted = this.post(request);
    return posted < 0 ? posted : yield* this.outcome();
  }
}
