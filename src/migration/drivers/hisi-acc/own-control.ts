import { errno } from "../../../base/errno.ts";
import { contextBytes, MailboxCommand, messagesMax, Qm } from "../../../spec/hisi-qm.ts";
import { WindowFlags } from "../../../spec/hisi-qm-control.ts";
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
const contextDwords = contextBytes / 4;

/** How long requests may take to end before they are ended, to run again; in milliseconds. */
export const finishMs = 1000;
/** The same for writing contexts back, which nothing here depends on. */
export const writeBackMs = 250;
/** The same for writes that cannot be begun anew: output over its input, entries of rings. */
export const commitMs = 500;
/** Queues that are read or installed in one turn. */
const queuesPerTurn = 64;

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
    const { port, queueCount, sqeShift } = this.#parts;
    const queues: QueueState[] = [];
    for (let next = 0; next < queueCount; ) {
      if (queues.length % queuesPerTurn === queuesPerTurn - 1) yield;
      const command = MailboxCommand.queueWindow;
      const result = yield* this.mailbox.run({ command, queue: next, get: true });
      if (result < 0) return result;
      const number = this.mailbox.resultLow;
      if (number >= queueCount) break;
      if (number < next) return -errno.EIO;
      next = number + 1;
      const flags = port.read("QUEUE_FLAGS");
      const sqc = port.readRow("QUEUE_SQC", contextDwords);
      const cqc = port.readRow("QUEUE_CQC", contextDwords);
      queues.push(sentQueue({ number, flags, sqc, cqc }, sqeShift));
    }
    return yield* this.#findFunction(queues);
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

  *#installAll(queues: Iterable<QueueState>): Step {
    const { port } = this.#parts;
    let count = 0;
    for (const { number, flags, sqc, cqc } of queues) {
      if (++count % queuesPerTurn === 0) yield;
      port.writeRow("QUEUE_SQC", sqc);
      port.writeRow("QUEUE_CQC", cqc);
      port.write("QUEUE_FLAGS", flags);
      const command = MailboxCommand.queueWindow;
      const result = yield* this.mailbox.run({ command, queue: number });
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
