/** DMA_LOGGING_START, REPORT and STOP, as a VMM uses them on a device's memory. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { chunksMax, DirtyLog, loggedPageMax, loggedRangesMax } from "../../src/memory/dirty-log.ts";
import { addressEnd } from "../../src/memory/dma-map.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { byMessages, ClientMemory } from "./client-memory.ts";

const page = 4096;
const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

/** The set bits of a bitmap, in order. */
function setBitsOf(bitmap: Uint8Array): number[] {
  const bits: number[] = [];
  for (let bit = 0; bit < bitmap.length * 8; bit++) {
    if (((bitmap[bit >> 3] as number) >> (bit & 7)) & 1) bits.push(bit);
  }
  return bits;
}

describe("the dirty log of guest memory", () => {
  let guest: GuestMemory;
  let client: ClientMemory;
  const bytes = new Uint8Array(4 * mebibyte).fill(1);

  beforeEach(() => {
    guest = new GuestMemory();
    client = ClientMemory.create(16 * mebibyte);
    expect(guest.map(client.mapping(gibibyte, 16 * mebibyte))).toBe(0);
  });

  afterEach(() => {
    guest.unmapAll();
    client.close();
  });

  const write = (iova: number, length = 1) => {
    expect(guest.write(iova, bytes, 0, length)).toBe(0);
  };

  const report = (iova: number, length: number, pageSize = page): number[] => {
    const bitmap = new Uint8Array(Math.ceil(length / pageSize / 64) * 8 + 16).fill(0xaa);
    expect(guest.loggingReport(iova, length, pageSize, bitmap, 8)).toBe(0);
    expect(bitmap.subarray(0, 8), "bytes in front").toEqual(new Uint8Array(8).fill(0xaa));
    expect(bitmap.subarray(-8), "bytes behind").toEqual(new Uint8Array(8).fill(0xaa));
    return setBitsOf(bitmap.subarray(8, -8));
  };

  it("is off at first, and costs nothing", () => {
    expect(guest.logging).toBe(false);
    expect(guest.pageSize).toBe(0);
    write(gibibyte);
    const bitmap = new Uint8Array(8);
    expect(guest.loggingReport(gibibyte, page, page, bitmap, 0)).toBe(-errno.EINVAL);
    expect(guest.loggingStop()).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    expect([guest.logging, guest.pageSize]).toEqual([true, page]);
    expect(report(gibibyte, 16 * mebibyte)).toEqual([]);
  });

  it("tells each written page once", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    write(gibibyte);
    write(gibibyte + 3 * page - 1, 2);
    write(gibibyte + 64 * page, 8 * page);
    expect(report(gibibyte, 80 * page)).toEqual([0, 2, 3, 64, 65, 66, 67, 68, 69, 70, 71]);
    expect(report(gibibyte, 80 * page)).toEqual([]);
    write(gibibyte + page);
    expect(report(gibibyte, 16 * mebibyte)).toEqual([1]);
  });

  it("logs what is written through a cursor, and not what is only read", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    expect(guest.resolve(gibibyte, 64, false)).not.toBeNull();
    expect(guest.resolve(gibibyte + page, 64, true)).not.toBeNull();
    expect(guest.read(gibibyte + 2 * page, bytes.slice(0, page), 0, page)).toBe(0);
    expect(report(gibibyte, 4 * page)).toEqual([1]);
  });

  it("does not log a write that was refused", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    expect(guest.write(gibibyte + 16 * mebibyte - 4, bytes, 0, 8)).toBe(-errno.EFAULT);
    expect(guest.write(2 ** 50, bytes, 0, 8)).toBe(-errno.EFAULT);
    expect(report(gibibyte, 16 * mebibyte)).toEqual([]);
  });

  it("answers for any range: a part of a mapping, several, and what lies between", () => {
    expect(guest.map(client.mapping(2 * gibibyte, mebibyte))).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    write(gibibyte + 10 * page);
    write(gibibyte + 11 * page);
    write(2 * gibibyte + 5 * page);
    expect(report(gibibyte + 11 * page, 4 * page)).toEqual([0]);
    const pages = gibibyte / page;
    expect(report(0, 3 * gibibyte)).toEqual([pages + 10, 2 * pages + 5]);
    expect(report(0, 3 * gibibyte)).toEqual([]);
  });

  it("starts a bitmap at the range's own first page, wherever that is", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    for (const first of [1, 7, 8, 9, 63, 64, 65]) {
      write(gibibyte + 70 * page, 3 * page);
      expect(report(gibibyte + first * page, 80 * page)).toEqual(
        [0, 1, 2].map((n) => 70 - first + n),
      );
    }
  });

  it("repeats the bit of a page for smaller pages, and joins bits for larger ones", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    write(gibibyte + page);
    expect(report(gibibyte, 4 * page, 2048)).toEqual([2, 3]);
    write(gibibyte + page);
    write(gibibyte + 2 * page);
    expect(report(gibibyte, 4 * page, 8192)).toEqual([0, 1]);
    write(gibibyte + 17 * page);
    expect(report(gibibyte, 64 * page, 65_536)).toEqual([1]);
    expect(report(gibibyte, 64 * page, 2048)).toEqual([]);
  });

  it("keeps a logged page that the range covers only in part", () => {
    expect(guest.loggingStart(65_536, [])).toBe(0);
    write(gibibyte + 65_536);
    expect(report(gibibyte + 65_536 + 8192, 2 * page)).toEqual([0, 1]);
    expect(report(gibibyte, 65_536 + page)).toEqual([16]);
    expect(report(gibibyte + 65_536, 65_536)).toEqual(Array.from({ length: 16 }, (_, i) => i));
    expect(report(gibibyte + 65_536, 65_536)).toEqual([]);
  });

  it("goes over the borders of its chunks", () => {
    const border = 128 * mebibyte;
    expect(guest.map(byMessages(0, gibibyte, { readable: false }))).toBe(0);
    const large = ClientMemory.create(border + mebibyte);
    expect(guest.map(large.mapping(2 * gibibyte, border + mebibyte))).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    write(2 * gibibyte + border - page - 1, 2 * page);
    expect(report(2 * gibibyte + border - 8 * page, 16 * page)).toEqual([6, 7, 8]);
    large.close();
  });

  it("logs nothing outside of the ranges that START named", () => {
    const ranges = [
      { iova: gibibyte + 32 * page, length: 2 * page },
      { iova: gibibyte + 8 * page, length: 8 * page },
    ];
    expect(guest.loggingStart(page, ranges)).toBe(0);
    write(gibibyte, 64 * page);
    expect(report(gibibyte, 64 * page)).toEqual([8, 9, 10, 11, 12, 13, 14, 15, 32, 33]);
    write(gibibyte + 7 * page);
    write(gibibyte + 16 * page);
    write(gibibyte + 33 * page, 2 * page);
    write(gibibyte + 31 * page, 2 * page);
    write(gibibyte + 15 * page + 17, 3);
    expect(report(gibibyte, 64 * page)).toEqual([15, 32, 33]);
  });

  it.each([
    ["0", 0],
    ["2 KiB", 2048],
    ["5000", 5000],
    ["2^53 + 2", 2 ** 53 + 2],
    ["twice the largest", 2 * loggedPageMax],
  ])("does not start with a page size of %s", (_, pageSize) => {
    expect(guest.loggingStart(pageSize, [])).toBe(-errno.EINVAL);
    expect(guest.logging).toBe(false);
  });

  it.each([4096, 8192, 65_536, 2 ** 21, loggedPageMax])("logs pages of %i bytes", (pageSize) => {
    expect(guest.loggingStart(pageSize, [])).toBe(0);
    write(gibibyte + 12 * mebibyte);
    expect(report(gibibyte, gibibyte, pageSize)).toEqual([Math.floor((12 * mebibyte) / pageSize)]);
  });

  it.each([
    ["empty", [{ iova: 0, length: 0 }]],
    ["not aligned", [{ iova: 2048, length: page }]],
    ["not of whole pages", [{ iova: 0, length: 5000 }]],
    ["overlapping", [page * 4, page * 2].map((iova) => ({ iova, length: 3 * page }))],
    ["beyond the last address", [{ iova: 2 ** 53, length: page }]],
  ])("does not start with a range that is %s", (_, ranges) => {
    expect(guest.loggingStart(page, ranges)).toBe(-errno.EINVAL);
    expect(guest.logging).toBe(false);
  });

  it("takes as many ranges as Linux, and no more", () => {
    const ranges = (count: number) =>
      Array.from({ length: count }, (_, i) => ({ iova: gibibyte + 2 * i * page, length: page }));
    expect(guest.loggingStart(page, ranges(loggedRangesMax + 1))).toBe(-errno.E2BIG);
    expect(guest.loggingStart(page, ranges(loggedRangesMax))).toBe(0);
    write(gibibyte, 600 * page);
    expect(report(gibibyte, 600 * page)).toHaveLength(loggedRangesMax);
  });

  it("may be started again in the same way, without losing anything, and in no other", () => {
    const ranges = [{ iova: gibibyte, length: mebibyte }];
    expect(guest.loggingStart(page, ranges)).toBe(0);
    write(gibibyte);
    expect(guest.loggingStart(page, [{ iova: gibibyte, length: mebibyte }])).toBe(0);
    expect(guest.loggingStart(8192, ranges)).toBe(-errno.EINVAL);
    expect(guest.loggingStart(2048, ranges)).toBe(-errno.EINVAL);
    expect(guest.loggingStart(page, [])).toBe(-errno.EINVAL);
    expect(report(gibibyte, mebibyte)).toEqual([0]);
    expect(guest.loggingStop()).toBe(0);
    expect(guest.loggingStart(8192, [])).toBe(0);
    expect(report(gibibyte, mebibyte)).toEqual([]);
  });

  it.each([
    ["nothing of the range is mapped", 0, mebibyte, page, -errno.ENOENT],
    ["the range lies behind the mapping", gibibyte + 16 * mebibyte, page, page, -errno.ENOENT],
    ["the range is empty", gibibyte, 0, page, -errno.EINVAL],
    ["the page size is 0", gibibyte, page, 0, -errno.EINVAL],
    ["the page size is no power of two", gibibyte, mebibyte, 12_288, -errno.EINVAL],
    ["the page size is more than the range", gibibyte, 16 * page, 2 ** 24, -errno.EINVAL],
    ["the page size is 2^63", gibibyte, mebibyte, 2 ** 63, -errno.EINVAL],
    ["the bitmap is too small", gibibyte, mebibyte + page, page, -errno.EINVAL],
    ["the pages are so small that no bitmap holds them", gibibyte, mebibyte, 1, -errno.EINVAL],
    ["the range ends behind 2^53", gibibyte, addressEnd, 2 ** 50, -errno.EINVAL],
    ["the range is 2^64 - 1 long", 0, 2 ** 64, 2 ** 60, -errno.EINVAL],
  ])("refuses a report when %s", (_, iova, length, pageSize, answer) => {
    expect(guest.loggingStart(page, [])).toBe(0);
    write(gibibyte);
    const bitmap = new Uint8Array(32).fill(0xaa);
    expect(guest.loggingReport(iova, length, pageSize, bitmap, 0)).toBe(answer);
    expect(bitmap).toEqual(new Uint8Array(32).fill(0xaa));
    expect(report(gibibyte, page)).toEqual([0]);
  });

  it("writes whole u64 words, little-endian, and zeroes what has no page", () => {
    expect(guest.loggingStart(page, [])).toBe(0);
    write(gibibyte + 64 * page);
    const bitmap = new Uint8Array(16).fill(0xff);
    expect(guest.loggingReport(gibibyte, 65 * page, page, bitmap, 0)).toBe(0);
    const view = new DataView(bitmap.buffer);
    expect([view.getBigUint64(0, true), view.getBigUint64(8, true)]).toEqual([0n, 1n]);
  });

  it("gives the last bitmap of a mapping before it goes, and forgets it with the mapping", () => {
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    write(0, 2 * page);
    write(gibibyte);
    expect(report(0, mebibyte)).toEqual([0, 1]);
    write(5 * page);
    expect(guest.unmap(0, mebibyte)).toBe(0);
    expect(guest.loggingReport(0, mebibyte, page, new Uint8Array(32), 0)).toBe(-errno.ENOENT);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(report(0, mebibyte)).toEqual([]);
    expect(report(gibibyte, mebibyte)).toEqual([0]);
  });
});

describe("the memory of a dirty log", () => {
  it("is that of the places that were written, not of what is mapped", () => {
    const log = new DirtyLog();
    expect(log.start(page, [])).toBe(0);
    log.mark(0, page);
    log.mark(2 ** 50, page);
    log.mark(2 ** 50 + mebibyte, page);
    expect(log.chunkCount).toBe(2);
    log.stop();
    expect(log.chunkCount).toBe(0);
  });

  it("ends at a limit; from then on everything is reported dirty, until the log is stopped", () => {
    const log = new DirtyLog(3);
    const bitmap = new Uint8Array(8);
    expect(log.start(page, [])).toBe(0);
    for (let i = 0; i < 3; i++) log.mark(i * gibibyte, page);
    expect(log.report(0, 4 * page, page, bitmap, 0)).toBe(0);
    expect(bitmap[0]).toBe(0b0001);
    log.mark(3 * gibibyte, page);
    expect(log.chunkCount).toBe(3);
    for (const iova of [0, 3 * gibibyte, 2 ** 50]) {
      expect(log.report(iova, 4 * page, page, bitmap, 0)).toBe(0);
      expect(bitmap[0]).toBe(0b1111);
    }
    log.stop();
    expect(log.start(page, [])).toBe(0);
    expect(log.report(0, 4 * page, page, bitmap, 0)).toBe(0);
    expect(bitmap[0]).toBe(0);
  });

  it("has a default limit that holds 2 TiB of 4 KiB pages", () => {
    expect(chunksMax * 128 * mebibyte).toBe(2 * 1024 * gibibyte);
  });
});
