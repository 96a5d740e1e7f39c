import type { DmaArea, DmaBuffer } from "./dma-area.ts";

/**
 * A ring that the device fills, seen from who empties it. An entry is new when its phase bit is the
 * one of this round: 1 in the first, and the other one each time that the ring begins again.
 */
export class Ring {
  readonly depth: number;
  readonly buffer: DmaBuffer;
  /** The entry to be taken next. */
  head = 0;
  readonly #area: DmaArea;
  readonly #entryBytes: number;
  /** Where the phase stands: the byte in an entry and its bit. */
  readonly #phaseAt: number;
  readonly #phaseMask: number;
  #phase = true;

  constructor(
    area: DmaArea,
    depth: number,
    entryBytes: number,
    phaseAt: number,
    phaseMask: number,
  ) {
    this.depth = depth;
    this.buffer = area.allocate(depth * entryBytes);
    this.#area = area;
    this.#entryBytes = entryBytes;
    this.#phaseAt = phaseAt;
    this.#phaseMask = phaseMask;
  }

  /** Empty, as the device expects it when it is told of it. */
  restart(): void {
    this.#area.zero(this.buffer);
    this.head = 0;
    this.#phase = true;
  }

  get #nextAt(): number {
    return this.buffer.at + this.head * this.#entryBytes;
  }

  /** Is there an entry to be taken? */
  get hasNews(): boolean {
    const phase = this.#area.ram.view.getUint8(this.#nextAt + this.#phaseAt) & this.#phaseMask;
    return (phase !== 0) === this.#phase;
  }

  /** Takes the next entry: where it begins in the memory, or -1 when there is no new one. */
  take(): number {
    if (!this.hasNews) return -1;
    const at = this.#nextAt;
    this.head = (this.head + 1) % this.depth;
    if (this.head === 0) this.#phase = !this.#phase;
    return at;
  }
}
