import { Header } from "../../spec/vfio-user.ts";

/** Bytes of a message that are kept to be shown; a capability text fits whole. */
export const captureBytesMax = 20_480;

/** One message that has gone by. `bytes` is its front and good until the next call. */
export interface SeenMessage {
  readonly bytes: Uint8Array;
  /** Bytes of the whole message; fewer than it declares when the stream ended inside. */
  readonly size: number;
  readonly fdCount: number;
}

/**
 * Follows a stream of messages without storing it: knows where each one starts and keeps its front.
 * A size below a header's is followed by the next header, as if the message were one.
 */
export class MessageMeter {
  /** Stream position of the message that started last. */
  lastStart = 0;
  readonly #seen: (message: SeenMessage) => void;
  readonly #capture = new Uint8Array(captureBytesMax);
  readonly #view = new DataView(this.#capture.buffer);
  #position = 0;
  /** Bytes of the message in progress that have come, and how many it has in all. */
  #count = 0;
  #size = Number.POSITIVE_INFINITY;
  #fdCount = 0;
  #messages = 0;

  constructor(seen: (message: SeenMessage) => void) {
    this.#seen = seen;
  }

  /** Bytes at the stream's end that are no whole header yet. */
  get headerBytes(): number {
    return this.#count < Header.size ? this.#count : 0;
  }

  /** True until the first message is complete, if it is short enough to be kept whole. */
  get inFirst(): boolean {
    const short = this.#count < Header.size || this.#size <= captureBytesMax;
    return this.#messages === 0 && this.#count < this.#size && short;
  }

  /** Takes `bytes[from, to)`, and gives out every message but the one that it ends with. */
  feed(bytes: Uint8Array, from: number, to: number): void {
    for (let at = from; at < to; ) {
      if (this.#count >= this.#size) this.#emit();
      if (this.#count === 0) this.lastStart = this.#position;
      const wanted = this.#count < Header.size ? Header.size : this.#size;
      const part = Math.min(to - at, wanted - this.#count);
      this.#keep(bytes, at, part);
      this.#count += part;
      this.#position += part;
      at += part;
      if (this.#count === Header.size) {
        const declared = this.#view.getUint32(Header.offset.messageSize, true);
        this.#size = Math.max(declared, Header.size);
      }
    }
  }

  /**
   * After `feed`: descriptors came along, which are the last message's; it is given out if whole.
   */
  settle(fdCount: number): void {
    this.#fdCount += fdCount;
    if (this.#count >= this.#size) this.#emit();
  }

  #keep(bytes: Uint8Array, at: number, length: number): void {
    const kept = Math.min(length, captureBytesMax - this.#count);
    if (kept > 0) this.#capture.set(bytes.subarray(at, at + kept), this.#count);
  }

  #emit(): void {
    const size = this.#count;
    const bytes = this.#capture.subarray(0, Math.min(size, captureBytesMax));
    const fdCount = this.#fdCount;
    this.#messages += 1;
    this.#count = 0;
    this.#size = Number.POSITIVE_INFINITY;
    this.#fdCount = 0;
    this.#seen({ bytes, size, fdCount });
  }

  /** The stream has ended; what there is of a message is given out. */
  end(): void {
    if (this.#count > 0) this.#emit();
  }
}
