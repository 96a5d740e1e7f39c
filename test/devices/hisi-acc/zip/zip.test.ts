/** ZIP as its drivers use it: both directions, three formats, flat buffers and lists. */
import { createHash } from "node:crypto";
import * as zlib from "node:zlib";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { inlineCostMax } from "../../../../src/devices/hisi-acc/compute.ts";
import { adler32 } from "../../../../src/devices/hisi-acc/zip/checksums.ts";
import { ZipEngine } from "../../../../src/devices/hisi-acc/zip/engine.ts";
import { ZipRequest, ZipStatus } from "../../../../src/spec/hisi-zip.ts";
import { ZipDriver } from "./driver.ts";

const { deflate, zlib: zlibType, gzip } = ZipRequest;
const hex = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "hex"));
const ascii = (text: string): Uint8Array => Uint8Array.from(Buffer.from(text, "ascii"));
const own = (bytes: Uint8Array): Uint8Array => Uint8Array.from(bytes);

/** Bytes that no compressor makes shorter. */
function noise(length: number): Uint8Array {
  const blocks = Array.from({ length: Math.ceil(length / 32) }, (_, i) =>
    createHash("sha256").update(`${i}`).digest(),
  );
  return own(Buffer.concat(blocks).subarray(0, length));
}

/** What lies behind the header that a driver writes or skips itself. */
const body = {
  [deflate]: (plain: Uint8Array) => own(zlib.deflateRawSync(plain)),
  [zlibType]: (plain: Uint8Array) => own(zlib.deflateSync(plain).subarray(2)),
  [gzip]: (plain: Uint8Array) => own(zlib.gzipSync(plain).subarray(10)),
};
/** Decodes what a driver has put its header in front of. */
const whole = {
  [deflate]: (stream: Uint8Array) => zlib.inflateRawSync(stream),
  [zlibType]: (stream: Uint8Array) => zlib.inflateSync(Buffer.concat([hex("789c"), stream])),
  [gzip]: (stream: Uint8Array) =>
    zlib.gunzipSync(Buffer.concat([hex("1f8b0800000000000003"), stream])),
};
const types = [deflate, zlibType, gzip] as const;

let driver: ZipDriver;
beforeEach(() => {
  driver = new ZipDriver();
});

describe("the device", () => {
  it("is the VF that the driver looks for", () => {
    const { description } = new ZipEngine();
    expect(description).toMatchObject({ name: "hisi-zip", deviceId: 0xa251, sqeBytes: 128 });
    expect(description.classCode).toBe(0x120000);
    const bothDirections = 0x30;
    expect(description.capabilities[0x3144]).toBe(bothDirections);
    expect(description.capabilities[0x313c]).toBe(0x12050203);
    expect(Object.keys(description.capabilities)).toHaveLength(15);
  });
});

describe("decompression of known streams", () => {
  const dynamic = "3d8a8109003008c36e4dfe3f62449c14da680b2a481e778413e9c3f6f9b6f3d5dbc203";
  const ab = "aabbbaababbaaabbbbaabbaaaaabbababaaabbababbaaabbbaaabaaaabbaababbbbaaaabbabaaa";
  it.each([
    ["an empty stored block [RFC 1951, 3.2.4]", "010000ffff", ""],
    ["a stored block", "010500faff68656c6c6f", "hello"],
    ["two stored blocks", "000100feff61010100feff62", "ab"],
    ["fixed codes [3.2.6]", "cb48cdc9c90700", "hello"],
    ["a distance shorter than the length [3.2.3]", "4b4c1c05c40200", "a".repeat(300)],
    ["dynamic codes [3.2.7]", dynamic, ab],
  ])("%s", (_, stream, plain) => {
    const source = hex(stream);
    const answer = driver.run({ source, capacity: plain.length + 1 });
    expect(Buffer.from(answer.output).toString("ascii")).toBe(plain);
    expect(answer.status).toBe(ZipStatus.ok);
    expect(answer.consumed).toBe(source.length);
  });

  it("knows the checksums of RFC 1950 and RFC 1952", () => {
    const adler = hex("010900f6ff57696b697065646961" + "11e60398");
    expect(driver.run({ type: zlibType, source: adler, capacity: 9 })).toMatchObject({
      ...{ status: ZipStatus.ok, consumed: adler.length, produced: 9 },
      output: ascii("Wikipedia"),
    });
    const crc = hex("010900f6ff313233343536373839" + "2639f4cb" + "09000000");
    expect(driver.run({ type: gzip, source: crc, capacity: 9 })).toMatchObject({
      ...{ status: ZipStatus.ok, consumed: crc.length, produced: 9 },
    });
    for (const [type, source] of [
      [zlibType, adler],
      [gzip, crc],
    ] as const) {
      for (let at = 14; at < source.length; at++) {
        const wrong = own(source);
        wrong[at] = (wrong[at] as number) ^ 0x10;
        const answer = driver.run({ type, source: wrong, capacity: 9 });
        expect(answer).toMatchObject({ status: ZipStatus.checksumMismatch, produced: 0 });
        expect(driver.written(9)).toBe(0);
      }
    }
  });

  it("sums long runs of 255 without an overflow", () => {
    const ones = new Uint8Array(70_000).fill(255);
    const stream = zlib.deflateSync(ones);
    expect(adler32(ones)).toBe(stream.readUInt32BE(stream.length - 4));
    expect(adler32(new Uint8Array(0))).toBe(1);
  });

  it("leaves what lies behind the stream alone", () => {
    const source = Uint8Array.of(...hex("cb48cdc9c90700"), 1, 2, 3, 4, 5, 6, 7, 8, 9);
    const answer = driver.run({ source, capacity: 64 });
    expect(answer).toMatchObject({ status: ZipStatus.ok, consumed: 7, produced: 5 });
  });
});

describe("both directions against node:zlib", () => {
  const letters = fc.uint8Array({ maxLength: 3000, max: 3 });
  const plain = fc.oneof(fc.uint8Array({ maxLength: 3000 }), letters);
  const cut = (length: number, parts: number): number[] => {
    const size = Math.max(1, Math.ceil(length / parts));
    const whole = Math.floor(length / size);
    return [...new Array<number>(whole).fill(size), length - whole * size + 1];
  };

  it("compresses what node:zlib decompresses, from and to any segments", () => {
    const parts = fc.integer({ min: 1, max: 20 });
    const property = fc.property(
      ...[plain, fc.constantFrom(...types), fc.nat(4), fc.boolean(), parts, parts],
      (source, type, window, lists, from, to) => {
        const capacity = source.length + 200;
        const segments = lists
          ? { sourceSegments: cut(source.length, from), targetSegments: cut(capacity, to) }
          : {};
        const answer = driver.run({ compress: true, type, source, capacity, window, ...segments });
        const grown = answer.produced > source.length;
        expect(answer.status).toBe(grown ? ZipStatus.negativeCompression : ZipStatus.ok);
        expect(answer.consumed).toBe(source.length);
        expect(own(whole[type](answer.output))).toEqual(source);
      },
    );
    fc.assert(property, { numRuns: 150 });
  });

  it("decompresses what node:zlib compresses, from and to any segments", () => {
    const parts = fc.integer({ min: 1, max: 20 });
    const property = fc.property(
      ...[plain, fc.constantFrom(...types), fc.boolean(), parts, parts],
      (data, type, lists, from, to) => {
        const source = body[type](data);
        const capacity = data.length + 1;
        const segments = lists
          ? { sourceSegments: cut(source.length, from), targetSegments: cut(capacity, to) }
          : {};
        const answer = driver.run({ type, source, capacity, ...segments });
        expect(answer).toMatchObject({ status: ZipStatus.ok, consumed: source.length });
        expect(answer.output).toEqual(data);
        expect(driver.written(capacity)).toBeLessThanOrEqual(data.length);
      },
    );
    fc.assert(property, { numRuns: 150 });
  });

  it("skips the offsets into lists, where drivers keep their headers", () => {
    const data = ascii("hello hello hello hello hello hello hello");
    const source = Uint8Array.of(...hex("1f8b0800000000000003"), ...body[gzip](data));
    const lists = { sourceSegments: [4, 3, source.length], targetSegments: [2, 64] };
    const offsets = { sourceOffset: 10, targetOffset: 3 };
    const sqe = driver.submit({ type: gzip, source, capacity: 60, ...lists, ...offsets });
    const answer = driver.complete(sqe, driver.serve(sqe, false));
    expect(answer).toMatchObject({ status: ZipStatus.ok, produced: data.length });
    expect(driver.target.content(3 + data.length).subarray(3)).toEqual(data);
    expect(driver.target.content(3)).toEqual(hex("eeeeee"));
  });

  it("keeps raw streams to the window of the kernel's own decompressor", () => {
    const half = noise(3000);
    const source = Uint8Array.of(...half, ...half);
    const ask = { compress: true, source, capacity: 8000, window: 4 };
    expect(driver.run(ask).produced).toBeGreaterThan(source.length);
    expect(driver.run({ ...ask, type: gzip }).produced).toBeLessThan(3200);
  });
});

describe("statuses", () => {
  it("tells when the output is longer than the input, which drivers accept", () => {
    const source = noise(4096);
    const answer = driver.run({ compress: true, source, capacity: 8192 });
    expect(answer.status).toBe(0x0d);
    expect(own(zlib.inflateRawSync(answer.output))).toEqual(source);
  });

  it.each(types)("tells when the target is too small, and writes nothing: type %i", (type) => {
    const data = noise(2000);
    const source = body[type](data);
    const exact = driver.run({ type, source, capacity: 2000 });
    expect(exact).toMatchObject({ status: ZipStatus.ok, produced: 2000 });
    for (const capacity of [1999, 1, 0]) {
      const answer = driver.run({ type, source, capacity });
      expect(answer).toMatchObject({ status: 0x0e, produced: 0, consumed: 0 });
      expect(driver.written(capacity)).toBe(0);
    }
    const needed = driver.run({ compress: true, type, source: data, capacity: 4000 }).produced;
    const fits = driver.run({ compress: true, type, source: data, capacity: needed });
    expect(fits.produced).toBe(needed);
    for (const capacity of [needed - 1, 9, 1, 0]) {
      const answer = driver.run({ compress: true, type, source: data, capacity });
      expect(answer).toMatchObject({ status: 0x0e, produced: 0 });
      expect(driver.written(capacity)).toBe(0);
    }
  });

  it("has one for a computation that could not be carried out", () => {
    driver.compute.failure = -5;
    const answer = driver.run({ source: hex("cb48cdc9c90700"), capacity: 100 });
    expect(answer).toMatchObject({ status: ZipStatus.unsupported, produced: 0 });
  });
});

describe("costs", () => {
  it("64 KiB are computed on the spot, megabytes are not", () => {
    const roomy = new ZipDriver(1 << 25);
    roomy.compute.failure = -1;
    const ask = (compress: boolean, bytes: number, capacity: number) => {
      roomy.run({ compress, source: new Uint8Array(bytes), capacity });
      return roomy.compute.costs.at(-1) as number;
    };
    expect(ask(true, 65_536, 65_536)).toBeLessThan(inlineCostMax);
    expect(ask(false, 65_536, 65_536)).toBeLessThan(inlineCostMax);
    expect(ask(false, 4096, 65_536)).toBeLessThan(inlineCostMax);
    expect(ask(true, 1 << 20, 1 << 20)).toBeGreaterThan(inlineCostMax);
    expect(ask(false, 8192, 1 << 23)).toBeGreaterThan(inlineCostMax);
  });

  it("what a stream can make at most counts, however much room it has", () => {
    const roomy = new ZipDriver(1 << 20);
    roomy.compute.failure = -1;
    for (const capacity of [10_319, 10_320, 10_321, 500_000]) {
      roomy.run({ compress: false, source: new Uint8Array(10), capacity });
    }
    const [less = 0, ...others] = roomy.compute.costs;
    expect(others).toEqual([less + 1, less + 1, less + 1]);
  });
});
