import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  allBits,
  bitmapBytes,
  clearBits,
  isPowerOfTwo,
  setBits,
  testBit,
} from "../../src/base/bitmap.ts";

describe("bits in a row of bytes", () => {
  it("are set, cleared and tested as in an array of booleans", () => {
    const step = fc.record({ set: fc.boolean(), first: fc.nat(190), count: fc.nat(200) });
    fc.assert(
      fc.property(fc.array(step, { maxLength: 20, size: "max" }), fc.nat(3), (steps, at) => {
        const bytes = new Uint8Array(60).fill(0x5a);
        bytes.fill(0, at, at + 50);
        const model = new Array<boolean>(400).fill(false);
        for (const { set, first, count } of steps) {
          (set ? setBits : clearBits)(bytes, at, first, count);
          model.fill(set, first, first + count);
        }
        expect(model.map((_, bit) => testBit(bytes, at, bit))).toEqual(model);
        for (const { first, count } of steps) {
          const expected = model.slice(first, first + count).every((bit) => bit);
          expect(allBits(bytes, at, first, count)).toBe(expected);
        }
        expect(bytes.subarray(0, at).every((byte) => byte === 0x5a)).toBe(true);
        expect(bytes.subarray(at + 50).every((byte) => byte === 0x5a)).toBe(true);
      }),
    );
  });

  it("lie as in little-endian u64 words", () => {
    const bytes = new Uint8Array(16);
    setBits(bytes, 0, 62, 4);
    const view = new DataView(bytes.buffer);
    expect([view.getBigUint64(0, true), view.getBigUint64(8, true)]).toEqual([3n << 62n, 3n]);
  });

  it.each([
    [0, 0],
    [1, 8],
    [64, 8],
    [65, 16],
    [2 ** 31, 2 ** 28],
  ])("%i of them take %i bytes", (count, bytes) => {
    expect(bitmapBytes(count)).toBe(bytes);
  });
});

describe("a power of two", () => {
  it("is one of 2^0 to 2^1023 and nothing else", () => {
    for (let shift = 0; shift < 1024; shift++) {
      expect(isPowerOfTwo(2 ** shift), `2^${shift}`).toBe(true);
      if (shift > 1 && shift < 53) {
        expect(isPowerOfTwo(2 ** shift + 1), `2^${shift} + 1`).toBe(false);
        expect(isPowerOfTwo(2 ** shift - 1), `2^${shift} - 1`).toBe(false);
      }
    }
    for (const value of [0, -1, -2, 0.5, 1.5, Number.NaN, Number.POSITIVE_INFINITY]) {
      expect(isPowerOfTwo(value), `${value}`).toBe(false);
    }
  });
});
