import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { Arena, copyInset } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT, SCM_MAX_FD } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { Framer } from "../wire/framer.ts";

/**
 * Descriptors that messages still in the buffer may carry in all; a peer that sends more is cut
 * off.
 */
export const fdsPendingMax = 1024;

/** Largest messages that fit a buffer: one that is sent or parsed and one that waits behind it. */
const messagesBuffered = 2;
const noFds: readonly number[] = [];

/**
 * One socket of a connection: bytes come in through a framer and leave through a queue, so that an
 * answer can be written while an earlier message is still half sent. Nothing is allocated a
 * message.
 */
export class Link {
  readonly channel: Channel;
  readonly framer: Framer;
  /** Where received messages lie; `framer.at` counts from its start. */
  readonly incoming: Arena;
  /** Where messages are built; the place that `reserve` returns counts from its start. */
  readonly outgoing: Arena;
  readonly #messageBytesMax: number;
  #head = 0;
  #tail = 0;
  #fds: readonly number[] = noFds;

  /** Takes over the connected socket `fd`; `messageBytesMax` bounds a message either way. */
  constructor(fd: number, messageBytesMax: number) {
    const capacity = messageBytesMax * messagesBuffered;
    this.channel = new Channel(fd);
    this.incoming = new Arena(copyInset + capacity);
    this.outgoing = new Arena(capacity);
    this.#messageBytesMax = messageBytesMax;
    this.framer = new Framer(this.incoming.view, copyInset, capacity, messageBytesMax);
  }

  /** True when the message at a place of `incoming` is a reply. */
  isReply(at: number): boolean {
    const flags = this.incoming.view.getUint32(at + Header.offset.flags, true);
    return (flags & HeaderFlags.mask.type) === MessageType.reply;
  }

  /** The size that the message at the framer's place says it has. */
  get declaredSize(): number {
    return this.incoming.view.getUint32(this.framer.at + Header.offset.messageSize, true);
  }

  /** True while there is something left to send. */
  get unsent(): boolean {
    return this.#head < this.#tail;
  }

  /** True when the largest message fits behind what is queued. */
  get roomy(): boolean {
    return this.outgoing.size - (this.#tail - this.#head) >= this.#messageBytesMax;
  }

  /**
   * Receives once into the framer: a count of bytes, 0 at the end of the stream, or a negated
   * errno. EPROTO says that the peer sent more descriptors than anything could want.
   */
  receive(flags = 0): number {
    const room = this.framer.room();
    if (room === 0) return -errno.EAGAIN;
    const { channel, framer } = this;
    const count = channel.receive(this.incoming.address + framer.end, room, flags);
    if (count > 0) framer.received(count);
    return count > 0 && channel.receivedFdCount > 0 ? this.#attach(count) : count;
  }

  #attach(count: number): number {
    const { channel, framer } = this;
    const fds = Array.from(channel.receivedFds.subarray(0, channel.receivedFdCount));
    const before = framer.pendingFds().reduce((sum, each) => sum + each.fds.length, 0);
    const taken = before + fds.length <= fdsPendingMax && framer.attach(fds);
    if (taken) return count;
    channel.closeReceived();
    return before + fds.length <= fdsPendingMax ? count : -errno.EPROTO;
  }

  /**
   * The place for a message of `length` bytes behind what is queued; the caller has asked `roomy`.
   */
  reserve(length: number): number {
    assert(length <= this.#messageBytesMax, `a message of ${length} bytes exceeds its limit`);
    if (this.#head === this.#tail) {
      this.#head = 0;
      this.#tail = 0;
    } else if (this.outgoing.size - this.#tail < length) {
      this.outgoing.bytes.copyWithin(0, this.#head, this.#tail);
      this.#tail -= this.#head;
      this.#head = 0;
    }
    assert(this.outgoing.size - this.#tail >= length, "a message was reserved without room");
    return this.#tail;
  }

  /** Queues the message that was built at the reserved place. */
  queue(length: number): void {
    this.#tail += length;
  }

  /**
   * Queues likewise, with descriptors that go out with the message's header; the queue is empty.
   */
  queueWithFds(length: number, fds: readonly number[]): void {
    assert(this.#head === this.#tail, "descriptors are sent from an empty queue only");
    assert(fds.length <= SCM_MAX_FD, `${fds.length} descriptors exceed one message`);
    this.#fds = fds;
    this.#tail += length;
  }

  /**
   * Sends without waiting: 0 when nothing is left, EAGAIN when the rest has to wait, or an errno.
   */
  flush(): number {
    while (this.#head < this.#tail) {
      const sent = this.#sendSome();
      if (sent === -errno.EINTR) continue;
      if (sent < 0) return sent;
      this.#head += sent;
    }
    return 0;
  }

  #sendSome(): number {
    const address = this.outgoing.address + this.#head;
    const length = this.#tail - this.#head;
    if (this.#fds.length === 0) return this.channel.send(address, length, MSG_DONTWAIT);
    const sent = this.channel.sendWithFds(address, length, this.#fds, MSG_DONTWAIT);
    if (sent >= 0) this.#fds = noFds;
    return sent;
  }

  /** Forgets what is queued. */
  discard(): void {
    this.#head = 0;
    this.#tail = 0;
    this.#fds = noFds;
  }

  /** Closes the socket and every descriptor that nobody took. No view of it may be used again. */
  close(): void {
    for (const fd of this.framer.takeAllFds()) closeFd(fd);
    this.channel.shutdown();
    this.channel.close();
    this.incoming.free();
    this.outgoing.free();
  }
}
