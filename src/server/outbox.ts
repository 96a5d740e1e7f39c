import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { Arena } from "../sys/arena.ts";
import type { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { viewOf } from "../sys/libc.ts";
import { LoanPipe } from "../sys/loan.ts";
import { loanBytesMin, messageBytesMax, replyBatchBytes } from "./limits.ts";

/** A message that carries descriptors is sent alone, so that nobody can take them for another's. */
export interface Parcel {
  readonly from: number;
  readonly to: number;
  readonly fds: readonly number[];
  /** Close the descriptors once they are sent. */
  readonly owned: boolean;
}

/** What an outbox had not sent: bytes, and the parcels among them by position. */
export interface Unsent {
  readonly bytes: Uint8Array;
  readonly parcels: readonly Parcel[];
}

/** Nothing to send. */
export const nothingUnsent: Unsent = { bytes: new Uint8Array(0), parcels: [] };

/**
 * Messages on their way out, in order. They are written in place, gathered, and sent without
 * blocking; what the peer does not take yet stays. Nothing is allocated for a message without
 * descriptors.
 */
export class Outbox {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #arena = new Arena(replyBatchBytes + 2 * messageBytesMax);
  readonly #channel: Channel;
  #head = 0;
  #tail = 0;
  #parcels: Parcel[] = [];
  #lentAddress = 0;
  #lentBytes = 0;
  /** A part of the loan may be in the pipe. */
  #lending = false;
  readonly #loan = new LoanPipe();

  constructor(channel: Channel) {
    this.#channel = channel;
    this.bytes = this.#arena.bytes;
    this.view = this.#arena.view;
  }

  /** Bytes that are not sent yet. */
  get waiting(): number {
    return this.#tail - this.#head + this.#lentBytes;
  }

  /** True when a message of any allowed size may be added. */
  get open(): boolean {
    return this.#tail < replyBatchBytes && this.#lentBytes === 0;
  }

  /** Where the next message is to be written. */
  get at(): number {
    return this.#tail;
  }

  /** The message written at `at` is complete. */
  commit(length: number): void {
    this.#tail += length;
  }

  /** The same for a message that carries descriptors. */
  commitWithFds(length: number, fds: readonly number[], owned: boolean): void {
    this.#parcels.push({ from: this.#tail, to: this.#tail + length, fds, owned });
    this.#tail += length;
  }

  /** The message written at `at` goes on with memory that lies elsewhere and is sent from there. */
  commitLent(length: number, address: number, lentBytes: number): void {
    assert(this.#lentBytes === 0, "one lent piece at a time");
    this.#tail += length;
    this.#lentAddress = address;
    this.#lentBytes = lentBytes;
  }

  /** Everything that is not sent, descriptors included, for a successor to send. */
  takeUnsent(): Unsent {
    const own = this.#tail - this.#head;
    const bytes = new Uint8Array(own + this.#lentBytes);
    bytes.set(this.bytes.subarray(this.#head, this.#tail));
    if (this.#lentBytes > 0) {
      bytes.set(new Uint8Array(viewOf(this.#lentAddress, this.#lentBytes)), own);
    }
    const parcels = this.#parcels.map((parcel) => ({
      ...parcel,
      from: parcel.from - this.#head,
      to: parcel.to - this.#head,
    }));
    this.#parcels = [];
    this.clear();
    return { bytes, parcels };
  }

  /** Begins with what another outbox had not sent. */
  restart({ bytes, parcels }: Unsent): void {
    assert(bytes.length <= this.#arena.size, "more bytes than an outbox holds");
    this.clear();
    this.bytes.set(bytes);
    this.#tail = bytes.length;
    this.#parcels = [...parcels];
  }

  /**
   * Sends what the peer takes: 0 when all is sent, EAGAIN when some waits, or the socket's errno.
   */
  flush(): number {
    while (this.#head < this.#tail || this.#lentBytes > 0) {
      const sent = this.#sendSome();
      if (sent === -errno.EINTR) continue;
      if (sent < 0) return sent;
    }
    this.#head = 0;
    this.#tail = 0;
    return 0;
  }

  #sendSome(): number {
    const parcel = this.#parcels[0];
    if (parcel !== undefined && parcel.from === this.#head) return this.#sendParcel(parcel);
    const end = parcel === undefined ? this.#tail : parcel.from;
    const address = this.#arena.address + this.#head;
    const own = end - this.#head;
    const lends = this.#lentBytes > 0 && end === this.#tail;
    const sent = lends
      ? this.#sendLent(address, own)
      : this.#channel.send(address, own, MSG_DONTWAIT);
    if (sent > 0) this.#advance(sent, own);
    return sent;
  }

  /**
   * A large loan goes without a copy, behind the bytes before it; a small one is not worth the
   * calls.
   */
  #sendLent(address: number, own: number): number {
    const { fd } = this.#channel;
    if (this.#loan.works && (this.#lending || this.#lentBytes >= loanBytesMin)) {
      if (own > 0) return this.#channel.send(address, own, MSG_DONTWAIT);
      this.#lending = true;
      const sent = this.#loan.send(fd, this.#lentAddress, this.#lentBytes);
      if (this.#loan.works) return sent;
    }
    return this.#channel.sendTwo(address, own, this.#lentAddress, this.#lentBytes, MSG_DONTWAIT);
  }

  #advance(sent: number, own: number): void {
    const fromOwn = Math.min(sent, own);
    this.#head += fromOwn;
    this.#lentAddress += sent - fromOwn;
    this.#lentBytes -= sent - fromOwn;
    if (this.#lentBytes === 0) this.#lending = false;
  }

  #sendParcel(parcel: Parcel): number {
    const address = this.#arena.address + parcel.from;
    const length = parcel.to - parcel.from;
    const sent = this.#channel.sendWithFds(address, length, parcel.fds, MSG_DONTWAIT);
    if (sent <= 0) return sent;
    this.#head += sent;
    this.#release(parcel);
    return sent;
  }

  #release(parcel: Parcel): void {
    this.#parcels.shift();
    if (parcel.owned) for (const fd of parcel.fds) closeFd(fd);
  }

  /** Throws everything away, with the descriptors that it owned. */
  clear(): void {
    for (const parcel of [...this.#parcels]) this.#release(parcel);
    this.#head = 0;
    this.#tail = 0;
    this.#lentBytes = 0;
    this.#lending = false;
    this.#loan.clear();
  }
}
