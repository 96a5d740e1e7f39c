/**
 * Sums below this many bytes cannot overflow 32 bits before they are reduced [RFC 1950, section
 * 8.2].
 */
const unreducedBytesMax = 5552;
const adlerBase = 65_521;

/** The Adler-32 checksum of `bytes`, unsigned [RFC 1950, section 8.2]. */
export function adler32(bytes: Uint8Array): number {
  let a = 1;
  let b = 0;
  for (let at = 0; at < bytes.length; ) {
    const end = Math.min(at + unreducedBytesMax, bytes.length);
    for (; at < end; at++) {
      a += bytes[at] as number;
      b += a;
    }
    a %= adlerBase;
    b %= adlerBase;
  }
  return ((b << 16) | a) >>> 0;
}
