import { errno, errnoName } from "../base/errno.ts";
import { MSG_DONTWAIT, POLLIN, POLLOUT } from "../sys/constants.ts";
import { PollSet } from "../sys/poll.ts";
import type { Link } from "./link.ts";

const forEver = -1;

/**
 * The sockets of one connection and the three ways to wait on them. Once one of them fails, or the
 * peer breaks the protocol, both are shut down and everything is ENOTCONN.
 */
export class Sockets {
  readonly main: Link;
  /** Where the server's commands come, if that was negotiated. */
  twin: Link | null = null;
  /** Why the connection broke; null while it stands. */
  failure: string | null = null;
  readonly #poll = new PollSet(2);
  /** The deadline after which one more look was taken. */
  #passed = 0;

  constructor(main: Link) {
    this.main = main;
  }

  /** True while something is left to send. */
  get unsent(): boolean {
    return this.main.unsent || (this.twin?.unsent ?? false);
  }

  /** Ends the connection for a reason. */
  break(reason: string): number {
    this.failure ??= reason;
    this.main.channel.shutdown();
    this.twin?.channel.shutdown();
    return -errno.ENOTCONN;
  }

  /** Sends without waiting: 0 when nothing is left, EAGAIN, or ENOTCONN. */
  flush(): number {
    const main = this.#flushOne(this.main);
    const twin = this.twin === null ? 0 : this.#flushOne(this.twin);
    if (this.failure !== null) return -errno.ENOTCONN;
    return main < 0 ? main : twin;
  }

  /** A server that takes no more may have said why, so what it sent last is still read. */
  #flushOne(link: Link): number {
    const result = link.flush();
    if (result === 0 || result === -errno.EAGAIN) return result;
    if (result !== -errno.EPIPE && result !== -errno.ECONNRESET) {
      return this.break(`sending failed with ${errnoName(result)}`);
    }
    link.discard();
    return 0;
  }

  /**
   * Waits until bytes came in: 1 then (or for another look), ETIMEDOUT after the deadline, or
   * ENOTCONN. `deadline` is in milliseconds of `performance.now`, 0 for none; with one socket and
   * no deadline this is a single system call. After the deadline there is one more look at what is
   * there already, and no second one, however much a server sends.
   */
  receive(deadline: number): number {
    if (deadline === 0 && this.twin === null) return this.receiveFrom(this.main, 0);
    return this.#wait(deadline, POLLIN);
  }

  /**
   * Waits until something more can be sent, and receives meanwhile; the results are `receive`'s.
   */
  exchange(deadline: number): number {
    return this.#wait(deadline, POLLIN | POLLOUT);
  }

  #wait(deadline: number, events: number): number {
    const { main, twin } = this;
    this.#poll.clear();
    this.#poll.add(main.channel.fd, wanted(main, events));
    if (twin !== null) this.#poll.add(twin.channel.fd, wanted(twin, events));
    const left = deadline === 0 ? forEver : Math.max(0, Math.ceil(deadline - performance.now()));
    if (left === 0 && this.#passed === deadline) return -errno.ETIMEDOUT;
    if (left === 0) this.#passed = deadline;
    const ready = this.#poll.wait(left);
    if (ready === 0) return -errno.ETIMEDOUT;
    if (ready === -errno.EINTR) return 1;
    if (ready < 0) return this.break(`poll failed with ${errnoName(ready)}`);
    if (twin !== null && (this.#poll.ready(1) & ~POLLOUT) !== 0) {
      const result = this.receiveFrom(twin, MSG_DONTWAIT);
      if (result < 0) return result;
    }
    return (this.#poll.ready(0) & ~POLLOUT) !== 0 ? this.receiveFrom(main, MSG_DONTWAIT) : 1;
  }

  /** Receives once: 1, or ENOTCONN when that was the end. */
  receiveFrom(link: Link, flags: number): number {
    const count = link.receive(flags);
    if (count > 0 || count === -errno.EAGAIN || count === -errno.EINTR) return 1;
    if (count === 0 || count === -errno.ECONNRESET) {
      return this.break("the server closed the connection");
    }
    return this.break(
      count === -errno.EPROTO
        ? "the server sent more descriptors than any message can carry"
        : `receiving failed with ${errnoName(count)}`,
    );
  }

  close(): void {
    this.failure ??= "the connection was closed on this side";
    this.main.close();
    this.twin?.close();
  }
}

/** Bytes are wanted while there is room for them, and sending while there is something to send. */
function wanted(link: Link, events: number): number {
  return (link.framer.room() > 0 ? events & POLLIN : 0) | (link.unsent ? events & POLLOUT : 0);
}
