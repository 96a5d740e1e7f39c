/** As much of the Distinguished Encoding Rules (X.690) as a key of two or three numbers needs. */

export const DerTag = {
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectIdentifier: 0x06,
  sequence: 0x30,
} as const;

function lengthBytes(length: number): number[] {
  if (length < 0x80) return [length];
  return length < 0x100 ? [0x81, length] : [0x82, length >> 8, length & 0xff];
}

/** An element of at most 65535 bytes of content. */
export function derElement(tag: number, ...content: readonly Uint8Array[]): Uint8Array {
  const length = content.reduce((sum, { length: part }) => sum + part, 0);
  return Buffer.concat([Uint8Array.of(tag, ...lengthBytes(length)), ...content]);
}

/** A number from its big-endian bytes without zeros in front. */
export function derInteger(magnitude: Uint8Array): Uint8Array {
  const negative = magnitude.length === 0 || (magnitude[0] as number) >= 0x80;
  return derElement(DerTag.integer, Uint8Array.of(...(negative ? [0] : [])), magnitude);
}

/** Where the content of an element lies. */
export interface DerContent {
  readonly start: number;
  readonly end: number;
}

/** The content of the element at `at` if it has this tag and fits the bytes, otherwise null. */
export function derContent(bytes: Uint8Array, at: number, tag: number): DerContent | null {
  if (bytes[at] !== tag) return null;
  const first = bytes[at + 1] ?? 0;
  const long = first < 0x80 ? 0 : first - 0x80;
  if (long > 2) return null;
  let length = long === 0 ? first : 0;
  for (let i = 0; i < long; i++) length = length * 256 + (bytes[at + 2 + i] ?? 0);
  const start = at + 2 + long;
  return start + length <= bytes.length ? { start, end: start + length } : null;
}
