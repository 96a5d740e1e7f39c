import { bitmapBytes, clearBits, isPowerOfTwo, setBits } from "../base/bitmap.ts";
import { errno } from "../base/errno.ts";
import { addressEnd } from "./dma-map.ts";

/**
 * The smallest page that can be logged, as in Linux (`vfio_ioctl_device_feature_logging_start`).
 */
export const loggedPageMin = 4096;

/** The largest: a 1 GiB huge page. */
export const loggedPageMax = 2 ** 30;

/** Ranges of one DMA_LOGGING_START, as in Linux (`LOG_MAX_RANGES` of 4 KiB pages). */
export const loggedRangesMax = 256;

/** Pages of one chunk of the log, which costs an eighth of that in bytes: 128 MiB in 4 KiB. */
const chunkPages = 32_768;

/**
 * Chunks of one log: 64 MiB of memory, for 2 TiB of guest memory in one piece. A device that writes
 * to more places than that has everything reported dirty from then on.
 */
export const chunksMax = 16_384;

/** Guest addresses that are logged. */
export interface LoggedRange {
  readonly iova: number;
  readonly length: number;
}

const everything: readonly LoggedRange[] = [{ iova: 0, length: addressEnd }];

function sameRanges(one: readonly LoggedRange[], other: readonly LoggedRange[]): boolean {
  return (
    one.length === other.length &&
    one.every(({ iova, length }, i) => iova === other[i]?.iova && length === other[i]?.length)
  );
}

/**
 * Which pages a device has written (DMA_LOGGING_START, REPORT, STOP). A log costs memory only where
 * the device writes, whatever is mapped, and answers for any range, not only for whole mappings.
 */
export class DirtyLog {
  #pageSize = 0;
  #perPage = 0;
  #span = 0;
  #ranges: readonly LoggedRange[] = [];
  readonly #chunks = new Map<number, Uint8Array<ArrayBuffer>>();
  #saturated = false;
  /** The last chunk that was marked, and the logged addresses that fall into it. */
  #chunk = new Uint8Array(0);
  #chunkStart = 0;
  #hotStart = addressEnd;
  #hotEnd = 0;
  readonly #chunksMax: number;

  constructor(max: number = chunksMax) {
    this.#chunksMax = max;
  }

  get active(): boolean {
    return this.#pageSize !== 0;
  }

  /** Bytes of a logged page; 0 while nothing is logged. */
  get pageSize(): number {
    return this.#pageSize;
  }

  /** Chunks that the log has needed so far. */
  get chunkCount(): number {
    return this.#chunks.size;
  }

  /**
   * Starts; no ranges means everything. EINVAL for a page size that is no power of two or out of
   * bounds, for ranges that are empty, overlap or are not made of whole pages, and while a log with
   * another page size or other ranges is on: to go on with the old ones would lose pages. The same
   * again changes nothing. E2BIG for more than `loggedRangesMax`.
   */
  start(pageSize: number, ranges: readonly LoggedRange[]): number {
    if (!isPowerOfTwo(pageSize) || pageSize < loggedPageMin || pageSize > loggedPageMax) {
      return -errno.EINVAL;
    }
    if (ranges.length > loggedRangesMax) return -errno.E2BIG;
    const sorted = ranges.length === 0 ? everything : ranges.toSorted((a, b) => a.iova - b.iova);
    if (ranges.length > 0 && !this.#areValid(pageSize, sorted)) return -errno.EINVAL;
    if (this.active) {
      const same = pageSize === this.#pageSize && sameRanges(sorted, this.#ranges);
      return same ? 0 : -errno.EINVAL;
    }
    this.#pageSize = pageSize;
    this.#perPage = 1 / pageSize;
    this.#span = pageSize * chunkPages;
    this.#ranges = sorted;
    return 0;
  }

  #areValid(pageSize: number, sorted: readonly LoggedRange[]): boolean {
    let end = 0;
    for (const { iova, length } of sorted) {
      if (length === 0 || iova % pageSize !== 0 || length % pageSize !== 0) return false;
      if (iova < end || iova + length > addressEnd) return false;
      end = iova + length;
    }
    return true;
  }

  /** Stops and forgets everything. */
  stop(): void {
    this.#pageSize = 0;
    this.#saturated = false;
    this.#ranges = [];
    this.#chunks.clear();
    this.#forgetChunk();
  }

  #forgetChunk(): void {
    this.#hotStart = addressEnd;
    this.#hotEnd = 0;
  }

  /** Says that the device has written the range. */
  mark(iova: number, length: number): void {
    if (iova >= this.#hotStart && iova + length <= this.#hotEnd) {
      const first = ((iova - this.#chunkStart) * this.#perPage) | 0;
      const last = ((iova + length - 1 - this.#chunkStart) * this.#perPage) | 0;
      setBits(this.#chunk, 0, first, last - first + 1);
      return;
    }
    if (this.#pageSize === 0 || length === 0) return;
    for (const range of this.#ranges) {
      const start = Math.max(iova, range.iova);
      const end = Math.min(iova + length, range.iova + range.length);
      if (start < end) this.#markWithin(range, start, end);
    }
  }

  #markWithin(range: LoggedRange, start: number, end: number): void {
    for (let from = start; from < end && !this.#saturated; ) {
      const key = Math.floor(from / this.#span);
      const chunk = this.#chunks.get(key) ?? this.#addChunk(key);
      if (chunk === null) return;
      this.#chunk = chunk;
      this.#chunkStart = key * this.#span;
      this.#hotStart = Math.max(this.#chunkStart, range.iova);
      this.#hotEnd = Math.min(this.#chunkStart + this.#span, range.iova + range.length);
      const to = Math.min(end, this.#hotEnd);
      this.mark(from, to - from);
      from = to;
    }
  }

  #addChunk(key: number): Uint8Array<ArrayBuffer> | null {
    if (this.#chunks.size >= this.#chunksMax) {
      this.#saturated = true;
      return null;
    }
    const chunk = new Uint8Array(chunkPages / 8);
    this.#chunks.set(key, chunk);
    return chunk;
  }

  /**
   * Writes one bit for each `pageSize` bytes from `iova` on into `bitmap` from `at`, in whole u64
   * words, and clears the logged pages that lie in the range as a whole: a page that sticks out is
   * reported again with its other part. A smaller page than the logged one repeats its bit, a
   * larger one has the bits of all of its pages. EINVAL while nothing is logged, for a page size
   * that is no power of two or more than the range, and for a bitmap that does not hold the bits.
   */
  report(iova: number, length: number, pageSize: number, bitmap: Uint8Array, at: number): number {
    const count = this.reportedPages(iova, length, pageSize, bitmap.length - at);
    if (count < 0) return count;
    bitmap.fill(0, at, at + bitmapBytes(count));
    if (this.#saturated) {
      setBits(bitmap, at, 0, count);
      return 0;
    }
    this.#eachChunk(iova, iova + length, (chunk, start) => {
      this.#reportChunk(chunk, start, iova, length, pageSize, bitmap, at);
    });
    return 0;
  }

  /** How many bits a report has that fits into `capacity` bytes, or EINVAL. */
  reportedPages(iova: number, length: number, pageSize: number, capacity: number): number {
    if (!this.active || !isPowerOfTwo(pageSize) || length < pageSize) return -errno.EINVAL;
    if (iova + length > addressEnd) return -errno.EINVAL;
    const count = Math.ceil(length / pageSize);
    return bitmapBytes(count) > capacity ? -errno.EINVAL : count;
  }

  /**
   * The addresses of the logged pages that touch the range, in no order; null when there are more
   * than `max`, or when it is not known any more which they are.
   */
  pages(iova: number, length: number, max: number): number[] | null {
    if (this.#saturated) return null;
    const pages: number[] = [];
    this.#eachChunk(iova, iova + length, (chunk, chunkStart) => {
      // A guest stands still meanwhile, and nearly all of a chunk is empty: by words, then by bits.
      const words = new Uint32Array(chunk.buffer);
      for (let word = 0; word < words.length; word++) {
        let left = words[word] as number;
        for (let page = word * 32; left !== 0; page++, left >>>= 1) {
          const at = chunkStart + page * this.#pageSize;
          const touches = at < iova + length && at + this.#pageSize > iova;
          if ((left & 1) !== 0 && touches && pages.length <= max) pages.push(at);
        }
      }
    });
    return pages.length > max ? null : pages;
  }

  /** Calls `visit` for the chunks that touch the range, by whichever of both is fewer. */
  #eachChunk(from: number, to: number, visit: (chunk: Uint8Array, start: number) => void): void {
    const first = Math.floor(from / this.#span);
    const last = Math.floor((to - 1) / this.#span);
    if (last - first < this.#chunks.size) {
      for (let key = first; key <= last; key++) {
        const chunk = this.#chunks.get(key);
        if (chunk !== undefined) visit(chunk, key * this.#span);
      }
      return;
    }
    for (const [key, chunk] of this.#chunks) {
      if (key >= first && key <= last) visit(chunk, key * this.#span);
    }
  }

  #reportChunk(
    chunk: Uint8Array,
    chunkStart: number,
    iova: number,
    length: number,
    pageSize: number,
    bitmap: Uint8Array,
    at: number,
  ): void {
    const logged = this.#pageSize;
    const end = iova + length;
    const first = Math.floor((Math.max(iova, chunkStart) - chunkStart) / logged);
    const last = Math.floor((Math.min(end, chunkStart + this.#span) - 1 - chunkStart) / logged);
    const aligned = pageSize === logged && iova % (logged * 8) === 0;
    for (let byte = first >>> 3; byte <= last >>> 3; byte++) {
      let bits = chunk[byte] as number;
      if (bits === 0) continue;
      const whole = byte * 8 >= first && byte * 8 + 7 <= last;
      if (aligned && whole) {
        bitmap[at + (chunkStart + byte * 8 * logged - iova) / (logged * 8)] = bits;
        continue;
      }
      for (let page = byte * 8; bits !== 0; page++, bits >>>= 1) {
        if ((bits & 1) === 0 || page < first || page > last) continue;
        const start = Math.max(chunkStart + page * logged, iova);
        const stop = Math.min(chunkStart + (page + 1) * logged, end);
        const from = Math.floor((start - iova) / pageSize);
        const to = Math.floor((stop - 1 - iova) / pageSize);
        setBits(bitmap, at, from, to - from + 1);
      }
    }
    this.#clearChunk(chunk, chunkStart, iova, end);
  }

  /** Clears the pages of a chunk that lie in the range as a whole. */
  #clearChunk(chunk: Uint8Array, chunkStart: number, from: number, to: number): void {
    const first = Math.ceil((Math.max(from, chunkStart) - chunkStart) / this.#pageSize);
    const end = Math.floor((Math.min(to, chunkStart + this.#span) - chunkStart) / this.#pageSize);
    clearBits(chunk, 0, first, end - first);
  }

  /** Forgets what was written to the range, as far as it covers whole pages. */
  forget(iova: number, length: number): void {
    if (this.#chunks.size === 0) return;
    const end = iova + length;
    this.#eachChunk(iova, end, (chunk, start) => {
      this.#clearChunk(chunk, start, iova, end);
    });
  }
}
