/** What the control half of our HiSilicon VFs shows in its windows, which silicon does not have. */
import { bits } from "../base/bits.ts";
import { array, struct, u32 } from "../base/struct.ts";

/** What the contexts of a queue do not say. */
export const QueueFlags = bits({
  /** The contexts are installed. */
  sq: 0,
  cq: 1,
  /** Nothing is fetched, doorbells are dropped: by command, or after an error. */
  stopped: 2,
  /** A command finishes its requests; doorbells are dropped. */
  draining: 3,
  /** An EQE is to be written. */
  event: 4,
  /** An AEQE is to be written, of this type. */
  error: 5,
  errorType: [9, 6],
  /** The contexts are to be fetched from the tables. */
  load: 10,
  /** Messages write the output of the request at the head over its own input. */
  torn: 11,
  /** A message writes its EQE or AEQE: whoever has seen that must find no other in its place. */
  telling: 12,
  /** A message writes its CQE, behind all else that the guest gets to see of the request. */
  answering: 13,
});

/** An SQ's or a CQ's context. */
const context = array(u32, 8);

/** A queue, as the window shows it and as it is sent. */
export const QueueEntry = struct("queue entry", 72, {
  number: u32,
  /** `QueueFlags`. */
  flags: u32,
  /** As `Sqc` and `Cqc`; zeroes for one that is not installed. */
  sqc: context,
  cqc: context,
});

/** Queues that the window shows at once. */
export const queuesShownMax = 32;

/** What no other register says of the function (`FUNCTION_FLAGS`). */
export const WindowFlags = bits({
  /** The next event interrupts. */
  eqArmed: 0,
  aeqArmed: 1,
  /** An AEQE says that the EQ overflows: it is to be written, or was since the EQ last had room. */
  eqOverflow: 2,
  eqOverflowTold: 3,
  /** The command in the guest's mailbox has not ended. */
  executing: 4,
  /** Contexts are written to their tables; they were. */
  writingBack: 5,
  writtenBack: 6,
});
/** What went wrong since the last reset (`FUNCTION_FAULTS`), also for the PF. */
export const FunctionFaults = bits({
  /** A doorbell for a queue or an index that there is not. */
  doorbell: 0,
  /** Memory of a queue's entry, or of a request's buffers. */
  queueMemory: 1,
  /** Memory of the EQ, the AEQ or the tables. */
  eventMemory: 2,
  cqOverflow: 3,
  eqOverflow: 4,
  aeqOverflow: 5,
});
