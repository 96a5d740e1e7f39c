import type { Shadow } from "../../device/shadow.ts";
import { PageSet } from "./page-set.ts";
import { bulkPageBytes, bulkZeroBytesMax } from "./registers.ts";

/** Pages that one sweep compares: 64 MiB, some ten milliseconds. */
const sweepPages = 16_384;
/** Compared at once; only where such blocks differ are their pages looked at. */
const blockPages = 16;
const zeroPagesMax = bulkZeroBytesMax / bulkPageBytes;
const zeroes = Buffer.alloc(bulkPageBytes);

/** Some pages in a row. */
export interface Run {
  readonly page: number;
  readonly pages: number;
  /** Are they nothing but zeroes? */
  readonly zero: boolean;
}

const bufferOf = (bytes: Uint8Array): Buffer =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length);

/**
 * On-board memory, and which of its pages were ever written, or were written since they were last
 * looked at. What the function itself writes it says; what clients store through a mapping nobody
 * says, so a mapped board is compared with what was last seen of it, a sweep at a time.
 */
export class Board {
  readonly pages: number;
  readonly #record: Buffer;
  readonly #shadow: Shadow | null;
  readonly #shared: Buffer | null;
  /** Every page that may be something else than zeroes. */
  readonly #touched: PageSet;
  readonly #dirty: PageSet;
  #tracking = false;
  /** Where the next sweep starts, and where the next run is looked for. */
  #sweepAt = 0;
  #runAt = 0;

  /** `record` is the memory in the device's state; clients map `shadow`, when they may. */
  constructor(record: Uint8Array, shadow: Shadow | null) {
    this.pages = record.length / bulkPageBytes;
    this.#record = bufferOf(record);
    this.#shadow = shadow;
    this.#shared = shadow === null ? null : bufferOf(shadow.bytes);
    this.#touched = new PageSet(this.pages);
    this.#dirty = new PageSet(this.pages);
  }

  get bytes(): number {
    return this.#record.length;
  }

  /** The memory as it is at the moment. */
  get memory(): Uint8Array {
    return this.#shadow?.live === true ? this.#shadow.bytes : this.#record;
  }

  /** The memory as it was last seen: what `take` answers lies here. */
  get record(): Uint8Array {
    return this.#record;
  }

  get dirtyPages(): number {
    return this.#dirty.count;
  }

  /** True when the range, of at least one byte, is on the board. */
  holds(offset: number, length: number): boolean {
    return length > 0 && length <= this.bytes && offset <= this.bytes - length;
  }

  /** Says that a range was written. */
  mark(offset: number, length: number): void {
    const first = Math.floor(offset / bulkPageBytes);
    const last = Math.floor((offset + length - 1) / bulkPageBytes);
    this.#touched.add(first, last);
    if (this.#tracking) this.#dirty.add(first, last);
  }

  /** Begins: all that may not be zero is as good as changed. Or ends. */
  track(on: boolean): void {
    this.#tracking = on;
    this.#runAt = 0;
    this.#sweepAt = 0;
    if (on) this.#dirty.copy(this.#touched);
    else this.#dirty.clear();
  }

  /** The next pages that changed, at most `pagesMax`, which count as unchanged from here on. */
  take(pagesMax: number): Run | null {
    if (this.#dirty.count === 0) this.#sweep();
    const page = this.#dirty.next(this.#runAt);
    if (page < 0) return null;
    const zero = this.#isZero(page);
    const most = Math.min(zero ? zeroPagesMax : pagesMax, this.pages - page);
    let pages = 0;
    while (pages < most && this.#dirty.has(page + pages)) {
      if (pages > 0 && this.#isZero(page + pages) !== zero) break;
      this.#dirty.remove(page + pages);
      pages += 1;
    }
    this.#runAt = page + pages;
    return { page, pages, zero };
  }

  /** Looks at a page as it is now, and remembers that. */
  #isZero(page: number): boolean {
    const at = page * bulkPageBytes;
    this.#shadow?.capture(at, at + bulkPageBytes);
    if (this.#record.readInt32LE(at) !== 0) return false;
    return zeroes.compare(this.#record, at, at + bulkPageBytes) === 0;
  }

  /** Finds what clients have stored in some of the pages; true at the end of the memory. */
  #sweep(): boolean {
    if (this.#shadow?.live !== true) return true;
    const end = Math.min(this.#sweepAt + sweepPages, this.pages);
    this.#eachDifference(this.#sweepAt, end, (page) => {
      this.mark(page * bulkPageBytes, bulkPageBytes);
    });
    this.#sweepAt = end % this.pages;
    return this.#sweepAt === 0;
  }

  #eachDifference(from: number, to: number, visit: (page: number) => void): void {
    for (let page = from; page < to; page += blockPages) {
      const pages = Math.min(blockPages, to - page);
      if (!this.#differs(page, pages)) continue;
      for (let i = 0; i < pages; i++) if (this.#differs(page + i, 1)) visit(page + i);
    }
  }

  #differs(page: number, pages: number): boolean {
    const at = page * bulkPageBytes;
    const end = at + pages * bulkPageBytes;
    return this.#shared?.compare(this.#record, at, end, at, end) !== 0;
  }

  /** A step of letting go of what is mapped; true when clients reach nothing any more. */
  part(first: boolean): boolean {
    if (this.#shadow?.live !== true) return true;
    if (first) this.#sweepAt = 0;
    const from = this.#sweepAt;
    const done = this.#sweep();
    const end = done ? this.pages : this.#sweepAt;
    this.#eachDifference(from, end, (page) => {
      this.#shadow?.capture(page * bulkPageBytes, (page + 1) * bulkPageBytes);
    });
    if (done) this.#shadow.part();
    return done;
  }

  /** A step of showing clients what the memory is; true when they share it again. */
  join(first: boolean): boolean {
    if (this.#shadow === null || this.#shadow.live) return true;
    if (first) this.#sweepAt = 0;
    const end = Math.min(this.#sweepAt + sweepPages, this.pages);
    this.#eachDifference(this.#sweepAt, end, (page) => {
      this.#shadow?.show(page * bulkPageBytes, (page + 1) * bulkPageBytes);
    });
    this.#sweepAt = end % this.pages;
    if (this.#sweepAt !== 0) return false;
    this.#shadow.join();
    return true;
  }

  /** The memory is another one, of which nothing is known. */
  replaced(): void {
    this.#touched.add(0, this.pages - 1);
    if (this.#tracking) this.#dirty.copy(this.#touched);
  }

  /** The memory was made zero; clients see it. */
  cleared(): void {
    if (this.#tracking) this.#dirty.copy(this.#touched);
    else this.#touched.clear();
  }
}
