/**
 * The queue manager (QM) of HiSilicon Kunpeng accelerator VFs, revision V3: what Linux's drivers
 * (`drivers/crypto/hisilicon/qm.c`) know of it. There is no public manual. All of it is
 * little-endian.
 */
import { bits } from "../base/bits.ts";
import { registers } from "../base/registers.ts";
import { array, struct, u16, u32 } from "../base/struct.ts";
import { QueueEntry, queuesShownMax } from "./hisi-qm-control.ts";

/** Huawei. */
export const hisiVendor = 0x19e5;
/** Revision ID in configuration space: V3, the Kunpeng 930. */
export const revisionV3 = 0x30;

/** The base address register with everything in it, and its bytes. */
export const qmBar = 2;
export const qmBarBytes = 0x10000;
/** The guest's part of the BAR; what lies above is for who migrates the function. */
export const guestBarBytes = 0x8000;

/** Queues of one function: the count has 10 bits. */
export const queuesMax = 1024;
/** Entries of an SQ or CQ: the depth has 12 bits. One slot stays free, so a ring has at least 2. */
export const queueDepthMax = 4096;
/** Entries of the EQ or AEQ: the depth has 16 bits. */
export const eventDepthMax = 65_536;
export const depthMin = 2;

/** The largest that `PAGE_SIZE` can say: 64 KiB. */
export const pageSizeMax = 2;

/** Bytes of ring entries. */
export const cqeBytes = 16;
export const eqeBytes = 4;
/** The part of EQC and AEQC that is fetched. */
export const eventContextBytes = 28;
/** SQC and CQC, also in their tables. */
export const contextBytes = 32;

const interruptSource = { pending: 0 } as const;
const interruptMask = { masked: 0 } as const;
const interruptType = { vector: [15, 0], type: [31, 16] } as const;
const xqcDw = "head, tail; base low, high; reserved; depth - 1, phase";

/** BAR2 of a VF. Where there is no register, reads give 0 and writes have no effect. */
export const Qm = registers("hisi-qm", qmBarBytes, {
  AEQ_INT_SOURCE: { at: 0x0000, access: "ro", bits: interruptSource, doc: "error events wait" },
  AEQ_INT_MASK: {
    at: 0x0004,
    access: "rw",
    writable: 1,
    reset: 1,
    bits: interruptMask,
    doc: "keeps the error event interrupt back",
  },
  EQ_INT_SOURCE: { at: 0x0008, access: "ro", bits: interruptSource, doc: "events wait" },
  EQ_INT_MASK: {
    at: 0x000c,
    access: "rw",
    writable: 1,
    reset: 1,
    bits: interruptMask,
    doc: "keeps the event interrupt back",
  },
  IFC_INT_SOURCE: {
    at: 0x0020,
    access: "w1c",
    writable: 1,
    bits: interruptSource,
    doc: "a message of the PF waits; a written 1 acknowledges it",
  },
  IFC_INT_MASK: {
    at: 0x0024,
    access: "rw",
    writable: 1,
    reset: 1,
    bits: interruptMask,
    doc: "keeps the message interrupt back",
  },
  IFC_INT_STATUS: { at: 0x0028, access: "ro", bits: interruptSource, doc: "source and not mask" },
  IFC_INT_SET: {
    at: 0x002c,
    access: "hook",
    writable: 1,
    bits: { raised: 0 },
    doc: "1 tells the PF of a message; 0 again when it was taken",
  },
  QUEUE_ISOLATION: { at: 0x0030, access: "ro", doc: "0: all doorbells in BAR2" },
  PAGE_SIZE: {
    at: 0x0034,
    access: "rw",
    writable: 3,
    doc: "prefetch: 0 4 KiB, 1 16 KiB, 2 64 KiB",
  },
  VF_STATE: {
    at: 0x0060,
    access: "rw",
    writable: 1,
    reset: 1,
    bits: { notReady: 0 },
    doc: "whether a driver runs the function; for information only",
  },
  ACTIVE: {
    at: 0x0200,
    access: "ro",
    bits: { requests: 0, events: 1, loads: 2, committing: 3 },
    doc: "requests under way, events to write, contexts to fetch, writes that are not to be cut",
  },
  CACHE_WB_START: {
    at: 0x0204,
    access: "hook",
    writable: 1,
    doc: "1 writes queue contexts to their tables",
  },
  CACHE_WB_DONE: { at: 0x0208, access: "ro", bits: { done: 0 }, doc: "they are written" },
  SUB_VERSION: { at: 0x0210, access: "ro", doc: "0: the revision ID says it" },
  MAILBOX: {
    at: 0x0300,
    count: 4,
    access: "hook",
    doc: "command, address low, address high, reserved; the last one starts it",
  },
  QUEUE_DOORBELL: { at: 0x1000, count: 2, access: "hook", doc: "SQ and CQ, one 64-bit write" },
  EVENT_DOORBELL: { at: 0x2000, count: 2, access: "hook", doc: "EQ and AEQ, one 64-bit write" },
  FUNC_CAPS: {
    at: 0x3100,
    access: "ro",
    bits: {
      version: [7, 0],
      functionQos: 8,
      stopQueue: 9,
      stopFunction: 10,
      messages: 11,
      vfRuntimePm: 12,
      pfRuntimePm: 13,
      prefetch: 14,
      dae: 15,
    },
    doc: "what the queue manager can do",
  },
  EVENT_DEPTHS: { at: 0x3104, access: "ro", bits: { eq: [15, 0], aeq: [31, 16] }, doc: "entries" },
  QUEUE_DEPTHS: { at: 0x3108, access: "ro", bits: { sq: [15, 0], cq: [31, 16] }, doc: "entries" },
  EQ_IRQ: { at: 0x310c, access: "ro", bits: interruptType, doc: "vector of events" },
  AEQ_IRQ: { at: 0x3110, access: "ro", bits: interruptType, doc: "vector of error events" },
  ABNORMAL_IRQ: { at: 0x3114, access: "ro", bits: interruptType, doc: "vector of the PF's errors" },
  MESSAGE_IRQ: { at: 0x3118, access: "ro", bits: interruptType, doc: "vector of PF messages" },
  IRQ_COUNT: { at: 0x311c, access: "ro", bits: { vf: [15, 0], pf: [31, 16] }, doc: "vectors" },
  EXTENDED_BAR: { at: 0x3120, access: "ro", doc: "stored by drivers, of no effect" },
  ENGINE_CAPS: { at: 0x3124, count: 20, access: "ro", doc: "the engine's own capabilities" },
  EQC: { at: 0x8000, count: 7, access: "rw", doc: xqcDw },
  AEQC: { at: 0x8020, count: 7, access: "rw", doc: xqcDw },
  CONTROL_MAILBOX: {
    at: 0x8300,
    count: 4,
    access: "hook",
    doc: "a second mailbox, which the guest does not reach; not on silicon, like all that follows",
  },
  STANDSTILL: {
    at: 0x8310,
    access: "hook",
    writable: 3,
    bits: { hold: 0, still: 1 },
    doc: "begins no request; moves nothing at all, what was under way runs again afterwards",
  },
  FUNCTION_FLAGS: { at: 0x8480, access: "rw", doc: "window on the function: `WindowFlags`" },
  FUNCTION_FAULTS: { at: 0x8484, access: "rw", doc: "`FunctionFaults` since the last reset" },
  OUTGOING: { at: 0x8488, count: 2, access: "rw", doc: "the VF's message to the PF" },
  MESSAGES: { at: 0x8490, access: "rw", doc: "messages of the PF that wait" },
  INCOMING: { at: 0x8494, count: 8, access: "rw", doc: "message and data of each" },
  QUEUE_WINDOW: {
    at: 0x8800,
    count: (queuesShownMax * QueueEntry.size) / 4,
    access: "rw",
    doc: "window on some queues: a `QueueEntry` of each",
  },
});

/** The first dword of the mailbox, which is also where its outcome is read. */
export const MailboxHead = bits({
  command: [7, 0],
  status: [12, 9],
  busy: 13,
  get: 14,
  queue: [31, 16],
});
/** Statuses of a command: drivers only tell zero from the rest. */
export const MailboxStatus = { done: 0, failed: 1 } as const;

/** Mailbox commands. Some set with `get` clear and read with it set. */
export const MailboxCommand = {
  /** An SQ's context from, or to, memory. */
  sqc: 0x0,
  cqc: 0x1,
  eqc: 0x2,
  aeqc: 0x3,
  /** Base of the table of SQ contexts: set, or read as the result. */
  sqcTable: 0x4,
  cqcTable: 0x5,
  /** How many queues the function has: `Vft`. */
  vft: 0x6,
  /** Finishes a queue's requests, then takes no more. */
  stopQueue: 0x8,
  /** The same for all queues. */
  flush: 0x9,
  /** Stores a message for the PF; `IFC_INT_SET` delivers it. */
  sendMessage: 0xc,
  /** Reads the PF's message. */
  receiveMessage: 0xd,
  /** Finishes what is under way and begins nothing more. For who migrates the function. */
  pause: 0xe,
  /**
   * By the control mailbox only. Fills the window with the first queues from this one on of which
   * there is anything to say; gives how many they are, and the next such queue, one that there is
   * not if there is none. Or takes from the window so many queues.
   */
  queueWindow: 0x80,
  /** Fills the window on the function, or takes what it shows. */
  functionWindow: 0x81,
} as const;

/** The answer to `vft`: bits [63:32] of it; the low half is 0 up to the base's low 4 bits. */
export const VftLow = bits({ base: [31, 28] });
export const VftHigh = bits({ base: [11, 0], valid: 12, lastQueue: [22, 13] });

/** A doorbell: low and high half of one 64-bit write. */
export const DoorbellLow = bits({ queue: [11, 0], command: [15, 12], tag: [31, 16] });
export const DoorbellHigh = bits({ index: [15, 0], priority: [31, 16] });
export const DoorbellCommand = { sq: 0, cq: 1, eq: 2, aeq: 3 } as const;
/**
 * Priority of an SQ doorbell that goes on where the queue stood, and of a CQ doorbell that arms.
 */
export const DoorbellPriority = { resume: 1, arm: 1 } as const;

/** SQ context. */
export const Sqc = struct("SQC", contextBytes, {
  head: u16,
  tail: u16,
  baseLow: u32,
  baseHigh: u32,
  /** `QueueDw3`. */
  dw3: u32,
  /** What a doorbell's tag must be. */
  tag: u16,
  reserved: u16,
  pasid: u16,
  /** `QueueW11`. */
  w11: u16,
  cqNumber: u16,
  /** `SqcW13`. */
  w13: u16,
  reserved2: u32,
});
/** CQ context. */
export const Cqc = struct("CQC", contextBytes, {
  head: u16,
  tail: u16,
  baseLow: u32,
  baseHigh: u32,
  /** `QueueDw3`. */
  dw3: u32,
  tag: u16,
  reserved: u16,
  pasid: u16,
  /** `QueueW11`. */
  w11: u16,
  /** `CqcDw6`. */
  dw6: u32,
  reserved2: u32,
});
/** EQ or AEQ context. */
export const EventContext = struct("EQC", eventContextBytes, {
  head: u16,
  tail: u16,
  baseLow: u32,
  baseHigh: u32,
  dw3: u32,
  reserved: array(u32, 2),
  /** `EventDw6`. */
  dw6: u32,
});

export const QueueDw3 = bits({ lastSlot: [11, 0], entryShift: [15, 12] });
/** The wrap bit changes each time that the tail comes back to slot 0. */
export const QueueW11 = bits({ cqPasid: 0, tailWrap: 6, sqPasid: 7 });
export const SqcW13 = bits({ disabled: 6, algType: [11, 8] });
export const CqcDw6 = bits({ phase: 0, armed: 1 });
export const EventDw6 = bits({ lastSlot: [15, 0], phase: 16 });
/** Rings and tables start at a multiple of this; ours are served wherever they start. */
export const ringAlignBytes = 32;
const ringDwords = [0xffffffff, 0xffffffff - (ringAlignBytes - 1), 0x1fffff] as const;
const dw3Bits = QueueDw3.all;
/**
 * Bits of the contexts that say something, dword by dword; what software stores in the others is
 * not kept. Addresses lie below 2^53. Of w13, bits [7:0] are order and priority, of no effect.
 */
export const contextDwords = {
  sqc: [
    ...ringDwords,
    dw3Bits,
    0xffff,
    0xffff + QueueW11.pack({ tailWrap: true, sqPasid: true }) * 0x10000,
    0x0fffffff,
    0,
  ],
  cqc: [
    ...ringDwords,
    dw3Bits,
    0xffff,
    0xffff + QueueW11.pack({ tailWrap: true, cqPasid: true }) * 0x10000,
    CqcDw6.all,
    0,
  ],
  event: [...ringDwords, 0, 0, 0, EventDw6.all],
} as const;
/** log2 of `cqeBytes`, as a CQ's context says it. */
export const cqeShift = 4;

/** Completion queue entry. The producer writes `w7` last: its bit 0 is the phase. */
export const Cqe = struct("CQE", cqeBytes, {
  reserved: u32,
  commandId: u16,
  reserved2: u16,
  /** Slot of the completed request. */
  sqHead: u16,
  sqNumber: u16,
  reserved3: u16,
  w7: u16,
});

/** Event queue entries. */
export const Eqe = bits({ queue: [15, 0], phase: 16 });
export const Aeqe = bits({ queue: [15, 0], phase: 16, type: [20, 17] });
export const AeqeType = { cqOverflow: 0, eqOverflow: 1, cqeError: 2 } as const;

/** PF messages that may wait for a VF. */
export const messagesMax = 4;
/** PF-VF messages: the low half; the high half is data. */
export const Message = {
  pfFlrPrepare: 1,
  pfSoftResetPrepare: 2,
  pfResetDone: 3,
  vfPrepareDone: 4,
  vfPrepareFailed: 5,
  vfStartDone: 6,
  vfStartFailed: 7,
  pfSetQos: 8,
  vfGetQos: 9,
  functionReset: 10,
  vfGetIsolation: 11,
  pfSetIsolation: 12,
} as const;
/** Data of `pfResetDone` and `pfSetIsolation`. */
export const Isolation = bits({ threshold: [15, 0], isolated: 31 });
/** Data of `pfSetQos` counts hundredths. */
export const qosRate = 100;

/** An interrupt type other than this means that there is such an interrupt. */
export const interruptAbsent = 0;
/** Bytes of an engine's capability list: nothing of it lies elsewhere. */
export const engineCapabilities = { first: 0x3124, last: 0x3170 } as const;
/** What `EXTENDED_BAR` reads on silicon. */
export const extendedBar = 0x14;
