import { errno } from "../base/errno.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import { Direction, type MessageDma } from "../memory/transfer.ts";
import { DeferredDma } from "./deferred-dma.ts";
import type { Link } from "./link.ts";
import type { DmaPort } from "./server-command.ts";

/**
 * The memory that a client has mapped, as the server reaches it by messages: through the mapping's
 * file where there is one, else carried on to whoever drives the client.
 */
export class MemoryPort implements DmaPort {
  readonly memory = new GuestMemory();
  readonly #deferred = new DeferredDma();

  /** Who carries on what has no file; null when nobody does. */
  attach(messages: MessageDma | null): void {
    this.memory.messages = messages;
  }

  move(
    direction: Direction,
    iova: number,
    bytes: Uint8Array,
    at: number,
    count: number,
    link: Link,
    messageId: number,
  ): number {
    const { memory } = this;
    const result =
      direction === Direction.read
        ? memory.read(iova, bytes, at, count)
        : memory.write(iova, bytes, at, count);
    if (result !== -errno.EINPROGRESS) return result;
    if (memory.messages === null) return -errno.EFAULT;
    return this.#deferred.start(
      memory.messages,
      direction,
      iova,
      bytes,
      at,
      count,
      link,
      messageId,
    );
  }

  /**
   * Ends what was carried on and touches the range; the server hears of it before anything else.
   */
  cancel(iova: number, size: number): void {
    this.memory.messages?.cancel(iova, size);
    this.settle();
  }

  /** True when something that was carried on can be answered. */
  get settled(): boolean {
    return this.#deferred.settled;
  }

  /** Queues the answers to what was carried on and has ended. */
  settle(): void {
    this.#deferred.settle();
  }
}
