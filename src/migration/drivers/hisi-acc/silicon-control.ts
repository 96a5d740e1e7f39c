import { errno } from "../../../base/errno.ts";
import { messagesMax, Qm } from "../../../spec/hisi-qm.ts";
import { QueueFlags, WindowFlags } from "../../../spec/hisi-qm-control.ts";
import type { Step } from "../../driver.ts";
import { queueOfTables, sqcOfTables } from "./contexts.ts";
import type { ControlPath, FoundContexts, PathParts, TableAddresses } from "./control-path.ts";
import { GuestMailbox, giveBack, pause } from "./guest-mailbox.ts";
import { GuestTable } from "./guest-tables.ts";
import { Mailbox } from "./mailbox.ts";
import type { AccState, QueueState } from "./sections.ts";
import { writeBack } from "./write-back.ts";

const either = QueueFlags.mask.sq | QueueFlags.mask.cq;
const { event, error } = QueueFlags.mask;
const { loads } = Qm.bits.ACTIVE.mask;
const { executing, writtenBack, eqOverflow } = WindowFlags.mask;

/** How long a command of the guest's may keep the mailbox, in milliseconds. */
export const mailboxIdleMs = 250;
/** Queues that are told to go on in one turn. */
const queuesPerTurn = 64;

/**
 * As on silicon: one mailbox for the guest and for who migrates it, and contexts that are known
 * from their tables in the guest's memory. A guest can keep the mailbox busy or have tables where
 * there is no memory: then its function is not migrated, and goes on.
 */
export class SiliconControl implements ControlPath {
  readonly mailbox: Mailbox;
  standing = false;
  found: FoundContexts | null = null;
  readonly #parts: PathParts;
  readonly #guest: GuestMailbox;
  /** CACHE_WB_DONE, as the guest left it. */
  #writtenBack = false;

  constructor(parts: PathParts) {
    this.#parts = parts;
    this.mailbox = new Mailbox(parts.port, "MAILBOX");
    this.#guest = new GuestMailbox(parts.port, this.mailbox, mailboxIdleMs, parts.now);
  }

  *hold(): Step {
    const waited = yield* this.#guest.await();
    if (waited < 0) return waited;
    // Before it is told to: whatever becomes of that, an undo tells it to go on.
    this.standing = true;
    const taken = this.#guest.take(pause);
    if (taken === -errno.EBUSY) this.standing = false;
    return taken;
  }

  *settle(): Step {
    const { port } = this.#parts;
    const result = yield* this.mailbox.outcome();
    if (result < 0) return result;
    yield* port.whileSet("ACTIVE");
    this.#writtenBack = (port.read("CACHE_WB_DONE") & 1) !== 0;
    return yield* writeBack(port);
  }

  *find({ sqcTable, cqcTable }: TableAddresses): Step {
    const { port, memory, queueCount, sqeShift } = this.#parts;
    const queues: QueueState[] = [];
    if (sqcTable !== 0 && cqcTable !== 0) {
      const [sqc, cqc] = [sqcTable, cqcTable].map(
        (address) => new GuestTable(memory, address, queueCount),
      ) as [GuestTable, GuestTable];
      const result = (yield* sqc.read()) || (yield* cqc.read());
      if (result < 0) return result;
      for (let queue = 0; queue < queueCount; queue++) {
        const found = queueOfTables(queue, sqc.context(queue), cqc.context(queue), sqeShift);
        if (found !== null) queues.push(found);
      }
    }
    this.found = {
      queues,
      function: {
        vfState: port.read("VF_STATE") & 1,
        flags: this.#writtenBack ? writtenBack : 0,
        faults: 0,
        tablesWritten: 1,
        mailbox: [...(this.#guest.kept ?? this.mailbox.words)],
        outgoing: [0, 0],
        messages: 0,
        incoming: new Array(2 * messagesMax).fill(0),
        reserved: 0,
      },
    };
    return port.result;
  }

  lacks({ data, queues, function: entry }: AccState): string | null {
    const untold = queues?.find(({ flags }) => (flags & (event | error)) !== 0);
    if (untold !== undefined) return `section queues: queue ${untold.number} has more to tell`;
    const some = (queues?.length ?? 0) > 0;
    const without = data?.sqcTable === 0 || data?.cqcTable === 0;
    if (some && without) return "section queues: they have no tables";
    // A source that could not write them there says that nobody can: they would not be taken up.
    const unwritten = some && entry?.tablesWritten === 0;
    if (unwritten) return "section function: the contexts are not in their tables";
    if (((entry?.flags ?? 0) & eqOverflow) !== 0)
      return "section function: the EQ has more to tell";
    return (entry?.messages ?? 0) > 0 ? "section function: messages of the PF wait" : null;
  }

  /** There is nothing that could move: what would is installed last. */
  prepare(): number {
    return 0;
  }

  /** The tables as they were when the state was saved, whatever the guest's memory has now. */
  *install({ data, queues }: AccState): Step {
    if (data === null || queues === null) return 0;
    const { memory, queueCount } = this.#parts;
    const sqc = new GuestTable(memory, data.sqcTable, queueCount);
    const cqc = new GuestTable(memory, data.cqcTable, queueCount);
    for (const queue of queues) {
      if ((queue.flags & either) === 0) continue;
      const result =
        (yield* sqc.write(queue.number, sqcOfTables(queue))) ||
        (yield* cqc.write(queue.number, queue.cqc));
      if (result < 0) return result;
    }
    return 0;
  }

  *resume(): Step {
    const { port, queueCount } = this.#parts;
    for (let queue = 0; queue < queueCount; queue++) {
      if (queue % queuesPerTurn === queuesPerTurn - 1) yield;
      port.resume(queue);
    }
    this.standing = false;
    return yield* this.#guest.giveBack();
  }

  /** Queues that go on fetch their contexts: until then the guest's doorbells would be lost. */
  *finish(entry: AccState["function"]): Step {
    const { port } = this.#parts;
    yield* port.whileSet("ACTIVE", loads);
    if (entry === null) return port.result;
    giveBack(port, entry.mailbox, (entry.flags & executing) !== 0);
    if ((entry.flags & writtenBack) !== 0) port.write("CACHE_WB_START", 1);
    return port.result;
  }

  forget(): void {
    this.standing = false;
    this.found = null;
    this.#guest.forget();
  }
}
