/** What a queue manager must remember besides its registers: it migrates with the function. */
import { bits } from "../../../base/bits.ts";
import { array, struct, u32, u53 } from "../../../base/struct.ts";
import { contextBytes, messagesMax } from "../../../spec/hisi-qm.ts";

export { messagesMax } from "../../../spec/hisi-qm.ts";
export { FunctionFaults, QueueFlags } from "../../../spec/hisi-qm-control.ts";

/** One queue: its contexts as they are dumped, kept up to date, and what they do not say. */
export const QueueRecord = struct("queue record", 72, {
  sqc: array(u32, contextBytes / 4),
  cqc: array(u32, contextBytes / 4),
  /** `QueueFlags`. */
  flags: u32,
  reserved: u32,
});

/** The function as a whole. */
export const FunctionRecord = struct("function record", 72, {
  /** Guest addresses of the tables of contexts; 0 for none. */
  sqcTable: u53,
  cqcTable: u53,
  /** `FunctionFlags`. */
  flags: u32,
  /** `FunctionFaults`. */
  faults: u32,
  /** The VF's message to the PF: message and data. */
  outgoing: array(u32, 2),
  /** How many messages of the PF wait. */
  messages: u32,
  /** BAR bits of a carved function: they are kept here because its own register has none. */
  carved: u32,
  /** Message and data of each. */
  incoming: array(u32, 2 * messagesMax),
});

export const FunctionFlags = bits({
  /** No request is begun. */
  paused: 0,
  /** A mailbox command has not ended. */
  executing: 1,
  /** The next event interrupts. */
  eqArmed: 2,
  aeqArmed: 3,
  /** An AEQE says that the EQ overflows: it is to be written, or was since the EQ last had room. */
  eqOverflow: 4,
  eqOverflowTold: 5,
  /** A command of the control mailbox has not ended. */
  controlExecuting: 6,
  /** Who migrates the function has paused it: drains wait too. */
  held: 7,
  /** Nothing moves but the control mailbox. */
  still: 8,
});
