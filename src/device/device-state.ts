import { assert } from "../base/assert.ts";
import { Arena, copyInset } from "../sys/arena.ts";
import * as k from "../sys/constants.ts";
import { madvise } from "../sys/libc.ts";
import type { Sections, StateLayout } from "./state-layout.ts";

/** Bytes of one device's state: below what Node 20 can show as one buffer. */
export const stateBytesMax = 2 ** 32 - 2 * 4096;

/** States from this size on lie in huge pages. */
const hugeFromBytes = 4 * 1_048_576;

const pageBytes = 4096;

/**
 * The one buffer that holds everything of a device that migrates, at an address that does not
 * change. No client reaches it: what one may map is a `Shadow`.
 */
export class DeviceState<T extends Sections = Sections> {
  readonly layout: StateLayout<T>;
  /** Address of the first byte. */
  readonly address: number;
  /** Exactly the layout's size. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #prealloc: boolean;

  /** `prealloc` takes all of the memory now, and keeps it. */
  constructor(layout: StateLayout<T>, prealloc = false) {
    assert(layout.size <= stateBytesMax, `a device state of ${layout.size} bytes`);
    const arena = new Arena(copyInset + layout.size);
    if (layout.size >= hugeFromBytes) arena.useHugePages();
    this.layout = layout;
    this.address = arena.address + copyInset;
    this.bytes = arena.bytes.subarray(copyInset, copyInset + layout.size);
    this.view = new DataView(this.bytes.buffer, copyInset, layout.size);
    this.#prealloc = prealloc;
    if (prealloc) arena.populate();
    layout.stamp(this.view);
  }

  /** Makes a range zero; memory that this leaves without a use is given back, or kept for ever. */
  clear(from: number, to: number): void {
    const first = Math.ceil((copyInset + from) / pageBytes) * pageBytes - copyInset;
    const last = Math.floor((copyInset + to) / pageBytes) * pageBytes - copyInset;
    if (this.#prealloc || last - first < hugeFromBytes) {
      this.bytes.fill(0, from, to);
      return;
    }
    this.bytes.fill(0, from, first);
    const result = madvise(this.address + first, last - first, k.MADV_DONTNEED);
    assert(result === 0, `memory could not be given back: ${result}`);
    this.bytes.fill(0, last, to);
  }
}
