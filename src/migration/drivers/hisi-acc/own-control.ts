import { errno } from "../../../base/errno.ts";
import { MailboxCommand, messagesMax, Qm } from "../../../spec/hisi-qm.ts";
import { QueueEntry, queuesShownMax, WindowFlags } from "../../../spec/hisi-qm-control.ts";
import type { Step } from "../../driver.ts";
import { ended } from "../../step.ts";
import { queueOfTables, sentQueue } from "./contexts.ts";
import type { ControlPath, FoundContexts, PathParts, TableAddresses } from "./control-path.ts";
import { giveBack } from "./guest-mailbox.ts";
import { GuestTable } from "./guest-tables.ts";
import { Mailbox } from "./mailbox.ts";
import type { AccState, FunctionState, QueueState } from "./sections.ts";
import { atMost, writeBack } from "./write-back.ts";

const { hold, still } = Qm.bits.STANDSTILL.mask;
const { committing } = Qm.bits.ACTIVE.mask;
const { executing, writingBack, writtenBack } = WindowFlags.mask;
const entryBytes = QueueEntry.size;

/** How long requests may take to end before they are ended, to run again; in milliseconds. */
export const finishMs = 1000;
/** The same for writing contexts back, which nothing here depends on. */
export const writeBackMs = 250;
/** The same for writes that cannot be begun anew: output over its input, entries of rings. */
export const commitMs = 500;

/**
 * By a control half of its own: a mailbox, a standstill and windows that the guest does not reach.
 * Nothing that a guest does, or leaves undone, keeps its function from being migrated: requests
 * that take too long are ended and run again where the function goes on.
 */
export class OwnControl implements ControlPath {
  readonly mailbox: Mailbox;
  standing = false;
  found: FoundContexts | null = null;
  readonly #parts: PathParts;
  #tablesWritten = false;
  /** The guest's own write-back, as it was before ours: `WindowFlags`. */
  #guestsWriteBack = 0;
  /** What the window on queues shows. */
  readonly #window = new Uint8Array(queuesShownMax * entryBytes);
  readonly #windowView = new DataView(this.#window.buffer);

  constructor(parts: PathParts) {
    this.#parts = parts;
    this.mailbox = new Mailbox(parts.port, "CONTROL_MAILBOX");
  }

  hold(): Step {
    this.standing = true;
    return ended(this.#stand(hold));
  }

  #stand(how: number): number {
    const { port } = this.#parts;
    port.write("STANDSTILL", how);
    return port.read("STANDSTILL") === how ? port.result : -errno.EIO;
  }

  *settle(): Step {
    const { port, now } = this.#parts;
    // Requests have ended, and what there was to tell of them is told.
    yield* atMost(port.whileSet("ACTIVE"), finishMs, now);
    const shown = yield* this.mailbox.run({ command: MailboxCommand.functionWindow, get: true });
    if (shown < 0) return shown;
    this.#guestsWriteBack = port.read("FUNCTION_FLAGS") & (writingBack | writtenBack);
    this.#tablesWritten = (yield* atMost(writeBack(port), writeBackMs, now)) === 0;
    // Last, and nothing between it and the standstill: requests under way may come to it any time.
    yield* atMost(port.whileSet("ACTIVE", committing), commitMs, now);
    return this.#stand(hold | still);
  }

  *find(): Step {
    const { port, queueCount } = this.#parts;
    const queues: QueueState[] = [];
    for (let from = 0; from < queueCount; ) {
      if (from > 0) yield;
      const command = MailboxCommand.queueWindow;
      const result = yield* this.mailbox.run({ command, queue: from, get: true });
      if (result < 0) return result;
      const { resultLow: shown, resultHigh: next } = this.mailbox;
      if (shown > queuesShownMax || next <= from) return -errno.EIO;
      const bytes = this.#window.subarray(0, shown * entryBytes);
      port.readBytes("QUEUE_WINDOW", bytes);
      if (!this.#take(shown, from, Math.min(next, queueCount), queues)) return -errno.EIO;
      from = next;
    }
    return yield* this.#findFunction(queues);
  }

  /** Adds the queues that the window shows; false when they are not some of `from` to `end`. */
  #take(shown: number, from: number, end: number, queues: QueueState[]): boolean {
    const { sqeShift } = this.#parts;
    let least = from;
    for (let index = 0; index < shown; index++) {
      const queue = QueueEntry.get(this.#windowView, index * entryBytes);
      if (queue.number < least || queue.number >= end) return false;
      least = queue.number + 1;
      queues.push(sentQueue(queue, sqeShift));
    }
    return true;
  }

  *#findFunction(queues: readonly QueueState[]): Step {
    const { port } = this.#parts;
    const result = yield* this.mailbox.run({ command: MailboxCommand.functionWindow, get: true });
    if (result < 0) return result;
    const messages = port.read("MESSAGES");
    const flags = port.read("FUNCTION_FLAGS") & ~(writingBack | writtenBack);
    this.found = {
      queues,
      function: {
        vfState: port.read("VF_STATE") & 1,
        flags: (flags | this.#guestsWriteBack) >>> 0,
        faults: port.read("FUNCTION_FAULTS"),
        tablesWritten: this.#tablesWritten ? 1 : 0,
        mailbox: port.readMailbox("MAILBOX"),
        outgoing: port.readRow("OUTGOING", 2),
        messages,
        incoming: port.readRow("INCOMING", 2 * messagesMax),
        reserved: 0,
      },
    };
    return port.result;
  }

  lacks(): string | null {
    return null;
  }

  prepare(): number {
    this.standing = true;
    return this.#stand(hold | still);
  }

  *install({ data, queues, function: entry }: AccState): Step {
    const result =
      queues === null && data !== null
        ? yield* this.#installFromTables(data)
        : yield* this.#installAll(queues ?? []);
    return result < 0 || entry === null ? result : yield* this.#installFunction(entry);
  }

  *#installAll(queues: readonly QueueState[]): Step {
    const { port } = this.#parts;
    for (let done = 0; done < queues.length; done += queuesShownMax) {
      if (done > 0) yield;
      const some = queues.slice(done, done + queuesShownMax);
      for (const [index, queue] of some.entries()) {
        QueueEntry.set(this.#windowView, index * entryBytes, queue);
      }
      port.writeBytes("QUEUE_WINDOW", this.#window.subarray(0, some.length * entryBytes));
      const command = MailboxCommand.queueWindow;
      const result = yield* this.mailbox.run({ command, queue: some.length });
      if (result < 0) return result;
    }
    return port.result;
  }

  /** A state of the kernel's driver: what is good in the tables is a queue. */
  *#installFromTables({ sqcTable, cqcTable }: TableAddresses): Step {
    const { memory, queueCount, sqeShift } = this.#parts;
    if (sqcTable === 0 || cqcTable === 0) return 0;
    const sqc = new GuestTable(memory, sqcTable, queueCount);
    const cqc = new GuestTable(memory, cqcTable, queueCount);
    const result = (yield* sqc.read()) || (yield* cqc.read());
    if (result < 0) return result;
    const found = Array.from({ length: queueCount }, (_, queue) =>
      queueOfTables(queue, sqc.context(queue), cqc.context(queue), sqeShift),
    );
    return yield* this.#installAll(found.filter((queue) => queue !== null));
  }

  *#installFunction(entry: FunctionState): Step {
    const { port } = this.#parts;
    port.write("VF_STATE", entry.vfState);
    port.write("FUNCTION_FLAGS", entry.flags & ~executing);
    port.write("FUNCTION_FAULTS", entry.faults);
    port.writeRow("OUTGOING", entry.outgoing);
    port.write("MESSAGES", entry.messages);
    port.writeRow("INCOMING", entry.incoming);
    return yield* this.mailbox.run({ command: MailboxCommand.functionWindow });
  }

  resume(): Step {
    const result = this.#stand(0);
    this.standing = false;
    return ended(result);
  }

  finish(entry: FunctionState | null): Step {
    const { port } = this.#parts;
    if (entry !== null) giveBack(port, entry.mailbox, (entry.flags & executing) !== 0);
    return ended(port.result);
  }

  forget(): void {
    this.standing = false;
    this.found = null;
  }
}
