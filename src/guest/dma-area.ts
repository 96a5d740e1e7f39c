import { FerryError } from "../base/errors.ts";
import type { GuestRam } from "../client/guest-ram.ts";

/** What every structure that the devices read is aligned to, in bytes. */
const alignment = 64;

/** A piece of guest memory as both sides know it. */
export interface DmaBuffer {
  /** Where the device finds it. */
  readonly iova: number;
  /** Where it begins in the memory's `bytes` and `view`. */
  readonly at: number;
  /** Bytes. */
  readonly size: number;
}

/** Memory that the device reaches, given out from its start until it is cleared. */
export class DmaArea {
  readonly ram: GuestRam;
  readonly buffer: DmaBuffer;
  #used = 0;

  constructor(ram: GuestRam, buffer: DmaBuffer) {
    this.ram = ram;
    this.buffer = buffer;
  }

  /** `size` bytes of zeros; a FerryError when the area is full. */
  allocate(size: number): DmaBuffer {
    const buffer = this.reserve(size);
    this.zero(buffer);
    return buffer;
  }

  /** `size` bytes with whatever is in them, likewise. */
  reserve(size: number): DmaBuffer {
    const { iova, at, size: sizeMax } = this.buffer;
    const buffer = { iova: iova + this.#used, at: at + this.#used, size };
    this.#used += Math.ceil(size / alignment) * alignment;
    if (this.#used > sizeMax) {
      throw new FerryError("no-memory", `${sizeMax} bytes of DMA memory are too few.`);
    }
    return buffer;
  }

  /** A copy of `bytes` for the device. */
  place(bytes: Uint8Array): DmaBuffer {
    const buffer = this.reserve(bytes.length);
    this.ram.bytes.set(bytes, buffer.at);
    return buffer;
  }

  /** What is in `length` bytes of a buffer now, from its byte `from` on. */
  copy({ at }: DmaBuffer, length: number, from = 0): Uint8Array<ArrayBuffer> {
    return this.ram.bytes.slice(at + from, at + from + length);
  }

  /** Fills `target` with what is in a buffer now, from its byte `from` on; gives it back. */
  copyTo(target: Uint8Array, { at }: DmaBuffer, from: number): Uint8Array {
    target.set(this.ram.bytes.subarray(at + from, at + from + target.length));
    return target;
  }

  zero({ at, size }: DmaBuffer): void {
    this.ram.bytes.fill(0, at, at + size);
  }

  /** An area of its own in this one. */
  part(size: number): DmaArea {
    return new DmaArea(this.ram, this.allocate(size));
  }

  /** Takes everything back that was given out. */
  clear(): void {
    this.#used = 0;
  }
}
