import { errno } from "../base/errno.ts";
import { Arena, copyInset } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { shutdownSocket } from "../sys/unix.ts";
import { Framer } from "../wire/framer.ts";
import { messageBytesMax, msgFdsMax, receiveSlackBytes } from "./limits.ts";
import { nothingUnsent, Outbox, type Unsent } from "./outbox.ts";

const capacity = messageBytesMax + receiveSlackBytes;
const nothing: Uint8Array = new Uint8Array(0);

/** What an exported socket leaves behind; see {@link Lane.export}. */
export interface LaneState {
  readonly fd: number;
  /** Bytes received and not parsed. */
  readonly unparsed: Uint8Array;
  /** Bytes of an over-long message that are still to be skipped. */
  readonly skip: number;
  /** Descriptors that came with unparsed messages, by distance from the first unparsed byte. */
  readonly pendingFds: ReadonlyArray<{ distance: number; fds: readonly number[] }>;
  /** Replies that the peer has not taken. */
  readonly unsent: Unsent;
}

/**
 * One socket of a connection (the main one or its twin): receive buffer, framer and outbox. It
 * outlives the socket, so that its memory serves one connection after the other.
 */
export class Lane {
  readonly channel = new Channel(-1);
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly framer: Framer;
  readonly outbox = new Outbox(this.channel);
  readonly #arena = new Arena(copyInset + capacity);

  constructor() {
    this.bytes = this.#arena.bytes;
    this.view = this.#arena.view;
    this.framer = new Framer(this.view, copyInset, capacity, messageBytesMax);
  }

  get isOpen(): boolean {
    return this.channel.fd >= 0;
  }

  /** Begins with a fresh socket, perhaps with bytes that somebody has already received from it. */
  open(fd: number, unparsed = new Uint8Array(0), pendingFds: LaneState["pendingFds"] = []): void {
    this.take({ fd, unparsed, skip: 0, pendingFds, unsent: nothingUnsent });
  }

  /** Goes on where another lane, perhaps in another process, has stopped. */
  take(state: LaneState): void {
    this.channel.fd = state.fd;
    this.framer.restart(state.unparsed, state.skip, [...state.pendingFds]);
    this.outbox.restart(state.unsent);
  }

  /** Receives what fits: how many bytes, 0 at the end of the stream, or a negated errno. */
  receive(blocking: boolean): number {
    const room = this.framer.room();
    const address = this.#arena.address + this.framer.end;
    const { channel } = this;
    const received = channel.receive(address, room, blocking ? 0 : MSG_DONTWAIT);
    if (received <= 0) return received;
    if (channel.truncated) return this.#loseDescriptors();
    this.framer.received(received);
    if (channel.receivedFdCount > 0) this.#attach();
    return received;
  }

  /** This process has no free descriptor: a message has lost its own, and cannot be served. */
  #loseDescriptors(): number {
    this.channel.closeReceived();
    return -errno.EMFILE;
  }

  /** One descriptor more than allowed is kept, so that the message's handler sees the breach. */
  #attach(): void {
    const { channel } = this;
    channel.closeReceived(msgFdsMax + 1);
    const fds = Array.from(channel.receivedFds.subarray(0, channel.receivedFdCount));
    if (!this.framer.attach(fds)) channel.closeReceived();
  }

  /**
   * Stops using the socket and tells all that a successor needs; the socket stays open. A `last`
   * message goes along behind what is unsent.
   */
  export(last = nothing): LaneState {
    const { framer, outbox } = this;
    const unsent = outbox.takeUnsent();
    const state: LaneState = {
      fd: this.channel.fd,
      unparsed: this.bytes.slice(framer.start, framer.end),
      skip: framer.skipping,
      pendingFds: framer.pendingFds(),
      unsent: { ...unsent, bytes: joined(unsent.bytes, last) },
    };
    framer.takeAllFds();
    this.channel.fd = -1;
    return state;
  }

  /**
   * Closes the socket and every descriptor that nobody has taken. The peer sees the end at once,
   * even while somebody else holds a duplicate of the socket.
   */
  close(): void {
    for (const fd of this.framer.takeAllFds()) closeFd(fd);
    this.outbox.clear();
    shutdownSocket(this.channel.fd);
    closeFd(this.channel.fd);
    this.channel.fd = -1;
  }
}

function joined(first: Uint8Array, second: Uint8Array): Uint8Array {
  const all = new Uint8Array(first.length + second.length);
  all.set(first);
  all.set(second, first.length);
  return all;
}

/** True for results of `receive` that only mean "nothing now". */
export const isQuiet = (result: number): boolean =>
  result === -errno.EAGAIN || result === -errno.EINTR;
