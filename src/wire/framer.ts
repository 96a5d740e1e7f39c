import { assert } from "../base/assert.ts";
import { Header } from "../spec/vfio-user.ts";

/** What lies at the front of the received bytes. */
export const Frame = {
  /** Not enough bytes for the next message. */
  partial: 0,
  /** A whole message, at `at`, `size` bytes with its header. */
  message: 1,
  /** A header whose size is below its own; only the header was consumed. */
  tooSmall: 2,
  /** A header whose size is above the limit; its body is skipped as it comes, and never stored. */
  tooLarge: 3,
} as const;
export type Frame = (typeof Frame)[keyof typeof Frame];

/** A message and the descriptors that came with it. */
interface Attachment {
  readonly position: number;
  readonly fds: number[];
}

const noFds: readonly number[] = [];

/**
 * Cuts a stream of bytes into messages inside one buffer, without copying a whole message and
 * without allocating. The owner receives into the place that `room` names, says how much with
 * `received`, and takes messages with `next` until it says `partial`.
 */
export class Framer {
  /** Where the current message starts in the buffer. */
  at = 0;
  /** Its size with the header; meaningless after `partial`. */
  size = 0;
  /** Where the next received byte goes. */
  end = 0;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #from: number;
  readonly #limit: number;
  readonly #messageBytesMax: number;
  #start: number;
  #skip = 0;
  /** Stream position of the buffer's first byte. */
  #base = 0;
  #attachments: Attachment[] = [];

  /**
   * The buffer is `bytes[from, from + capacity)`; a message has at most `messageBytesMax` bytes.
   */
  constructor(view: DataView, from: number, capacity: number, messageBytesMax: number) {
    assert(capacity >= messageBytesMax, "a framer's buffer holds at least one message");
    this.#bytes = new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
    this.#view = view;
    this.#from = from;
    this.#limit = from + capacity;
    this.#messageBytesMax = messageBytesMax;
    this.#start = from;
    this.end = from;
  }

  /** Bytes received and not yet given out. */
  get unparsed(): number {
    return this.end - this.#start;
  }

  /** Where the unparsed bytes start. */
  get start(): number {
    return this.#start;
  }

  /** Bytes of an over-long message that are still to be skipped. */
  get skipping(): number {
    return this.#skip;
  }

  /**
   * How many bytes fit at `end`. What is unparsed moves to the front when that is needed for the
   * message in progress, so there is always room for the rest of it.
   */
  room(): number {
    if (this.#start === this.end) {
      this.#rebase(this.#start - this.#from);
    } else if (this.#limit - this.#start < this.#messageBytesMax) {
      this.#bytes.copyWithin(this.#from, this.#start, this.end);
      this.#rebase(this.#start - this.#from);
    }
    return this.#limit - this.end;
  }

  #rebase(distance: number): void {
    this.#base += distance;
    this.#start -= distance;
    this.end -= distance;
  }

  /** Bytes that are missing from the message in progress; 0 when its header is not there yet. */
  missing(): number {
    if (this.unparsed < Header.size) return 0;
    return Math.max(0, this.#declared(this.#start) - this.unparsed);
  }

  #declared(at: number): number {
    return this.#view.getUint32(at + Header.offset.messageSize, true);
  }

  received(count: number): void {
    this.end += count;
    assert(this.end <= this.#limit, "received more bytes than there was room for");
  }

  /** Moves to the next message. */
  next(): Frame {
    if (this.#skip > 0) this.#skipBody();
    const unparsed = this.end - this.#start;
    if (unparsed < Header.size) return Frame.partial;
    const at = this.#start;
    const size = this.#view.getUint32(at + Header.offset.messageSize, true);
    if (size >= Header.size && size <= this.#messageBytesMax) {
      if (unparsed < size) return Frame.partial;
      this.at = at;
      this.size = size;
      this.#start = at + size;
      return Frame.message;
    }
    this.at = at;
    this.size = Header.size;
    this.#start = at + Header.size;
    if (size < Header.size) return Frame.tooSmall;
    this.#skip = size - Header.size;
    return Frame.tooLarge;
  }

  #skipBody(): void {
    const count = Math.min(this.#skip, this.end - this.#start);
    this.#start += count;
    this.#skip -= count;
  }

  /**
   * Gives descriptors that came with the last received bytes to their message. On a stream socket
   * the kernel puts bytes without descriptors in front of those that carry them and ends the batch
   * there, so they belong to the last message that starts in the buffer. Returns false when there
   * is
   * no such message: the descriptors stay the caller's to close.
   */
  attach(fds: readonly number[]): boolean {
    const at = this.#lastStart();
    if (at < 0) return false;
    const position = this.#base + at;
    const last = this.#attachments.at(-1);
    if (last?.position === position) last.fds.push(...fds);
    else this.#attachments.push({ position, fds: [...fds] });
    return true;
  }

  #lastStart(): number {
    let at = Math.min(this.#start + this.#skip, this.end);
    let last = -1;
    while (at < this.end) {
      last = at;
      if (this.end - at < Header.size) break;
      at += Math.max(Header.size, this.#declared(at));
    }
    return last;
  }

  /** The descriptors of the current message, now the caller's. */
  takeFds(): readonly number[] {
    if (this.#attachments.length === 0) return noFds;
    const position = this.#base + this.at;
    const first = this.#attachments[0] as Attachment;
    if (first.position !== position) return noFds;
    this.#attachments.shift();
    return first.fds;
  }

  /** Every descriptor that no message has taken yet, oldest first, now the caller's. */
  takeAllFds(): number[] {
    const all = this.#attachments.flatMap(({ fds }) => fds);
    this.#attachments = [];
    return all;
  }

  /** Descriptors still attached, each with its distance from the first unparsed byte. */
  pendingFds(): Array<{ distance: number; fds: readonly number[] }> {
    const start = this.#base + this.#start;
    return this.#attachments.map(({ position, fds }) => ({ distance: position - start, fds }));
  }

  /**
   * Forgets everything and, for a connection taken up, begins with what another framer had left.
   */
  restart(unparsed: Uint8Array, skip: number, pending: ReturnType<Framer["pendingFds"]>): void {
    assert(unparsed.length <= this.#limit - this.#from, "unparsed bytes exceed the buffer");
    this.#base = 0;
    this.#start = this.#from;
    this.#skip = skip;
    this.#bytes.set(unparsed, this.#from);
    this.end = this.#from + unparsed.length;
    this.#attachments = pending.map(({ distance, fds }) => ({
      position: this.#start + distance,
      fds: [...fds],
    }));
  }
}
