import { setBits, testBit } from "../../base/bitmap.ts";

/** Some of the pages of a memory, counted. */
export class PageSet {
  readonly pages: number;
  readonly #bits: Uint8Array;
  #count = 0;

  constructor(pages: number) {
    this.pages = pages;
    this.#bits = new Uint8Array(Math.ceil(pages / 8));
  }

  get count(): number {
    return this.#count;
  }

  has(page: number): boolean {
    return testBit(this.#bits, 0, page);
  }

  add(first: number, last: number): void {
    for (let page = first; page <= last; page++) {
      if (this.has(page)) continue;
      setBits(this.#bits, 0, page, 1);
      this.#count += 1;
    }
  }

  remove(page: number): void {
    if (!this.has(page)) return;
    const byte = page >>> 3;
    this.#bits[byte] = (this.#bits[byte] as number) & ~(1 << (page & 7));
    this.#count -= 1;
  }

  /** The next page of the set from `from` on, once around; -1 when it is empty. */
  next(from: number): number {
    if (this.#count === 0) return -1;
    const start = from < this.pages ? from : 0;
    const found = this.#find(start, this.pages);
    return found < 0 ? this.#find(0, start) : found;
  }

  #find(from: number, to: number): number {
    for (let page = from; page < to; ) {
      if ((page & 7) === 0 && this.#bits[page >>> 3] === 0) page += 8;
      else if (this.has(page)) return page;
      else page += 1;
    }
    return -1;
  }

  /** Becomes the same pages as another set of the same memory. */
  copy(other: PageSet): void {
    this.#bits.set(other.#bits);
    this.#count = other.#count;
  }

  clear(): void {
    this.#bits.fill(0);
    this.#count = 0;
  }
}
