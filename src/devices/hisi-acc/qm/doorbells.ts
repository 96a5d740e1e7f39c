import {
  DoorbellCommand,
  DoorbellHigh,
  DoorbellLow,
  DoorbellPriority,
} from "../../../spec/hisi-qm.ts";
import type { EventQueue } from "./event-queue.ts";
import type { Events } from "./events.ts";
import type { FunctionState } from "./function-state.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import type { Requests } from "./requests.ts";
import { FunctionFaults, FunctionFlags, QueueFlags } from "./state.ts";
import type { Tables } from "./tables.ts";

const flag = QueueFlags.mask;
const { paused, held } = FunctionFlags.mask;
const low = DoorbellLow.mask;
const high = DoorbellHigh.mask;

/** What doorbells need of their function. */
export interface DoorbellParts {
  readonly contexts: QueueContexts;
  readonly state: FunctionState;
  readonly requests: Requests;
  readonly events: Events;
  readonly tables: Tables;
  readonly eq: EventQueue;
  readonly aeq: EventQueue;
}

/** Takes doorbells. One for a queue or an index that there is not is noted as a fault. */
export class Doorbells {
  readonly #parts: DoorbellParts;

  constructor(parts: DoorbellParts) {
    this.#parts = parts;
  }

  #refuse(): void {
    this.#parts.state.addFault(FunctionFaults.mask.doorbell);
  }

  /** A doorbell of the queues. */
  ringQueue(lowHalf: number, highHalf: number): void {
    const queue = lowHalf & low.queue;
    const tag = lowHalf >>> 16;
    const index = highHalf & high.index;
    const priority = highHalf >>> 16;
    const command = (lowHalf & low.command) >>> 12;
    if (queue >= this.#parts.contexts.count) this.#refuse();
    else if (command === DoorbellCommand.cq) this.#ringCq(queue, tag, index, priority);
    else if (command !== DoorbellCommand.sq) this.#refuse();
    else if (priority === DoorbellPriority.resume) this.#resume(queue);
    else this.#ringSq(queue, tag, index);
  }

  #ringSq(queue: number, tag: number, index: number): void {
    const { contexts, requests } = this.#parts;
    const there = contexts.is(queue, flag.sq) && tag === contexts.sqTag(queue);
    if (!there || index >= contexts.sqDepth(queue)) {
      this.#refuse();
      return;
    }
    if (contexts.is(queue, flag.stopped) || contexts.is(queue, flag.draining)) return;
    contexts.setSqTail(queue, index);
    requests.kick(queue);
  }

  /**
   * Goes on where the queue stood; its index says nothing. A pause that has not ended is over; one
   * by STANDSTILL is not.
   */
  #resume(queue: number): void {
    const { contexts, state, requests, tables } = this.#parts;
    if (!state.is(held)) state.set(paused, false);
    requests.noteProgress();
    if (contexts.is(queue, flag.sq)) requests.kick(queue);
    else tables.load(queue);
  }

  #ringCq(queue: number, tag: number, index: number, priority: number): void {
    const { contexts, events } = this.#parts;
    const there = contexts.is(queue, flag.cq) && tag === contexts.cqTag(queue);
    if (!there || index >= contexts.cqDepth(queue)) {
      this.#refuse();
      return;
    }
    contexts.setCqHead(queue, index);
    if (priority !== DoorbellPriority.arm) return;
    // What was completed since the guest looked must not wait for the next completion.
    if (contexts.cqEmpty(queue)) contexts.setArmed(queue, true);
    else events.event(queue);
  }

  /** A doorbell of the event queues. */
  ringEvent(lowHalf: number, highHalf: number): void {
    const { eq, aeq } = this.#parts;
    const command = (lowHalf & low.command) >>> 12;
    const index = highHalf & high.index;
    const known = command === DoorbellCommand.eq || command === DoorbellCommand.aeq;
    const queue = command === DoorbellCommand.eq ? eq : aeq;
    if (!known || !queue.doorbell(index)) this.#refuse();
  }
}
