import { FerryError } from "../base/errors.ts";
import { MailboxHead, MailboxStatus, Qm, qmBar } from "../spec/hisi-qm.ts";
import type { PciFunction } from "./pci-function.ts";

const two32 = 2 ** 32;
const pollMs = 1;

/** What a command is about, apart from the function as a whole. */
export interface MailboxArguments {
  readonly queue?: number;
  /** Of a context or a table in memory. */
  readonly address?: number;
  /** Reads instead of setting. */
  readonly get?: boolean;
}

/** How the driver gives orders to the queue manager: one at a time, and it waits for the end. */
export class Mailbox {
  readonly #function: PciFunction;
  readonly #timeoutMs: number;

  constructor(pciFunction: PciFunction, timeoutMs: number) {
    this.#function = pciFunction;
    this.#timeoutMs = timeoutMs;
  }

  /** Does a command; a FerryError when the device refuses it or takes too long. */
  run(command: number, { queue = 0, address = 0, get = false }: MailboxArguments = {}): void {
    const head = MailboxHead.pack({ command, busy: true, get, queue });
    const high = Math.floor(address / two32);
    this.#function.write(qmBar, Qm.at.MAILBOX, head, address % two32, high, 0);
    const status = this.#waitForEnd(command);
    if (status === MailboxStatus.done) return;
    const what = `mailbox command ${command} for queue ${queue}`;
    throw new FerryError("device-error", `the device refused ${what}: status ${status}.`);
  }

  #waitForEnd(command: number): number {
    const endMs = performance.now() + this.#timeoutMs;
    for (;;) {
      const found = MailboxHead.unpack(this.#function.read(qmBar, Qm.at.MAILBOX));
      if (!found.busy) return found.status;
      if (performance.now() > endMs) {
        throw new FerryError("device-timeout", `mailbox command ${command} does not end.`);
      }
      this.#function.wait(pollMs);
    }
  }

  /** The low and the high half of what the last command with `get` answered. */
  get result(): readonly [low: number, high: number] {
    const { MAILBOX } = Qm.at;
    return [this.#function.read(qmBar, MAILBOX + 4), this.#function.read(qmBar, MAILBOX + 8)];
  }
}
