/** Numbers as requests carry them: big-endian bytes of fixed length. */

/** The number that the bytes are; 0 for none. */
export function toNumber(bytes: Uint8Array): bigint {
  const { buffer, byteOffset, length } = bytes;
  return length === 0 ? 0n : BigInt(`0x${Buffer.from(buffer, byteOffset, length).toString("hex")}`);
}

/** The `length` bytes of a number that fits them. */
export function toBytes(value: bigint, length: number): Uint8Array {
  return Uint8Array.from(Buffer.from(value.toString(16).padStart(2 * length, "0"), "hex"));
}

/** The bytes without zeros in front; none for 0. */
export function trimmed(bytes: Uint8Array): Uint8Array {
  let start = 0;
  while (start < bytes.length && bytes[start] === 0) start++;
  return bytes.subarray(start);
}

/** Bits of the number up to its highest set one. */
export function bitLength(bytes: Uint8Array): number {
  const significant = trimmed(bytes);
  return significant.length === 0
    ? 0
    : 8 * significant.length - (Math.clz32(significant[0] as number) - 24);
}

/** `value` modulo `modulus`, never negative. */
export function modulo(value: bigint, modulus: bigint): bigint {
  const rest = value % modulus;
  return rest < 0n ? rest + modulus : rest;
}

/**
 * What `value` has to be multiplied with to give 1 modulo the prime `modulus`; 0 for 0. Euclid's
 * algorithm: its numbers at least halve every two steps, so it ends.
 */
export function inverse(value: bigint, modulus: bigint): bigint {
  let [a, b] = [modulo(value, modulus), modulus];
  let [x, y] = [1n, 0n];
  while (a > 1n) {
    const quotient = b / a;
    [a, b] = [b % a, a];
    [x, y] = [y - quotient * x, x];
  }
  return a === 0n ? 0n : modulo(x, modulus);
}
