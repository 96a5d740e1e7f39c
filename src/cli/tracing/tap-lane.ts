import { assert } from "../../base/assert.ts";
import { errno } from "../../base/errno.ts";
import { Arena } from "../../sys/arena.ts";
import type { Channel } from "../../sys/channel.ts";
import { MSG_DONTWAIT, SCM_MAX_FD } from "../../sys/constants.ts";
import { closeFd } from "../../sys/descriptors.ts";
import { MessageMeter, type SeenMessage } from "./message-meter.ts";

/** Bytes that one direction holds at most; a sender waits when its receiver does not read. */
export const laneBytes = 262_144;

/** Descriptors that wait for their place in the stream. */
interface Carried {
  readonly position: number;
  readonly fds: number[];
}

/**
 * One direction of a tapped socket: bytes and descriptors leave as they came, in order,
 * descriptors with the first byte of their message. A header leaves in one piece, because receivers
 * want it so.
 */
export class TapLane {
  /** The sender has ended its stream, or broke what a tap can carry. */
  ended = false;
  /** The receiver has gone; what comes is dropped. */
  broken = false;
  readonly #source: Channel;
  readonly #target: Channel;
  readonly #holdFirst: boolean;
  readonly #arena = new Arena(laneBytes);
  readonly #meter: MessageMeter;
  #carried: Carried[] = [];
  #start = 0;
  #end = 0;
  /** Stream position of the buffer's first byte. */
  #base = 0;

  /**
   * With `holdFirst`, nothing of the first message leaves before `seen` has been told of all of it.
   */
  constructor(
    source: Channel,
    target: Channel,
    seen: (message: SeenMessage) => void,
    holdFirst = false,
  ) {
    this.#source = source;
    this.#target = target;
    this.#meter = new MessageMeter(seen);
    this.#holdFirst = holdFirst;
  }

  /** True when there is room for more. */
  get wantsInput(): boolean {
    return !this.ended && !this.broken && this.#end - this.#start < laneBytes;
  }

  /** True when there is something that may leave. */
  get wantsOutput(): boolean {
    return !this.broken && this.#releasable > this.#start;
  }

  /** True when everything that came has left. */
  get isDrained(): boolean {
    return this.broken || this.#start === this.#end;
  }

  get #releasable(): number {
    if (this.ended) return this.#end;
    const full = this.#end - this.#start === laneBytes;
    if (this.#holdFirst && this.#meter.inFirst && !full) return this.#start;
    return this.#end - this.#meter.headerBytes;
  }

  /** Takes what the sender has sent, once. */
  receive(): void {
    this.#makeRoom();
    const { address, bytes, size } = this.#arena;
    const source = this.#source;
    const from = this.#end;
    const count = source.receive(address + from, Math.min(size, laneBytes) - from, MSG_DONTWAIT);
    if (count === -errno.EAGAIN || count === -errno.EINTR) return;
    if (count <= 0) {
      this.ended = true;
      this.#meter.end();
      return;
    }
    const fds = Array.from(source.receivedFds.subarray(0, source.receivedFdCount));
    this.#end += count;
    this.#meter.feed(bytes, from, this.#end);
    if (fds.length > 0) this.#carry(fds);
    this.#meter.settle(fds.length);
  }

  #makeRoom(): void {
    if (this.#start === 0) return;
    this.#arena.bytes.copyWithin(0, this.#start, this.#end);
    this.#base += this.#start;
    this.#end -= this.#start;
    this.#start = 0;
  }

  /**
   * Descriptors belong to the last message that starts in what came with them, because the kernel
   * ends a read behind them; when its start has left already, they leave next.
   */
  #carry(fds: number[]): void {
    const position = Math.max(this.#meter.lastStart, this.#base + this.#start);
    const last = this.#carried.at(-1);
    if (last?.position !== position) {
      this.#carried.push({ position, fds });
    } else if (last.fds.length + fds.length <= SCM_MAX_FD) {
      last.fds.push(...fds);
    } else {
      for (const fd of fds) closeFd(fd);
      this.ended = true;
    }
  }

  /**
   * Puts `fd` in the place of a descriptor of the message that started last; returns the old one.
   */
  exchangeFd(place: number, fd: number): number {
    const carried = this.#carried.at(-1);
    const old = carried?.fds[place];
    if (carried === undefined || old === undefined) return -1;
    carried.fds[place] = fd;
    return old;
  }

  /** Sends what may leave and what the receiver has room for. */
  send(): void {
    while (this.wantsOutput) {
      const sent = this.#sendSome();
      if (sent === -errno.EINTR) continue;
      if (sent === -errno.EAGAIN) return;
      if (sent < 0) {
        this.#discard();
        return;
      }
      this.#start += sent;
    }
  }

  /** Sends up to the next descriptors, or what leaves with them. */
  #sendSome(): number {
    const address = this.#arena.address + this.#start;
    const here = this.#base + this.#start;
    const [first, second] = this.#carried;
    const end = this.#base + this.#releasable;
    if (first === undefined || first.position > here) {
      const length = Math.min(end, first?.position ?? end) - here;
      return this.#target.send(address, length, MSG_DONTWAIT);
    }
    assert(first.position === here, "descriptors were left behind");
    const length = Math.min(end, second?.position ?? end) - here;
    const sent = this.#target.sendWithFds(address, length, first.fds, MSG_DONTWAIT);
    if (sent >= 0) {
      for (const fd of first.fds) closeFd(fd);
      this.#carried.shift();
    }
    return sent;
  }

  #discard(): void {
    this.broken = true;
    for (const { fds } of this.#carried) for (const fd of fds) closeFd(fd);
    this.#carried = [];
    this.#start = this.#end;
  }

  /** Gives back what the lane holds; its sockets are not its own. */
  close(): void {
    this.#meter.end();
    this.#discard();
    this.#arena.free();
  }
}
