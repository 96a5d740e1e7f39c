import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { barFlagMask, ConfigHeader } from "../spec/pci.ts";
import { PciRegion } from "../spec/vfio.ts";
import type { IoEventfd, MmapArea, MmapOffer, Region, VfioDevice } from "./vfio-device.ts";
import { Wrapper } from "./wrapper.ts";

/** Which base address register is carved, and how much of it stays. */
export interface CarveOptions {
  readonly bar: number;
  /** Bytes, a power of two, at most the region's. */
  readonly size: number;
  /**
   * Where the address bits are kept that the smaller register has and the device's own has not:
   * 4 bytes that are zero after a reset and go wherever the device's state goes.
   */
  readonly bits: Uint8Array;
}

const addressBytes = 4;

/**
 * Hides the upper part of a base address register: whoever is given this device can neither read,
 * write nor map it, and is told of a smaller one, by the region's size and by configuration space.
 */
export class Carve extends Wrapper {
  readonly #bar: number;
  readonly #size: number;
  readonly #bits: Uint8Array;
  /** The bits that are kept, as bytes of the register. */
  readonly #kept: Uint8Array;
  readonly #configAt: number;
  readonly #carved: Region;
  #regions: readonly Region[] = [];
  #regionsOf: readonly Region[] = [];

  constructor(inner: VfioDevice, { bar, size, bits }: CarveOptions) {
    super(inner);
    const whole = inner.regions[bar];
    assert(whole !== undefined && Number.isInteger(Math.log2(size)), `BAR${bar}: ${size} bytes`);
    assert(size <= whole.size && whole.size < 2 ** 32, `BAR${bar}: ${size} of ${whole.size} bytes`);
    this.#bar = bar;
    this.#size = size;
    this.#bits = bits;
    const kept = (whole.size - size) & ~barFlagMask.memory;
    this.#kept = Uint8Array.of(kept, kept >>> 8, kept >>> 16, kept >>> 24);
    this.#configAt = ConfigHeader.at.BAR0 + addressBytes * bar;
    this.#carved = { ...whole, size, mmap: carveOffer(whole.mmap, size) };
  }

  override get regions(): readonly Region[] {
    const { regions } = this.inner;
    if (regions !== this.#regionsOf) {
      this.#regionsOf = regions;
      this.#regions = regions.map((each, index) => (index === this.#bar ? this.#carved : each));
    }
    return this.#regions;
  }

  #outside(region: number, offset: number, count: number): boolean {
    return region === this.#bar && offset + count > this.#size;
  }

  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (this.#outside(region, offset, count)) return -errno.EINVAL;
    const result = this.inner.read(region, offset, bytes, at, count);
    if (region === PciRegion.config && result >= 0) this.#show(offset, bytes, at, count);
    return result;
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (this.#outside(region, offset, count)) return -errno.EINVAL;
    const result = this.inner.write(region, offset, bytes, at, count);
    if (region === PciRegion.config && result >= 0) this.#keep(offset, bytes, at, count);
    return result;
  }

  /** Adds the kept bits to what the device's register reads. */
  #show(offset: number, bytes: Uint8Array, at: number, count: number): void {
    for (let i = 0; i < addressBytes; i++) {
      const place = this.#configAt + i - offset;
      if (place < 0 || place >= count) continue;
      const kept = (this.#bits[i] as number) & (this.#kept[i] as number);
      bytes[at + place] = (bytes[at + place] as number) | kept;
    }
  }

  #keep(offset: number, bytes: Uint8Array, at: number, count: number): void {
    for (let i = 0; i < addressBytes; i++) {
      const place = this.#configAt + i - offset;
      if (place < 0 || place >= count) continue;
      this.#bits[i] = (bytes[at + place] as number) & (this.#kept[i] as number);
    }
  }

  override ioEventfds(region: number): readonly IoEventfd[] {
    const all = this.inner.ioEventfds(region);
    return all.filter(({ offset, size }) => !this.#outside(region, offset, size));
  }
}

/** The part of an offer that lies below `size`; null when nothing is left of it. */
function carveOffer(offer: MmapOffer | null, size: number): MmapOffer | null {
  if (offer === null) return null;
  const areas = (offer.areas ?? [{ offset: 0, size }])
    .map((area): MmapArea => ({ ...area, size: Math.min(area.size, size - area.offset) }))
    .filter((area) => area.size > 0);
  return areas.length === 0 ? null : { ...offer, areas };
}
