import { assert } from "../base/assert.ts";
import * as k from "../sys/constants.ts";
import { addSeals, closeFd, createMemfd, fileSize, sealsOf } from "../sys/descriptors.ts";
import { Window } from "../sys/window.ts";

const seals = k.F_SEAL_SHRINK | k.F_SEAL_GROW | k.F_SEAL_SEAL;

/**
 * What a client may map, in front of memory of the device's state. A mapping cannot be taken back:
 * a client that keeps one can store at any time, also after it was told that the device stands
 * still. So what is offered is a file of its own. While the device runs, the file is its memory;
 * when it stops, the file is copied to the state once, and what is stored from then on reaches
 * nothing that is saved. When the device runs again, the file becomes what the state says: the
 * state wins over every store in between.
 */
export class Shadow {
  /** What clients see. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same memory in the device's state. */
  readonly record: Uint8Array<ArrayBuffer>;
  readonly #window: Window;
  #fd: number;
  #live = true;

  constructor(name: string, record: Uint8Array<ArrayBuffer>) {
    const size = record.length;
    assert(size > 0 && size % 4096 === 0, `${name} cannot be mapped: ${size} bytes`);
    const fd = createMemfd(`vfio-ferry-${name}`, size);
    const window = Window.reserve(size);
    assert(fd >= 0 && window !== null, `no memory for ${name}: ${fd}`);
    const laid = window.lay(fd, 0, size, true);
    assert(laid === 0 && addSeals(fd, seals) === 0, `${name} cannot be mapped: ${laid}`);
    this.#fd = fd;
    this.#window = window;
    this.bytes = window.bytes;
    this.record = record;
  }

  /** The file, which a client maps; sealed, so that it cannot take pages away from under us. */
  get fd(): number {
    return this.#fd;
  }

  /** Whether a descriptor is of such a file. */
  fits(fd: number): boolean {
    return fileSize(fd) === this.bytes.length && (sealsOf(fd) & seals) === seals;
  }

  /**
   * Takes the file of another device in place of this one, with all that is stored there, and its
   * descriptor; 0 or a negated errno.
   */
  take(fd: number): number {
    const laid = this.#window.lay(fd, 0, this.bytes.length, true);
    closeFd(laid < 0 ? fd : this.#fd);
    if (laid < 0) return laid;
    this.#fd = fd;
    return 0;
  }

  /** Is the file the device's memory at the moment? */
  get live(): boolean {
    return this.#live;
  }

  /** The device's memory at the moment. */
  get memory(): Uint8Array<ArrayBuffer> {
    return this.#live ? this.bytes : this.record;
  }

  /** Copies a part of the file to the state, as it is now. */
  capture(from: number, to: number): void {
    if (this.#live) this.record.set(this.bytes.subarray(from, to), from);
  }

  /** The file was captured; from here on the state is the device's memory. */
  part(): void {
    this.#live = false;
  }

  /** Makes a part of the file what the state says. */
  show(from: number, to: number): void {
    this.bytes.set(this.record.subarray(from, to), from);
  }

  /** Makes all of the file zero. */
  clear(): void {
    const result = this.#window.remove(0, this.bytes.length);
    assert(result === 0, `a file in memory could not be emptied: ${result}`);
  }

  /** The file shows the state, and is the device's memory from here on. */
  join(): void {
    this.#live = true;
  }
}
