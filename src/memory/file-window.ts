import { assert } from "../base/assert.ts";
import { allBits, setBits, testBit } from "../base/bitmap.ts";
import type { Window } from "../sys/window.ts";

/**
 * What is made present at once. A page of a memfd costs about a microsecond, so a larger granule
 * would only make the first touch of it longer and take more memory from a sparse file.
 */
export const granuleBytes = 65_536;
const granuleShift = 16;

const viewSlots = 256;
const viewShift = 12;

/**
 * A part of a file laid into a window. Only granules that `populate` has made present may be
 * touched: that is where running out of memory is an errno, and the first touch would be a signal.
 */
export class FileWindow {
  readonly window: Window;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  /** Bytes of the window, from its start, that show the file. */
  laid = 0;
  readonly #present: Uint8Array;
  readonly #views: (Uint8Array | null)[] = new Array(viewSlots).fill(null);

  constructor(window: Window) {
    this.window = window;
    this.bytes = window.bytes;
    this.view = window.view;
    this.#present = new Uint8Array(Math.ceil(window.size / granuleBytes / 8));
  }

  /** True when every byte of the range may be touched. */
  isPresent(at: number, length: number): boolean {
    const first = at >>> granuleShift;
    const last = (at + length - 1) >>> granuleShift;
    if (first === last) return testBit(this.#present, 0, first);
    return allBits(this.#present, 0, first, last - first + 1);
  }

  /**
   * Lays `length` bytes of a file from `offset`; 0 or a negated errno, then the window is blank.
   */
  lay(fd: number, offset: number, length: number, writable: boolean): number {
    this.#present.fill(0);
    const result = this.window.lay(fd, offset, length, writable);
    this.laid = result === 0 ? length : 0;
    if (result === 0) return 0;
    // A failed mmap may already have taken away what was there.
    assert(this.window.blank() === 0, "a window could not be blanked");
    return result;
  }

  /** Makes a range inside of `laid` present; 0 or a negated errno. */
  populate(at: number, length: number, writable: boolean): number {
    const last = (at + length - 1) >>> granuleShift;
    for (let granule = at >>> granuleShift; granule <= last; granule++) {
      if (testBit(this.#present, 0, granule)) continue;
      const start = granule << granuleShift;
      const size = Math.min(granuleBytes, this.laid - start);
      const result = this.window.populate(start, size, writable);
      if (result < 0) return result;
      setBits(this.#present, 0, granule, 1);
    }
    return 0;
  }

  /** A view of the range. Views of ranges used again and again are kept: making one costs 20 ns. */
  viewAt(at: number, length: number): Uint8Array {
    const slot = (at >>> viewShift) & (viewSlots - 1);
    const kept = this.#views[slot] as Uint8Array | null;
    if (kept !== null && kept.byteOffset === at && kept.length === length) return kept;
    const made = this.bytes.subarray(at, at + length);
    this.#views[slot] = made;
    return made;
  }
}
