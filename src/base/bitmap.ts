/**
 * Bits in a row of bytes: bit n is bit n % 8 of byte n / 8, which is also the order of
 * little-endian u64 words. Positions are below 2^31; the caller has checked that the bits are
 * there.
 */

/** Sets `count` bits from `first`, counted from byte `at`. */
export function setBits(bytes: Uint8Array, at: number, first: number, count: number): void {
  if (count <= 0) return;
  const last = first + count - 1;
  const from = at + (first >>> 3);
  const to = at + (last >>> 3);
  const head = (0xff << (first & 7)) & 0xff;
  const tail = 0xff >>> (7 - (last & 7));
  if (from === to) {
    bytes[from] = (bytes[from] as number) | (head & tail);
    return;
  }
  bytes[from] = (bytes[from] as number) | head;
  if (to - from > 1) bytes.fill(0xff, from + 1, to);
  bytes[to] = (bytes[to] as number) | tail;
}

/** Clears `count` bits from `first`, counted from byte `at`. */
export function clearBits(bytes: Uint8Array, at: number, first: number, count: number): void {
  if (count <= 0) return;
  const last = first + count - 1;
  const from = at + (first >>> 3);
  const to = at + (last >>> 3);
  const head = (0xff << (first & 7)) & 0xff;
  const tail = 0xff >>> (7 - (last & 7));
  if (from === to) {
    bytes[from] = (bytes[from] as number) & ~(head & tail);
    return;
  }
  bytes[from] = (bytes[from] as number) & ~head;
  if (to - from > 1) bytes.fill(0, from + 1, to);
  bytes[to] = (bytes[to] as number) & ~tail;
}

/** True when the bit is set. */
export function testBit(bytes: Uint8Array, at: number, bit: number): boolean {
  return ((bytes[at + (bit >>> 3)] as number) & (1 << (bit & 7))) !== 0;
}

/** True when all of `count` bits from `first` are set; no bits are always all set. */
export function allBits(bytes: Uint8Array, at: number, first: number, count: number): boolean {
  for (let bit = first; bit < first + count; bit++) {
    if (!testBit(bytes, at, bit)) return false;
  }
  return true;
}

/** Bytes of a bitmap of `count` bits in whole u64 words, as VFIO sizes its bitmaps. */
export const bitmapBytes = (count: number): number => Math.ceil(count / 64) * 8;

/** True for 1, 2, 4, 8 …: what a page size may be. */
export function isPowerOfTwo(value: number): boolean {
  return value >= 1 && Number.isFinite(value) && value === 2 ** Math.round(Math.log2(value));
}
