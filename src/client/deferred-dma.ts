import { errno } from "../base/errno.ts";
import { Direction, type MessageDma, pending, Transfer } from "../memory/transfer.ts";
import type { Link } from "./link.ts";
import { answerDma } from "./server-command.ts";

/** The server's DMA messages that may wait for somebody else's answer; more of them are EBUSY. */
export const deferredMax = 16;

/** A DMA message that is carried on to somebody else. */
class Job {
  readonly transfer = new Transfer();
  buffer: Uint8Array = new Uint8Array(0);
  link: Link | null = null;
  messageId = 0;
}

/**
 * DMA messages to memory that is not here either, because the one who drives the remote device gave
 * no file with it: they are carried on as messages of ours, and answered when those have ended. A
 * server that answers no request before its DMA has ended cannot be served so: then the one who
 * would answer the DMA waits for the request. The connection's time-out ends that.
 */
export class DeferredDma {
  readonly #jobs = Array.from({ length: deferredMax }, () => new Job());

  /** True when an answer can be given. */
  get settled(): boolean {
    return this.#jobs.some(({ link, transfer }) => link !== null && transfer.status !== pending);
  }

  /** Carries a message on: 0 or a negated errno when that has ended already, else `pending`. */
  start(
    messages: MessageDma,
    direction: Direction,
    iova: number,
    bytes: Uint8Array,
    at: number,
    count: number,
    link: Link,
    messageId: number,
  ): number {
    const job = this.#jobs.find((each) => each.link === null);
    if (job === undefined) return -errno.EBUSY;
    const { transfer } = job;
    if (job.buffer.length < count) job.buffer = new Uint8Array(count);
    if (direction === Direction.write) job.buffer.set(bytes.subarray(at, at + count));
    transfer.set(direction, iova, job.buffer, 0, count);
    transfer.status = pending;
    const submitted = messages.submit(transfer);
    if (submitted < 0) return submitted;
    if (transfer.status === pending) {
      job.link = link;
      job.messageId = messageId;
      return pending;
    }
    if (direction === Direction.read) bytes.set(job.buffer.subarray(0, count), at);
    return transfer.status;
  }

  /** Queues the answers to messages that have ended, as far as there is room for them. */
  settle(): void {
    for (const job of this.#jobs) {
      const { link, transfer } = job;
      if (link === null || transfer.status === pending || !link.roomy) continue;
      const { direction, iova, length, status } = transfer;
      answerDma(link, job.messageId, direction, iova, job.buffer, length, status);
      job.link = null;
    }
  }
}
