import { assert } from "../base/assert.ts";
import { Window } from "../sys/window.ts";

/**
 * Bytes of the windows that exist. Few sizes, so that every window is reused; all below the 4 GiB
 * at which Node 20 ends the process, and multiples of a huge page.
 */
export const windowSizes = [2 ** 21, 2 ** 26, 2 ** 30] as const;

/**
 * Windows of a pool. Each may cost the process two of the kernel's mappings, of which a process has
 * 65,530 (`vm.max_map_count`): what is left is enough for everything else.
 */
export const windowsMax = 16_384;

/** The smallest window size that shows `length` bytes at once, or else the largest there is. */
export function windowSizeFor(length: number): number {
  return windowSizes.find((size) => size >= length) ?? (windowSizes.at(-1) as number);
}

/**
 * Windows that nobody uses at the moment. A window is made when none is free and is never given
 * back to the kernel, because a view of it may be reachable for as long as the process lives.
 */
export class WindowPool {
  readonly #free = new Map<number, Window[]>(windowSizes.map((size) => [size, []]));
  readonly #max: number;
  #made = 0;

  constructor(max: number = windowsMax) {
    this.#max = max;
  }

  /** Windows ever made. */
  get made(): number {
    return this.#made;
  }

  /**
   * A blank window of one of `windowSizes`; null at the pool's limit, or where addresses run out.
   */
  take(size: number): Window | null {
    const free = this.#free.get(size);
    assert(free !== undefined, `there are no windows of ${size} bytes`);
    const reused = free.pop();
    if (reused !== undefined) return reused;
    if (this.#made >= this.#max) return null;
    const made = Window.reserve(size);
    if (made !== null) this.#made += 1;
    return made;
  }

  /** Takes a window back. What it showed is replaced by anonymous memory, under any view of it. */
  give(window: Window): void {
    const result = window.blank();
    assert(result === 0, `a window could not be blanked: ${result}`);
    this.#free.get(window.size)?.push(window);
  }
}

/** The windows of this thread. */
export const windows = new WindowPool();
