import { performance } from "node:perf_hooks";
import { errno } from "../base/errno.ts";
import type { Channel } from "./channel.ts";
import { MSG_DONTWAIT, POLLOUT } from "./constants.ts";
import { PollSet } from "./poll.ts";

/** Descriptors with one byte on the wire; the kernel allows 253. */
const fdsPerByte = 250;

/**
 * Sends whole pieces through a channel, and waits without blocking this thread where the other side
 * is slow, until a moment of the performance clock at most. Each call returns 0 or a negated errno:
 * ETIMEDOUT when that moment has come before the other side made room.
 */
export class WholeSender {
  readonly #channel: Channel;
  readonly #poll = new PollSet(1);

  constructor(channel: Channel) {
    this.#channel = channel;
  }

  /** Sends `length` bytes from an address. */
  async send(address: number, length: number, endMs: number): Promise<number> {
    return await this.#push(address, length, [], endMs);
  }

  /** Sends descriptors, however many, with the byte at an address as often as it takes. */
  async sendFds(address: number, fds: readonly number[], endMs: number): Promise<number> {
    for (let at = 0; at < fds.length; at += fdsPerByte) {
      const result = await this.#push(address, 1, fds.slice(at, at + fdsPerByte), endMs);
      if (result < 0) return result;
    }
    return 0;
  }

  async #push(
    address: number,
    length: number,
    fds: readonly number[],
    endMs: number,
  ): Promise<number> {
    for (let done = 0; done < length; ) {
      const sent = this.#channel.sendWithFds(address + done, length - done, fds, MSG_DONTWAIT);
      if (sent > 0) done += sent;
      else if (sent === -errno.EAGAIN) {
        if (!(await this.#hasRoom(endMs))) return -errno.ETIMEDOUT;
      } else if (sent !== -errno.EINTR) return sent;
    }
    return 0;
  }

  async #hasRoom(endMs: number): Promise<boolean> {
    const leftMs = Math.ceil(endMs - performance.now());
    this.#poll.clear();
    this.#poll.add(this.#channel.fd, POLLOUT);
    return leftMs > 0 && (await this.#poll.waitAsync(leftMs)) !== 0;
  }

  /** Gives its memory back; no call may be under way, nor come. */
  free(): void {
    this.#poll.free();
  }
}
