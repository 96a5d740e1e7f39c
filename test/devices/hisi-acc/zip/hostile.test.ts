/** ZIP against guests that lie, and against memory that goes away. */
import * as zlib from "node:zlib";
import fc from "fast-check";
import { beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { SglHeader } from "../../../../src/spec/hisi-sgl.ts";
import {
  ZipBuffer,
  ZipDw7,
  ZipDw9,
  ZipRequest,
  ZipStatus,
  zipBytesMax,
  zipSqeType,
} from "../../../../src/spec/hisi-zip.ts";
import { ZipDriver } from "./driver.ts";

const hello = Uint8Array.from(Buffer.from("cb48cdc9c90700", "hex"));
const allOnes = 0xffff_ffff;
const beyond = 2 ** 52;
const statuses: readonly number[] = Object.values(ZipStatus);

let driver: ZipDriver;
beforeEach(() => {
  driver = new ZipDriver();
});

describe("bombs", () => {
  const bomb = Uint8Array.from(zlib.deflateRawSync(new Uint8Array(4 * zipBytesMax)));

  it("are stopped by what the target holds", () => {
    const answer = driver.run({ source: bomb, capacity: 5000 });
    expect(answer).toMatchObject({ status: ZipStatus.destinationTooSmall, produced: 0 });
    expect(driver.written(5000)).toBe(0);
  });

  it("are stopped by the longest output, whatever the guest says that it has room for", () => {
    const answer = driver.run({ source: bomb, capacity: 64, lies: { destAvailOut: allOnes } });
    expect(answer).toMatchObject({ status: ZipStatus.destinationTooSmall, produced: 0 });
  });

  it("an output as long as the limit is an output", () => {
    const source = Uint8Array.from(zlib.deflateRawSync(new Uint8Array(zipBytesMax)));
    const roomy = new ZipDriver(1 << 25);
    const answer = roomy.run({ source, capacity: zipBytesMax, lies: { destAvailOut: allOnes } });
    expect(answer).toMatchObject({ status: ZipStatus.ok, produced: zipBytesMax });
  });
});

describe("requests that lie", () => {
  const dw9 = (fields: Parameters<typeof ZipDw9.pack>[0]) => ({ dw9: ZipDw9.pack(fields) });
  const dw7 = (fields: Parameters<typeof ZipDw7.pack>[0]) => ({ dw7: ZipDw7.pack(fields) });
  const { deflate } = ZipRequest;

  it.each([
    ["a source above the limit", { inputDataLength: zipBytesMax + 1 }],
    ["the longest source that can be written down", { inputDataLength: allOnes }],
    ["no format", dw9({ requestType: 0 })],
    ["LZ4", dw9({ requestType: 4 })],
    ["bare LZ77", dw9({ requestType: 0x43 })],
    ["another kind of buffer", dw9({ requestType: deflate, bufferType: 2 })],
    ["a window that is none", dw9({ requestType: ZipRequest.gzip, window: 5 })],
    ["an entry of another revision", dw7({ sqeType: 0 })],
    ["a part of a stream", dw7({ sqeType: zipSqeType, stateful: true })],
  ])("%s is refused before anything is read", (_, lies) => {
    const sqe = driver.submit({ source: hello, capacity: 64, lies });
    const { reads } = driver.guest;
    const answer = driver.complete(sqe, driver.serve(sqe, false));
    expect(answer).toMatchObject({ status: ZipStatus.unsupported, produced: 0, consumed: 0 });
    expect(driver.guest.reads).toBe(reads);
  });

  it("memory that is not there ends the request with its errno", () => {
    const list = dw9({ requestType: deflate, bufferType: ZipBuffer.sgl });
    for (const lies of [
      { sourceAddr: beyond },
      { inputDataLength: zipBytesMax },
      { ...list, sourceAddr: beyond },
    ]) {
      const sqe = driver.submit({ source: hello, capacity: 64, lies });
      expect(driver.serve(sqe, false)).toBe(-errno.EFAULT);
    }
    const lists = { sourceSegments: [7], targetSegments: [64] };
    const sqe = driver.submit({
      source: hello,
      capacity: 64,
      ...lists,
      lies: { destAddr: beyond },
    });
    expect(driver.serve(sqe, false)).toBe(-errno.EFAULT);
  });

  it("lists that count nothing or too much, or hold less than was said, are refused", () => {
    const lists = { sourceSegments: [3, 4], targetSegments: [64] };
    for (const count of [0, 256, 0xffff]) {
      const sqe = driver.submit({ source: hello, capacity: 64, ...lists });
      const at = sqe.getUint32(0x48, true) + SglHeader.offset.entrySumInSgl;
      driver.guest.view.setUint16(at, count, true);
      const answer = driver.complete(sqe, driver.serve(sqe, false));
      expect(answer).toMatchObject({ status: ZipStatus.unsupported, produced: 0 });
    }
    for (const lies of [
      { inputDataLength: 8 },
      { dw7: ZipDw7.pack({ sqeType: zipSqeType, sourceOffset: 1 }) },
      { dw7: ZipDw7.pack({ sqeType: zipSqeType, sourceOffset: 0xffffff }) },
    ]) {
      const answer = driver.run({ source: hello, capacity: 64, ...lists, lies });
      expect(answer.status).toBe(ZipStatus.unsupported);
    }
  });

  it("a target list shorter than was said bounds the output", () => {
    const lists = { sourceSegments: [3, 4], targetSegments: [2, 2] };
    for (const lies of [{ destAvailOut: allOnes }, { destAvailOut: 64 }, { dw8: 4 }, { dw8: 99 }]) {
      const answer = driver.run({ source: hello, capacity: 4, ...lists, lies });
      expect(answer).toMatchObject({ status: ZipStatus.destinationTooSmall, produced: 0 });
    }
  });

  it("a stream that ends too early, or whose trailer does, is not decoded", () => {
    for (const length of [0, 1, 3, 6]) {
      const answer = driver.run({ source: hello.slice(0, length), capacity: 64 });
      expect(answer).toMatchObject({ status: ZipStatus.notDecodable, produced: 0 });
    }
    for (const type of [ZipRequest.zlib, ZipRequest.gzip]) {
      const source = Uint8Array.of(...hello, 1, 2, 3);
      const answer = driver.run({ type, source, capacity: 64 });
      expect(answer).toMatchObject({ status: ZipStatus.notDecodable, produced: 0 });
    }
  });

  it("any bytes and any entry give a status that is known, and no more output than fits", () => {
    const word = fc.oneof(fc.nat(8), fc.nat(allOnes), fc.constant(0x3000_0000));
    const property = fc.property(
      fc.uint8Array({ maxLength: 400 }),
      ...[fc.nat(300), fc.boolean(), fc.constantFrom(1, 2, 3), fc.nat(5), fc.option(word)],
      (source, capacity, compress, type, window, dw9) => {
        const lies = dw9 === null ? {} : { dw9 };
        const sqe = driver.submit({ compress, source, capacity, type, window, lies });
        const outcome = driver.serve(sqe, compress);
        if (outcome === -errno.EFAULT) return;
        const answer = driver.complete(sqe, outcome);
        expect(statuses).toContain(answer.status);
        expect(answer.produced).toBeLessThanOrEqual(capacity);
        expect(answer.consumed).toBeLessThanOrEqual(source.length);
      },
    );
    fc.assert(property, { numRuns: 500 });
  });

  it("a queue of neither direction is refused", () => {
    const sqe = driver.submit({ source: hello, capacity: 64 });
    const running = driver.engine.serve(sqe, 2, driver.guest, driver.compute);
    const { done, value } = running.next();
    expect(done).toBe(true);
    expect(driver.complete(sqe, value as never).status).toBe(ZipStatus.unsupported);
  });
});

describe("a request that is aborted", () => {
  it.each([true, false])("at any yield, in place, runs again: compress %s", (compress) => {
    const plain = Uint8Array.from(Buffer.from("hello, hello, hello, hello".repeat(9)));
    const source = compress ? plain : Uint8Array.from(zlib.deflateRawSync(plain));
    const slow = new ZipDriver();
    const lists = { sourceSegments: [5, 1, 300], targetSegments: [] };
    slow.guest.yieldsPerRead = 2;
    const sqe = slow.submit({ compress, source, capacity: 306, inPlace: true, ...lists });
    const before = slow.guest.bytes.slice();
    let aborted = 0;
    let outcome = slow.serve(sqe, compress, aborted);
    for (; outcome === null; aborted++) {
      expect(Buffer.compare(slow.guest.bytes, before)).toBe(0);
      outcome = slow.serve(sqe, compress, aborted);
    }
    expect(aborted).toBeGreaterThan(8);
    const { status, output } = slow.complete(sqe, outcome);
    expect(status).toBe(ZipStatus.ok);
    expect(compress ? Uint8Array.from(zlib.inflateRawSync(output)) : output).toEqual(plain);
  });
});
