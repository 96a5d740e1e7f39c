import { Header } from "../spec/vfio-user.ts";
import { holdBytesMax, messageBytesMax } from "./limits.ts";

/** Messages set aside in order while a device is frozen, to be served when it thaws. */
export class HoldQueue {
  /** Where the message that `next` found starts, and its size. */
  at = 0;
  size = 0;
  bytes = new Uint8Array(0);
  view = new DataView(this.bytes.buffer);
  #head = 0;
  #tail = 0;

  /** True while one more message of any size fits. */
  get open(): boolean {
    return this.#tail - this.#head < holdBytesMax;
  }

  get isEmpty(): boolean {
    return this.#head === this.#tail;
  }

  push(bytes: Uint8Array, at: number, size: number): void {
    this.#makeRoom(size);
    this.bytes.set(bytes.subarray(at, at + size), this.#tail);
    this.#tail += size;
  }

  #makeRoom(size: number): void {
    if (this.bytes.length === 0) this.#allocate();
    if (this.#tail + size <= this.bytes.length) return;
    this.bytes.copyWithin(0, this.#head, this.#tail);
    this.#tail -= this.#head;
    this.#head = 0;
  }

  /** The buffer comes with the first freeze: most sessions never need it. */
  #allocate(): void {
    this.bytes = new Uint8Array(holdBytesMax + messageBytesMax);
    this.view = new DataView(this.bytes.buffer);
  }

  /** Moves to the oldest message; false when there is none. */
  next(): boolean {
    if (this.isEmpty) return false;
    this.at = this.#head;
    this.size = this.view.getUint32(this.#head + Header.offset.messageSize, true);
    this.#head += this.size;
    return true;
  }

  /** Everything held, as it was received. */
  copy(): Uint8Array {
    return this.bytes.slice(this.#head, this.#tail);
  }

  /** Replaces what is held. */
  restart(held: Uint8Array): void {
    this.#head = 0;
    this.#tail = 0;
    if (held.length > 0) this.push(held, 0, held.length);
  }
}
