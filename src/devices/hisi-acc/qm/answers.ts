import { errno } from "../../../base/errno.ts";
import type { GuestMemory } from "../../../memory/guest-memory.ts";
import { Cqe, cqeBytes } from "../../../spec/hisi-qm.ts";
import type { GuestWrite, Outcome } from "../engine.ts";
import { type Fiber, stepBytesMax } from "./fiber.ts";
import type { QueueContexts } from "./queue-contexts.ts";
import type { Slot } from "./slot.ts";
import { QueueFlags } from "./state.ts";

const { answering } = QueueFlags.mask;
const cqeBodyBytes = Cqe.offset.w7;
const phaseBytes = cqeBytes - cqeBodyBytes;

/** Is its output more than one step writes? */
export const isLong = ({ writes }: Outcome): boolean =>
  writes.reduce((sum, { length }) => sum + length, 0) > stepBytesMax;

/**
 * Writes what the guest gets to see of a request: its output, its status, its completion, in this
 * order. At once, with EINPROGRESS where only messages reach; or by messages.
 */
export class Answers {
  readonly #memory: GuestMemory;
  readonly #contexts: QueueContexts;
  readonly #cqe = new Uint8Array(cqeBytes);
  readonly #cqeView = new DataView(this.#cqe.buffer);
  readonly #fence = new Int32Array(1);

  constructor(memory: GuestMemory, contexts: QueueContexts) {
    this.#memory = memory;
    this.#contexts = contexts;
  }

  /** A long output, in as many steps as that takes; it is written to its end if it is aborted. */
  *writeLong(slot: Slot, outcome: Outcome): Generator<void, number> {
    const memory = this.#memory;
    slot.outcome = outcome;
    let left = stepBytesMax;
    for (const { iova, bytes, at, length } of outcome.writes) {
      for (let done = 0; done < length; ) {
        if (left === 0) yield* slot.fiber.pause();
        if (left === 0) left = stepBytesMax;
        const part = Math.min(length - done, left);
        const result = memory.write(iova + done, bytes, at + done, part);
        if (result < 0) return result;
        done += part;
        left -= part;
      }
    }
    return 0;
  }

  /** Output; EINPROGRESS where only messages reach. */
  writeOutput({ writes }: Outcome): number {
    const memory = this.#memory;
    for (let i = 0; i < writes.length; i++) {
      const { iova, bytes, at, length } = writes[i] as GuestWrite;
      const result = memory.write(iova, bytes, at, length);
      if (result < 0) return result;
    }
    return 0;
  }

  /** Status and completion, likewise. */
  writeEnd(queue: number, { status }: Outcome): number {
    const contexts = this.#contexts;
    const memory = this.#memory;
    const { offset, bytes } = status;
    const address = contexts.sqeAddress(queue) + offset;
    const result = memory.write(address, bytes, 0, bytes.length);
    return result < 0 ? result : this.#writeCompletion(queue);
  }

  /** All of it, by messages where there is no other way; what was written before is the same. */
  *writeByMessages(fiber: Fiber, queue: number, outcome: Outcome): Generator<void, number> {
    const { writes, status } = outcome;
    const contexts = this.#contexts;
    for (const { iova, bytes, at, length } of writes) {
      const result = yield* fiber.write(iova, bytes, at, length);
      if (result < 0) return result;
    }
    const { offset, bytes } = status;
    const address = contexts.sqeAddress(queue) + offset;
    const result = yield* fiber.write(address, bytes, 0, bytes.length);
    if (result < 0) return result;
    return yield* this.complete(fiber, queue);
  }

  /** The completion alone. */
  *complete(fiber: Fiber, queue: number): Generator<void, number> {
    const contexts = this.#contexts;
    const result = this.#writeCompletion(queue);
    if (result !== -errno.EINPROGRESS) return result;
    contexts.set(queue, answering);
    return yield* fiber.write(contexts.cqeAddress(queue), this.#cqe.slice(), 0, cqeBytes);
  }

  /**
   * The completion in two steps, the word with the phase last: another processor that sees the
   * phase sees the rest. The atomic operation in between keeps both compiler and processor from
   * changing the order.
   */
  #writeCompletion(queue: number): number {
    const contexts = this.#contexts;
    const memory = this.#memory;
    const view = this.#cqeView;
    view.setUint16(Cqe.offset.sqHead, contexts.sqHead(queue), true);
    view.setUint16(Cqe.offset.sqNumber, queue, true);
    view.setUint16(Cqe.offset.w7, contexts.phase(queue), true);
    const address = contexts.cqeAddress(queue);
    const result = memory.write(address, this.#cqe, 0, cqeBodyBytes);
    if (result < 0) return result;
    Atomics.add(this.#fence, 0, 1);
    return memory.write(address + cqeBodyBytes, this.#cqe, cqeBodyBytes, phaseBytes);
  }
}
