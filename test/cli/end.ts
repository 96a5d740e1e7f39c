import { errno } from "../../src/base/errno.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT } from "../../src/sys/constants.ts";
import { closeFd } from "../../src/sys/descriptors.ts";

/** A descriptor that was received, and the stream position of the read that brought it. */
interface Received {
  readonly fd: number;
  readonly place: number;
}

/**
 * One end of a connection that never waits: it sends what was queued as far as that goes, and takes
 * what has come. It reads a header first and then its body, as most peers do, so a descriptor that
 * does not come with its message's header shows up in the wrong place.
 */
export class End {
  readonly fds: Received[] = [];
  isEnded = false;
  readonly #channel: Channel;
  readonly #arena = new Arena(2 * 1024 * 1024);
  #outgoing: Array<{ bytes: Uint8Array; at: number; fds: number[] }> = [];
  readonly #sent: Buffer[] = [];
  readonly #received: Buffer[] = [];
  #position = 0;
  #header = Buffer.alloc(0);
  #bodyLeft = 0;
  #isOpen = true;

  constructor(fd: number) {
    this.#channel = new Channel(fd);
  }

  /** Bytes that are still to be sent. */
  get unsent(): number {
    return this.#outgoing.reduce((sum, { bytes, at }) => sum + bytes.length - at, 0);
  }

  /** Queues one piece, to be sent at once with its descriptors, which are given away. */
  queue(bytes: Uint8Array, fds: number[]): void {
    this.#sent.push(Buffer.from(bytes));
    this.#outgoing.push({ bytes, at: 0, fds });
  }

  /** Everything that was queued, and everything that came. */
  sent = (): Buffer => Buffer.concat(this.#sent);
  received = (): Buffer => Buffer.concat(this.#received);

  /** A descriptor that came, now the caller's. */
  takeFd(index: number): number {
    return this.fds.splice(index, 1)[0]?.fd ?? -1;
  }

  /** Sends and receives what goes without waiting; true when anything did. */
  take(): boolean {
    const sent = this.#send();
    return this.#receive() || sent;
  }

  #send(): boolean {
    let moved = false;
    for (let first = this.#outgoing[0]; first !== undefined; first = this.#outgoing[0]) {
      const part = first.bytes.subarray(first.at, first.at + this.#arena.size);
      this.#arena.bytes.set(part);
      const { address } = this.#arena;
      const count = this.#channel.sendWithFds(address, part.length, first.fds, MSG_DONTWAIT);
      if (count < 0) return moved;
      moved = true;
      for (const fd of first.fds) closeFd(fd);
      first.fds = [];
      first.at += count;
      if (first.at === first.bytes.length) this.#outgoing.shift();
    }
    return moved;
  }

  #receive(): boolean {
    let moved = false;
    while (!this.isEnded) {
      const wanted = this.#bodyLeft > 0 ? this.#bodyLeft : 16 - this.#header.length;
      const length = Math.min(wanted, this.#arena.size);
      const count = this.#channel.receive(this.#arena.address, length, MSG_DONTWAIT);
      if (count === -errno.EAGAIN) return moved;
      if (count <= 0) this.isEnded = true;
      else this.#keep(Buffer.from(this.#arena.bytes.subarray(0, count)));
      moved = true;
    }
    return moved;
  }

  #keep(bytes: Buffer): void {
    const { receivedFds, receivedFdCount } = this.#channel;
    for (const fd of receivedFds.subarray(0, receivedFdCount)) {
      this.fds.push({ fd, place: this.#position });
    }
    this.#received.push(bytes);
    this.#position += bytes.length;
    if (this.#bodyLeft > 0) {
      this.#bodyLeft -= bytes.length;
      return;
    }
    this.#header = Buffer.concat([this.#header, bytes]);
    if (this.#header.length < 16) return;
    this.#bodyLeft = Math.max(0, this.#header.readUInt32LE(4) - 16);
    this.#header = Buffer.alloc(0);
  }

  hangUp(): void {
    this.#isOpen = false;
    this.#channel.close();
  }

  close(): void {
    for (const { fd } of this.fds) closeFd(fd);
    if (this.#isOpen) this.hangUp();
  }
}
