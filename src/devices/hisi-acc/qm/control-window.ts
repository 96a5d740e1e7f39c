import { errno } from "../../../base/errno.ts";
import { messagesMax, Qm } from "../../../spec/hisi-qm.ts";
import {
  FunctionFaults,
  QueueEntry,
  queuesShownMax,
  WindowFlags,
} from "../../../spec/hisi-qm-control.ts";
import type { QmBank } from "./event-queue.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import type { Requests } from "./requests.ts";
import { FunctionFlags, QueueRecord } from "./state.ts";

const flag = FunctionFlags.mask;
const { hold, still } = Qm.bits.STANDSTILL.mask;
const { size: entryBytes, offset: entryAt } = QueueEntry;
/** Both contexts of a queue lie in a row, in an entry as in a `QueueRecord`. */
const contextsBytes = QueueRecord.offset.flags;

/** What the window needs of its function. */
export interface WindowParts {
  readonly bank: QmBank;
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly requests: Requests;
  /** Ends all that is under way, so that it runs again. */
  readonly abort: () => void;
  /** Starts all that the state says was under way. */
  readonly recover: () => void;
}

/**
 * The control half's view of what registers and tables in guest memory do not show, for who
 * migrates the function: some queues at a time, and the function as a whole. Not on silicon. What
 * it shows is replaced only while the function stands still.
 */
export class ControlWindow {
  readonly #parts: WindowParts;
  /** What the window shows: a `QueueEntry` of each queue. */
  readonly #shown: Uint8Array;
  readonly #view: DataView;
  readonly #record = new Uint8Array(QueueRecord.size);
  readonly #recordView = new DataView(this.#record.buffer);

  constructor(parts: WindowParts) {
    this.#parts = parts;
    this.#shown = parts.bank.stored("QUEUE_WINDOW", queuesShownMax * entryBytes);
    const { buffer, byteOffset, byteLength } = this.#shown;
    this.#view = new DataView(buffer, byteOffset, byteLength);
  }

  /** STANDSTILL was written: the function holds, stands still, or goes on where it was. */
  stand(how: number): void {
    const { state, requests, abort, recover } = this.#parts;
    const isHeld = state.is(flag.held);
    const isStill = state.is(flag.still);
    const [holds, stands] = [how !== 0, (how & still) !== 0];
    if (holds || isHeld) state.set(flag.held | flag.paused, holds);
    state.set(flag.still, stands);
    if (stands && !isStill) abort();
    if (isStill && !stands) recover();
    requests.noteProgress();
    requests.recover();
  }

  /** What STANDSTILL reads. */
  get standing(): number {
    const { state } = this.#parts;
    return (state.is(flag.held) ? hold : 0) | (state.is(flag.still) ? still : 0);
  }

  /** Shows the first queues from this one on of which there is anything to say. */
  showQueues(from: number): { readonly shown: number; readonly next: number } {
    const { contexts } = this.#parts;
    let shown = 0;
    let queue = contexts.firstKnown(from);
    for (; queue < contexts.count && shown < queuesShownMax; shown++) {
      this.#show(queue, shown * entryBytes);
      queue = contexts.firstKnown(queue + 1);
    }
    return { shown, next: queue };
  }

  #show(queue: number, at: number): void {
    const { contexts } = this.#parts;
    this.#view.setUint32(at + entryAt.number, queue, true);
    this.#view.setUint32(at + entryAt.flags, contexts.flags(queue), true);
    this.#shown.set(contexts.record(queue).subarray(0, contextsBytes), at + entryAt.sqc);
  }

  /** Takes so many queues as they are shown. */
  takeQueues(shown: number): number {
    if (shown > queuesShownMax) return -errno.EINVAL;
    if (!this.#parts.state.is(flag.still)) return -errno.EBUSY;
    for (let index = 0; index < shown; index++) {
      const result = this.#take(index * entryBytes);
      if (result < 0) return result;
    }
    return 0;
  }

  #take(at: number): number {
    const { contexts, requests } = this.#parts;
    const queue = this.#view.getUint32(at + entryAt.number, true);
    if (queue >= contexts.count) return -errno.EINVAL;
    const contextsAt = at + entryAt.sqc;
    this.#record.set(this.#shown.subarray(contextsAt, contextsAt + contextsBytes));
    const flags = this.#view.getUint32(at + entryAt.flags, true);
    this.#recordView.setUint32(QueueRecord.offset.flags, flags, true);
    requests.abandon(queue);
    return contexts.replace(queue, this.#record);
  }

  /** Shows the function, or takes what is shown. */
  function(show: boolean): number {
    if (show) return this.#showFunction();
    return this.#parts.state.is(flag.still) ? this.#takeFunction() : -errno.EBUSY;
  }

  #showFunction(): number {
    const { bank, state } = this.#parts;
    const flags = WindowFlags.pack({
      eqArmed: state.is(flag.eqArmed),
      aeqArmed: state.is(flag.aeqArmed),
      eqOverflow: state.is(flag.eqOverflow),
      eqOverflowTold: state.is(flag.eqOverflowTold),
      executing: state.is(flag.executing),
      writingBack: bank.get("CACHE_WB_START") !== 0,
      writtenBack: bank.get("CACHE_WB_DONE") !== 0,
    });
    bank.set("FUNCTION_FLAGS", flags);
    bank.set("FUNCTION_FAULTS", state.faults);
    bank.set("OUTGOING", state.outgoingMessage, 0);
    bank.set("OUTGOING", state.outgoingData, 1);
    bank.set("MESSAGES", state.messages);
    for (const [index, word] of state.incoming.entries()) bank.set("INCOMING", word, index);
    return 0;
  }

  #takeFunction(): number {
    const { bank, state } = this.#parts;
    const word = bank.get("FUNCTION_FLAGS");
    const faults = bank.get("FUNCTION_FAULTS");
    const messages = bank.get("MESSAGES");
    const unknown = (word & ~WindowFlags.all) | (faults & ~FunctionFaults.all);
    if (unknown !== 0 || messages > messagesMax) return -errno.EINVAL;
    const flags = WindowFlags.unpack(word);
    for (const name of ["eqArmed", "aeqArmed", "eqOverflow", "eqOverflowTold"] as const) {
      state.set(flag[name], flags[name]);
    }
    bank.set("CACHE_WB_START", flags.writingBack ? 1 : 0);
    bank.set("CACHE_WB_DONE", flags.writtenBack ? 1 : 0);
    state.clearFaults();
    state.addFault(faults);
    state.setOutgoing(bank.get("OUTGOING", 0), bank.get("OUTGOING", 1));
    const incoming = Array.from({ length: 2 * messages }, (_, i) => bank.get("INCOMING", i));
    state.setIncoming(incoming);
    bank.set("IFC_INT_SOURCE", messages > 0 ? 1 : 0);
    return 0;
  }
}
