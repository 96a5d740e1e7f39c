/** What of a VF goes into a stream: the kernel's structure, and what it leaves out. */
import { array, type Infer, struct, u32 } from "../../../base/struct.ts";
import { type AccMatch, AccVfData } from "../../../spec/acc-vf-data.ts";
import { driverSections } from "../../../spec/ferry-stream.ts";
import { messagesMax } from "../../../spec/hisi-qm.ts";
import { QueueEntry } from "../../../spec/hisi-qm-control.ts";

export { QueueEntry } from "../../../spec/hisi-qm-control.ts";

/** Kinds of sections. */
export const AccSection = {
  /** `AccMatch`, in PRE_COPY: what both sides must agree on. */
  match: driverSections,
  /** `AccVfData`, or only `AccMatch` of a function that no driver runs. */
  vfData: driverSections + 1,
  /** `QueueEntry` of each queue that there is, in ascending order. */
  queues: driverSections + 2,
  /** `FunctionEntry`. */
  function: driverSections + 3,
} as const;

/** By their kinds in a stream, for people. */
export const sectionNames: Readonly<Record<number, string>> = {
  [AccSection.match]: "acc-vf-match",
  [AccSection.vfData]: "acc-vf-data",
  [AccSection.queues]: "queues",
  [AccSection.function]: "function",
};

/** Of every section's layout. */
export const sectionVersion = 1;

/** What of a function is in no register, or in one that the kernel's structure leaves out. */
export const FunctionEntry = struct("function entry", 80, {
  /** `VF_STATE`, which the guest has written. */
  vfState: u32,
  /** `WindowFlags`. */
  flags: u32,
  /** `FunctionFaults`. */
  faults: u32,
  /** 1: the contexts lie in their tables in the guest's memory, too. */
  tablesWritten: u32,
  /** What the guest's mailbox holds. */
  mailbox: array(u32, 4),
  outgoing: array(u32, 2),
  /** Messages of the PF that wait; the others are zeroes. */
  messages: u32,
  incoming: array(u32, 2 * messagesMax),
  reserved: u32,
});

export type Match = Infer<typeof AccMatch>;
export type VfData = Infer<typeof AccVfData>;
export type QueueState = Infer<typeof QueueEntry>;
export type FunctionState = Infer<typeof FunctionEntry>;

/** A whole state, as it was saved, or as it was accepted and found good. */
export interface AccState {
  readonly match: Match;
  /** Null: no driver runs the function, which is as after a reset. */
  readonly data: VfData | null;
  /** Null: they are known from their tables in the guest's memory only. */
  readonly queues: readonly QueueState[] | null;
  /** Null for a state of the kernel's driver. */
  readonly function: FunctionState | null;
}

/** The most that a state of so many queues takes. */
export const stateBytesMax = (queues: number): number =>
  AccVfData.size + queues * QueueEntry.size + FunctionEntry.size;
