import { errno } from "../../../base/errno.ts";
import { AccMatch, AccVfState, accMagic, accVersion } from "../../../spec/acc-vf-data.ts";
import {
  depthMin,
  EventDw6,
  eventContextBytes,
  MailboxCommand,
  pageSizeMax,
  VftHigh,
} from "../../../spec/hisi-qm.ts";
import type { Step } from "../../driver.ts";
import { addressFits, eventAddress, isZero, sentEvent } from "./contexts.ts";
import type { TableAddresses } from "./control-path.ts";
import type { KnownFunction } from "./known-function.ts";
import type { Mailbox } from "./mailbox.ts";
import type { QmPort } from "./port.ts";
import type { AccState, FunctionState, Match, QueueState, VfData } from "./sections.ts";

const twoTo32 = 2 ** 32;
const eventDwords = eventContextBytes / 4;
/** Where an EQ's context has its head and tail, and its depth. */
const dw = { headTail: 0, depth: 6 } as const;

/** Registers that are kept, by their names in the kernel's structure. */
const kept = {
  aeqIntMask: "AEQ_INT_MASK",
  eqIntMask: "EQ_INT_MASK",
  ifcIntSource: "IFC_INT_SOURCE",
  ifcIntMask: "IFC_INT_MASK",
  ifcIntSet: "IFC_INT_SET",
  pageSize: "PAGE_SIZE",
} as const;
type Kept = keyof typeof kept;
/** What of the structure is not a register. */
type Read = Pick<VfData, Kept | "eqc" | "aeqc">;

/** A table that cannot be where it is said to be holds nothing. */
const tableAt = (low: number, high: number): number => {
  const address = low + high * twoTo32;
  return addressFits(address) ? address : 0;
};

/** What of a function is in registers or told by a mailbox: all that the kernel's driver sends. */
export class FunctionRegisters {
  readonly matchBytes = AccMatch.size;
  tables: TableAddresses = { sqcTable: 0, cqcTable: 0 };
  readonly #port: QmPort;
  readonly #mailbox: Mailbox;
  readonly #known: KnownFunction;
  #read: Read | null = null;

  constructor(port: QmPort, mailbox: Mailbox, known: KnownFunction) {
    this.#port = port;
    this.#mailbox = mailbox;
    this.#known = known;
  }

  match(ready: boolean): Match {
    const { deviceId, facts } = this.#known;
    return {
      magic: [...accMagic.v2],
      queueCount: facts.queueCount,
      deviceId,
      isolation: facts.isolation,
      queueBase: facts.queueBase,
      vfQmState: ready ? AccVfState.ready : AccVfState.notReady,
      ...accVersion,
      reservedState: [0, 0],
    };
  }

  /** Of a function that stands still. EIO when it has other queues than its PF says. */
  *read(): Step {
    const names = Object.entries(kept) as [Kept, (typeof kept)[Kept]][];
    const values = names.map(([field, name]) => [field, this.#port.read(name)] as const);
    const registers = Object.fromEntries(values) as Record<Kept, number>;
    this.#read = {
      ...registers,
      // A guest can store a size that there is not.
      pageSize: registers.pageSize > pageSizeMax ? 0 : registers.pageSize,
      eqc: sentEvent(this.#port.readRow("EQC", eventDwords)),
      aeqc: sentEvent(this.#port.readRow("AEQC", eventDwords)),
    };
    const found: number[] = [];
    for (const command of [MailboxCommand.sqcTable, MailboxCommand.cqcTable]) {
      const result = yield* this.#mailbox.run({ command, get: true });
      if (result < 0) return result;
      found.push(tableAt(this.#mailbox.resultLow, this.#mailbox.resultHigh));
    }
    const [sqcTable = 0, cqcTable = 0] = found;
    this.tables = { sqcTable, cqcTable };
    return yield* this.#checkQueues();
  }

  *#checkQueues(): Step {
    const result = yield* this.#mailbox.run({ command: MailboxCommand.vft, get: true });
    if (result < 0) return result;
    const { valid, lastQueue } = VftHigh.unpack(this.#mailbox.resultHigh);
    const same = valid && lastQueue + 1 === this.#known.facts.queueCount;
    return same ? this.#port.result : -errno.EIO;
  }

  /** What was read, with the queues. A driver runs the function if it has set anything up. */
  state(queues: readonly QueueState[], entry: FunctionState | null): AccState {
    const read = this.#read as Read;
    const ready = queues.length > 0 || !isZero(read.eqc);
    const match = this.match(ready);
    if (!ready) return { match, data: null, queues: null, function: entry };
    const data = {
      ...match,
      ...read,
      reservedRegisters: [0, 0, 0, 0, 0],
      padding: 0,
      eqAddress: eventAddress(read.eqc),
      aeqAddress: eventAddress(read.aeqc),
      ...this.tables,
    };
    return { match, data, queues, function: entry };
  }

  /** Into a function that was just reset, in the order of the kernel's driver. */
  *load({ match, data, function: entry }: AccState): Step {
    const port = this.#port;
    port.write("VF_STATE", entry?.vfState ?? match.vfQmState);
    if (data === null) return port.result;
    port.write("AEQ_INT_MASK", data.aeqIntMask);
    port.write("EQ_INT_MASK", data.eqIntMask);
    port.write("PAGE_SIZE", data.pageSize);
    port.writeRow("EQC", data.eqc);
    port.writeRow("AEQC", data.aeqc);
    const tables = [
      [MailboxCommand.sqcTable, data.sqcTable],
      [MailboxCommand.cqcTable, data.cqcTable],
    ] as const;
    for (const [command, address] of tables) {
      const high = Math.floor(address / twoTo32);
      const result = yield* this.#mailbox.run({ command, low: address % twoTo32, high });
      if (result < 0) return result;
    }
    // Messages of another PF are none of the guest's; it is told nothing of them.
    port.write("IFC_INT_SOURCE", 1);
    return port.result;
  }

  /** A function goes on: interrupts that were lost with it, or with its VMM, are raised again. */
  raise(loaded: AccState | null): void {
    const data = loaded?.data ?? null;
    if (data !== null) this.#port.write("IFC_INT_MASK", data.ifcIntMask);
    this.#raise("eq", "EQC");
    this.#raise("aeq", "AEQC");
  }

  #raise(queue: "eq" | "aeq", name: "EQC" | "AEQC"): void {
    const { lastSlot } = EventDw6.unpack(this.#port.read(name, dw.depth));
    const head = this.#port.read(name, dw.headTail) & 0xffff;
    if (lastSlot + 1 >= depthMin && head <= lastSlot) this.#port.ringEvent(queue, head);
  }
}
