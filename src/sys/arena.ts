import { assert } from "../base/assert.ts";
import * as k from "./constants.ts";
import { madvise, mmap, munmap, viewOf } from "./libc.ts";

/**
 * How far into a page memory begins that messages carry in bulk. To a place that lies 1 to 31 bytes
 * further into its page than what is copied, as behind a message's header, `rep movsb` copies at a
 * twentieth of its speed on AMD's Zen 3 (measured); the kernel and libc use it from 4 KiB on.
 */
export const copyInset = 64;

/**
 * Anonymous memory with a known address, which system calls and JavaScript see alike. It is touched
 * lazily: what is never used costs no memory. It is never unmapped while its views can be reached.
 */
export class Arena {
  readonly address: number;
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;

  /** `size` is in bytes, rounded up to whole pages; refused by the kernel means our own mistake. */
  constructor(size: number) {
    this.size = Math.ceil(size / 4096) * 4096;
    const flags = k.MAP_PRIVATE | k.MAP_ANONYMOUS | k.MAP_NORESERVE;
    this.address = mmap(0, this.size, k.PROT_READ | k.PROT_WRITE, flags, -1, 0);
    assert(this.address > 0, `no memory for an arena of ${this.size} bytes`);
    const buffer = viewOf(this.address, this.size);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  /**
   * Asks for huge pages, which halve the time to copy what is not in a cache. For memory that is
   * used as a whole: the first touch of each 2 MiB costs all of it.
   */
  useHugePages(): void {
    madvise(this.address, this.size, k.MADV_HUGEPAGE);
  }

  /** Touches all of it now; the process ends here when there is not so much memory. */
  populate(): void {
    const result = madvise(this.address, this.size, k.MADV_POPULATE_WRITE);
    assert(result === 0, `no memory for an arena of ${this.size} bytes: ${result}`);
  }

  /** Gives the memory back; the caller promises that no view of it is used again. */
  free(): void {
    munmap(this.address, this.size);
  }
}
