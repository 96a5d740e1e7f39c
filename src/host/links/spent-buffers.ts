import { sweepYoung } from "../garbage.ts";

/** Bytes after which what was read is let go of: still in caches. */
const bytesMax = 4 * 1_048_576;

/**
 * Buffers that node makes for what it reads of a TLS socket, 16 KiB each. Their memory is none of
 * V8's own, so the young generation is never full of them; V8 sees only that there is more and more
 * of it, and marks the whole heap every 30 MiB, on all processors. It is told to sweep the young
 * ones before: memory is then used again while it is warm.
 */
export class SpentBuffers {
  #bytes = 0;

  /** So many bytes were read into a buffer that nobody needs any more. */
  add(bytes: number): void {
    this.#bytes += bytes;
    if (this.#bytes < bytesMax) return;
    this.#bytes = 0;
    sweepYoung();
  }
}
