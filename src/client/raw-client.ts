import { errno } from "../base/errno.ts";
import { Header } from "../spec/vfio-user.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT, POLLHUP, POLLIN, POLLOUT } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { connectUnix } from "../sys/unix.ts";

/**
 * A received message: its header as it came, what followed, and the descriptors that came along.
 */
export interface RawMessage {
  readonly messageId: number;
  readonly command: number;
  /** Bytes with the header, as the header says. */
  readonly messageSize: number;
  readonly flags: number;
  readonly error: number;
  /** `messageSize` - 16 bytes. */
  readonly payload: Uint8Array;
  /** The receiver's to close. */
  readonly fds: readonly number[];
}

/**
 * What `receive` brought: a message, nothing in the given time, the end of the connection, or a
 * header whose size no message can have.
 */
export type Received = RawMessage | "silence" | "closed" | "garbled";

/** A larger message is taken for a stream that lost its framing. Bytes. */
export const receivedBytesMax = 64 * 1024 * 1024;

const chunkBytes = 2 * 1024 * 1024;
/** Every call here is synchronous, so that all clients of a thread share the two buffers. */
const outgoing = new Arena(chunkBytes);
const incoming = new Arena(chunkBytes);
const poll = new PollSet(1);

const now = (): number => performance.now();

/**
 * A vfio-user client that knows nothing: it sends the bytes that it is given, in the pieces that it
 * is given, and hands out what comes back. It is for tests and for the conformance suite, so it
 * blocks the calling thread, checks nothing and repairs nothing.
 */
export class RawClient {
  readonly #channel: Channel;
  #closed = false;
  /** The message in progress, kept when `receive` runs out of time. */
  #partial = new Uint8Array(Header.size);
  #filled = 0;
  #fds: number[] = [];

  /** Takes over a connected stream socket. */
  constructor(fd: number) {
    this.#channel = new Channel(fd);
  }

  /** Connects to a server's socket, or a negated errno. */
  static connect(path: string): RawClient | number {
    const fd = connectUnix(path);
    return fd < 0 ? fd : new RawClient(fd);
  }

  get fd(): number {
    return this.#channel.fd;
  }

  /**
   * Sends bytes with one `sendmsg`, descriptors on the first of them; continues after a short send.
   * Returns how many bytes the kernel took before `timeoutMs` was over, or a negated errno.
   */
  send(bytes: Uint8Array, fds: readonly number[] = [], timeoutMs = 5000): number {
    const deadline = now() + timeoutMs;
    let sent = 0;
    while (sent < bytes.length) {
      const piece = bytes.subarray(sent, sent + chunkBytes);
      outgoing.bytes.set(piece);
      const result =
        sent === 0 && fds.length > 0
          ? this.#channel.sendWithFds(outgoing.address, piece.length, fds, MSG_DONTWAIT)
          : this.#channel.send(outgoing.address, piece.length, MSG_DONTWAIT);
      if (result > 0) sent += result;
      else if (result !== -errno.EAGAIN) return result;
      else if (!this.wait(POLLOUT, deadline - now())) return sent;
    }
    return sent;
  }

  /** Sends each piece with a `send` of its own; descriptors go with the first. The last result. */
  sendPieces(pieces: readonly Uint8Array[], fds: readonly number[] = []): number {
    let result = 0;
    for (const [i, piece] of pieces.entries()) {
      result = this.send(piece, i === 0 ? fds : []);
      if (result !== piece.length) return result;
    }
    return result;
  }

  /** Waits until the socket has one of the events; false after `timeoutMs`. */
  wait(events: number, timeoutMs: number): boolean {
    poll.clear();
    poll.add(this.#channel.fd, events);
    return poll.wait(Math.max(0, Math.ceil(timeoutMs))) > 0;
  }

  /** True when the other end has closed the connection, whatever is still to be read. */
  hungUp(timeoutMs: number): boolean {
    poll.clear();
    poll.add(this.#channel.fd, 0);
    return poll.wait(timeoutMs) > 0 && (poll.ready(0) & POLLHUP) !== 0;
  }

  /** The next whole message. */
  receive(timeoutMs = 5000): Received {
    const deadline = now() + timeoutMs;
    for (;;) {
      if (this.#filled === this.#partial.length) {
        if (this.#filled > Header.size || this.#declared() === Header.size) return this.#take();
        const size = this.#declared();
        if (size < Header.size || size > receivedBytesMax) return "garbled";
        const whole = new Uint8Array(size);
        whole.set(this.#partial);
        this.#partial = whole;
      }
      const result = this.#receiveSome();
      if (result === -errno.EAGAIN) {
        if (!this.wait(POLLIN, deadline - now())) return "silence";
      } else if (result <= 0) return "closed";
    }
  }

  #declared(): number {
    const { buffer, byteOffset } = this.#partial;
    return new DataView(buffer, byteOffset).getUint32(Header.offset.messageSize, true);
  }

  /**
   * Never asks for more than the message in progress, so that descriptors stay with their message.
   */
  #receiveSome(): number {
    const wanted = Math.min(this.#partial.length - this.#filled, chunkBytes);
    const result = this.#channel.receive(incoming.address, wanted, MSG_DONTWAIT);
    if (result <= 0) return result;
    this.#partial.set(incoming.bytes.subarray(0, result), this.#filled);
    this.#filled += result;
    for (let i = 0; i < this.#channel.receivedFdCount; i++) {
      this.#fds.push(this.#channel.receivedFds[i] as number);
    }
    return result;
  }

  #take(): RawMessage {
    const view = new DataView(this.#partial.buffer);
    const message = {
      ...Header.get(view, 0),
      payload: this.#partial.subarray(Header.size),
      fds: this.#fds,
    };
    this.#partial = new Uint8Array(Header.size);
    this.#filled = 0;
    this.#fds = [];
    return message;
  }

  /** Ends the connection both ways and keeps the descriptor. */
  shutdown(): void {
    this.#channel.shutdown();
  }

  /** Closes the connection; a second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const fd of this.#fds) closeFd(fd);
    this.#channel.close();
  }
}
