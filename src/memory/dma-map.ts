import { errno } from "../base/errno.ts";
import type { GuestFile } from "./guest-file.ts";

/** Mappings at a time, the protocol's own default for `max_dma_maps`. */
export const mapsMax = 65_535;

/** Bytes of one mapping: 8 TiB. */
export const sizeMax = 2 ** 43;

/** Addresses end here: below it a sum of an address and a size is exact. */
export const addressEnd = Number.MAX_SAFE_INTEGER;

/** One mapping of guest addresses. */
export class DmaRegion {
  readonly iova: number;
  readonly size: number;
  /** First address behind it. */
  readonly end: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /** The file with the memory; null is reached by messages only. */
  readonly file: GuestFile | null;
  /** What to add to a guest address to have the place in the file. */
  readonly shift: number;
  /** May the file be mapped, or only read and written? */
  readonly mayMap: boolean;

  constructor(
    iova: number,
    size: number,
    permission: { readonly readable: boolean; readonly writable: boolean },
    file: GuestFile | null,
    offset: number,
    mayMap: boolean,
  ) {
    this.iova = iova;
    this.size = size;
    this.end = iova + size;
    this.readable = permission.readable;
    this.writable = permission.writable;
    this.file = file;
    this.shift = offset - iova;
    this.mayMap = mayMap;
  }
}

const nowhere = new DmaRegion(
  addressEnd,
  0,
  { readable: false, writable: false },
  null,
  addressEnd,
  false,
);

/** Regions side by side, at most this many, so that making room for one moves little memory. */
const bucketRegions = 512;

class Bucket {
  /** The regions' addresses again, close together for the search. */
  readonly starts = new Float64Array(bucketRegions);
  readonly regions: DmaRegion[] = [];

  /** How many regions start at or below `iova`. */
  upTo(iova: number): number {
    const starts = this.starts;
    let low = 0;
    let high = this.regions.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if ((starts[middle] as number) <= iova) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  insert(place: number, region: DmaRegion): void {
    this.starts.copyWithin(place + 1, place, this.regions.length);
    this.starts[place] = region.iova;
    this.regions.splice(place, 0, region);
  }

  remove(place: number): void {
    this.starts.copyWithin(place, place + 1, this.regions.length);
    this.regions.splice(place, 1);
  }

  /** Gives the regions from `place` on to a new bucket. */
  split(place: number): Bucket {
    const other = new Bucket();
    other.starts.set(this.starts.subarray(place, this.regions.length));
    other.regions.push(...this.regions.splice(place));
    return other;
  }
}

/** The mappings, sorted by address. They never overlap. */
export class DmaMap {
  readonly #max: number;
  /** Sorted, none of them empty, except that the first one is always there. */
  #buckets: Bucket[] = [new Bucket()];
  #count = 0;
  #hit: DmaRegion = nowhere;

  constructor(max: number = mapsMax) {
    this.#max = max;
  }

  get count(): number {
    return this.#count;
  }

  /** The place of the last bucket that starts at or below `iova`, or the first one. */
  #bucketOf(iova: number): number {
    let low = 1;
    let high = this.#buckets.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (((this.#buckets[middle] as Bucket).starts[0] as number) <= iova) low = middle + 1;
      else high = middle;
    }
    return low - 1;
  }

  /** The last region that starts at or below `iova`. */
  #below(iova: number): DmaRegion | null {
    const bucket = this.#buckets[this.#bucketOf(iova)] as Bucket;
    return bucket.regions[bucket.upTo(iova) - 1] ?? null;
  }

  /** True when any address of the range is mapped. */
  touches(iova: number, length: number): boolean {
    const region = this.#below(iova + length - 1);
    return region !== null && region.end > iova;
  }

  /** Why a region cannot be inserted: EEXIST for an overlap, EINVAL when the map is full; or 0. */
  refuses(iova: number, size: number): number {
    if (this.touches(iova, size)) return -errno.EEXIST;
    return this.#count >= this.#max ? -errno.EINVAL : 0;
  }

  /** Inserts a region that `refuses` has not refused. */
  insert(region: DmaRegion): void {
    const place = this.#bucketOf(region.iova);
    let bucket = this.#buckets[place] as Bucket;
    if (bucket.regions.length === bucketRegions) {
      const last = bucket.upTo(region.iova) === bucketRegions;
      const other = bucket.split(last ? bucketRegions : bucketRegions / 2);
      this.#buckets.splice(place + 1, 0, other);
      if (last || region.iova > (other.starts[0] as number)) bucket = other;
    }
    bucket.insert(bucket.upTo(region.iova), region);
    this.#count += 1;
  }

  /** Takes the region out that is exactly this range; null when there is none. */
  remove(iova: number, size: number): DmaRegion | null {
    const place = this.#bucketOf(iova);
    const bucket = this.#buckets[place] as Bucket;
    const inside = bucket.upTo(iova) - 1;
    const region = bucket.regions[inside];
    if (region === undefined || region.iova !== iova || region.size !== size) return null;
    bucket.remove(inside);
    if (bucket.regions.length === 0 && this.#buckets.length > 1) this.#buckets.splice(place, 1);
    this.#count -= 1;
    if (this.#hit === region) this.#hit = nowhere;
    return region;
  }

  /** True when exactly this range is mapped. */
  has(iova: number, size: number): boolean {
    const region = this.#below(iova);
    return region !== null && region.iova === iova && region.size === size;
  }

  /**
   * The region with the address; null where nothing is mapped. Most often it is the last one again.
   */
  lookup(iova: number): DmaRegion | null {
    const hit = this.#hit;
    if (iova >= hit.iova && iova < hit.end) return hit;
    const region = this.#below(iova);
    if (region === null || iova >= region.end) return null;
    this.#hit = region;
    return region;
  }

  /** The regions in the order of their addresses, as a new array. */
  regions(): DmaRegion[] {
    return this.#buckets.flatMap((bucket) => bucket.regions);
  }

  /** Takes everything out and returns it. */
  clear(): DmaRegion[] {
    const regions = this.regions();
    this.#buckets = [new Bucket()];
    this.#count = 0;
    this.#hit = nowhere;
    return regions;
  }
}
