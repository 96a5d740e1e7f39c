/** What makes a context one that a device can hold. Nothing here depends on who sent it. */
import { readU53 } from "../../../base/struct.ts";
import {
  AeqeType,
  contextBytes,
  contextDwords,
  cqeShift,
  depthMin,
  EventContext,
  EventDw6,
  eventContextBytes,
  QueueDw3,
  ringAlignBytes,
  Sqc,
  SqcW13,
} from "../../../spec/hisi-qm.ts";
import { QueueFlags } from "../../../spec/hisi-qm-control.ts";
import type { QueueState } from "./sections.ts";

const flag = QueueFlags.mask;
const addressMax = 2 ** 53;
const bytes = new DataView(new ArrayBuffer(contextBytes));

// Loops where a closure would read better: they run in a guest's standstill, for each queue, and as
// a rule for the first time.

/** The context as its structure; good until the next call. */
function viewOf(dwords: readonly number[]): DataView {
  for (let i = 0; i < dwords.length; i++) bytes.setUint32(4 * i, dwords[i] as number, true);
  return bytes;
}

export function isZero(dwords: readonly number[]): boolean {
  for (let i = 0; i < dwords.length; i++) if (dwords[i] !== 0) return false;
  return true;
}

/** May a ring or a table start here? */
export const addressFits = (address: number): boolean =>
  address >= 0 && address < addressMax && address % ringAlignBytes === 0;

/** The first dword with bits that say nothing, as text; null when there is none. */
function strayDword(dwords: readonly number[], masks: readonly number[]): string | null {
  for (let i = 0; i < dwords.length; i++) {
    if (((dwords[i] as number) & ~(masks[i] as number)) === 0) continue;
    const isAddress = i === 1 || i === 2;
    return isAddress ? "its base is no ring's address" : `dword ${i} has bits that say nothing`;
  }
  return null;
}

/** Head and tail lie at the same place in every context. */
function ringProblem(view: DataView, depth: number): string | null {
  if (depth < depthMin) return "its depth is less than 2";
  if (view.getUint16(Sqc.offset.head, true) >= depth) return "its head is not below its depth";
  return view.getUint16(Sqc.offset.tail, true) < depth ? null : "its tail is not below its depth";
}

function queueRingProblem(view: DataView, shift: number): string | null {
  const { lastSlot, entryShift } = QueueDw3.unpack(view.getUint32(Sqc.offset.dw3, true));
  if (entryShift !== shift) return "its entries have another size";
  return ringProblem(view, lastSlot + 1);
}

/** Why an SQ's context is none of a queue of an engine with such entries; null when it is. */
function sqcProblem(dwords: readonly number[], queue: number, shift: number): string | null {
  const stray = strayDword(dwords, contextDwords.sqc);
  if (stray !== null) return stray;
  const view = viewOf(dwords);
  if (view.getUint16(Sqc.offset.cqNumber, true) !== queue) return "its CQ is another queue's";
  const { disabled } = SqcW13.unpack(view.getUint16(Sqc.offset.w13, true));
  return disabled ? "it is disabled" : queueRingProblem(view, shift);
}

const cqcProblem = (dwords: readonly number[]): string | null =>
  strayDword(dwords, contextDwords.cqc) ?? queueRingProblem(viewOf(dwords), cqeShift);

/** The same for an EQ or AEQ; all zeroes are one that is not installed. */
export function eventProblem(dwords: readonly number[]): string | null {
  if (isZero(dwords)) return null;
  const stray = strayDword(dwords, contextDwords.event);
  if (stray !== null) return stray;
  const view = viewOf(dwords);
  const { lastSlot } = EventDw6.unpack(view.getUint32(EventContext.offset.dw6, true));
  return ringProblem(view, lastSlot + 1);
}

/** Guest address of an event queue's ring. */
export const eventAddress = (dwords: readonly number[]): number =>
  readU53(viewOf(dwords), EventContext.offset.baseLow);

/** The event queue as it can be sent: one that no hardware could have is not installed. */
export function sentEvent(dwords: readonly number[]): number[] {
  const kept = dwords.map((dword, i) => {
    const isAddress = i === 1 || i === 2;
    return isAddress ? dword : (dword & (contextDwords.event[i] as number)) >>> 0;
  });
  return eventProblem(kept) === null ? kept : new Array(eventContextBytes / 4).fill(0);
}

const noContext: number[] = new Array(contextBytes / 4).fill(0);

/** Stopped by an error that the guest is still to be told. */
const failed = QueueFlags.pack({ stopped: true, error: true, errorType: AeqeType.cqeError });

/** Flags that there may be in a stream. */
const sentFlags = QueueFlags.all & ~(flag.torn | flag.telling | flag.answering);

/**
 * The queue as it can be sent, whatever a function holds. One whose request is half written over
 * its own input, or whose guest has put its rings where none can be, has stopped by an error: that
 * is for the guest to hear, and keeps nobody from migrating it.
 */
export function sentQueue(held: QueueState, shift: number): QueueState {
  const { number, flags } = held;
  const sqc = (flags & flag.sq) !== 0 ? held.sqc : noContext;
  const cqc = (flags & flag.cq) !== 0 ? held.cqc : noContext;
  const torn = (flags & flag.torn) !== 0;
  const told = torn ? (flags & ~flag.errorType) | failed : flags;
  const sent = { number, flags: (told & sentFlags) >>> 0, sqc, cqc };
  if (queueProblem(sent, shift) === null) return sent;
  return { number, flags: failed, sqc: noContext, cqc: noContext };
}

/** Why a queue of a stream is none of this engine's; null when it is. */
export function queueProblem(
  { number, flags, sqc, cqc }: QueueState,
  shift: number,
): string | null {
  if ((flags & ~sentFlags) !== 0) return "its flags have bits that say nothing";
  const { sq, cq, event, error, errorType, load } = QueueFlags.unpack(flags);
  const wrongSq = sq ? sqcProblem(sqc, number, shift) : zeroProblem(sqc);
  if (wrongSq !== null) return `sqc: ${wrongSq}`;
  const wrongCq = cq ? cqcProblem(cqc) : zeroProblem(cqc);
  if (wrongCq !== null) return `cqc: ${wrongCq}`;
  if (event && !cq) return "its flags tell of an event without a CQ";
  if (load && sq) return "its flags load what is installed";
  if (error ? errorType > AeqeType.cqeError : errorType !== 0) {
    return "its flags have an error that there is not";
  }
  return null;
}

const zeroProblem = (dwords: readonly number[]): string | null =>
  isZero(dwords) ? null : "it is not installed, but not empty";

/**
 * A queue as it lies in the tables in guest memory; null when there is none. A guest that sets it
 * up gives one context after the other: there may be one without the other.
 */
export function queueOfTables(
  number: number,
  sqcDwords: readonly number[],
  cqcDwords: readonly number[],
  shift: number,
): QueueState | null {
  const { disabled } = SqcW13.mask;
  const w13 = sqcDwords[disabledDword] as number;
  const enabled = sqcDwords.with(disabledDword, (w13 & ~(disabled << 16)) >>> 0);
  const sq = sqcProblem(enabled, number, shift) === null;
  const cq = cqcProblem(cqcDwords) === null;
  if (!sq && !cq) return null;
  const flags = QueueFlags.pack({ sq, cq, stopped: sq && enabled[disabledDword] !== w13 });
  return { number, flags, sqc: sq ? enabled : noContext, cqc: cq ? [...cqcDwords] : noContext };
}

/** The SQ context as it is written to the table: there `stopped` is a bit of its own. */
export function sqcOfTables({ flags, sqc }: QueueState): number[] {
  if ((flags & flag.stopped) === 0) return sqc;
  const w13 = sqc[disabledDword] as number;
  return sqc.with(disabledDword, (w13 | (SqcW13.mask.disabled << 16)) >>> 0);
}

/** `w13` is the high half of this one. */
const disabledDword = Math.floor(Sqc.offset.w13 / 4);
