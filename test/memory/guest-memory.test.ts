import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { errno } from "../../src/base/errno.ts";
import { addressEnd, mapsMax, sizeMax } from "../../src/memory/dma-map.ts";
import { Cursor, GuestMemory } from "../../src/memory/guest-memory.ts";
import { byMessages, ClientMemory, openDescriptors, pattern, same } from "./client-memory.ts";

const page = 4096;
const mebibyte = 2 ** 20;

describe("guest memory through mappings", () => {
  let guest: GuestMemory;
  let client: ClientMemory;
  let descriptors: number;

  beforeEach(() => {
    guest = new GuestMemory();
    descriptors = openDescriptors();
    client = ClientMemory.create(mebibyte);
  });

  afterEach(() => {
    guest.unmapAll();
    client.close();
    expect(openDescriptors(), "descriptors that stayed open").toBe(descriptors);
  });

  it("reads what the client wrote and writes what the client reads, at any length", () => {
    expect(guest.map(client.mapping(0x10000, mebibyte))).toBe(0);
    for (const length of [1, 2, 11, 12, 13, 64, 511, page, page + 1, 70_000]) {
      const bytes = pattern(length, length);
      client.write(100, bytes);
      const read = new Uint8Array(length + 8);
      expect(guest.read(0x10000 + 100, read, 4, length)).toBe(0);
      expect(same(read.subarray(4, 4 + length), bytes)).toBe(true);
      expect([read[3], read[4 + length]]).toEqual([0, 0]);

      const written = pattern(length + 8, length + 1);
      expect(guest.write(0x10000 + 200_000, written, 4, length)).toBe(0);
      expect(same(client.read(200_000, length), written.subarray(4, 4 + length))).toBe(true);
    }
  });

  it("uses the descriptor's offset, which need not be a multiple of anything", () => {
    expect(guest.map(client.mapping(0, 5000, { offset: 1234 }))).toBe(0);
    client.write(1234 + 4999, Uint8Array.of(77));
    const read = new Uint8Array(1);
    expect(guest.read(4999, read, 0, 1)).toBe(0);
    expect(read[0]).toBe(77);
    expect(guest.read(5000, read, 0, 1)).toBe(-errno.EFAULT);
  });

  it("crosses mappings that touch, of different files and in any order", () => {
    const other = ClientMemory.create(mebibyte, 0);
    expect(guest.map(other.mapping(0x3000, 0x1000, { offset: 0x8000 }))).toBe(0);
    expect(guest.map(client.mapping(0x2000, 0x1000, { offset: 0x5000 }))).toBe(0);
    expect(guest.map(client.mapping(0x4000, 0x1000))).toBe(0);
    const bytes = pattern(0x2800);
    expect(guest.write(0x2400, bytes, 0, bytes.length)).toBe(0);
    expect(client.read(0x5400, 0xc00)).toEqual(bytes.subarray(0, 0xc00));
    expect(other.read(0x8000, 0x1000)).toEqual(bytes.subarray(0xc00, 0x1c00));
    expect(client.read(0, 0xc00)).toEqual(bytes.subarray(0x1c00));
    const read = new Uint8Array(bytes.length);
    expect(guest.read(0x2400, read, 0, read.length)).toBe(0);
    expect(read).toEqual(bytes);
    other.close();
  });

  it("never takes one place or one buffer for another of the same length", () => {
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    client.write(0, pattern(page));
    const read = new Uint8Array(64);
    for (const at of [0, 64, 32, 0]) {
      expect(guest.read(at, read, 0, 64)).toBe(0);
      expect(read).toEqual(pattern(page).subarray(at, at + 64));
    }
    for (const seed of [2, 3]) {
      const written = pattern(100, seed);
      expect(guest.write(page, written, 1, 64)).toBe(0);
      expect(client.read(page, 64)).toEqual(written.subarray(1, 65));
    }
  });

  it("refuses a range with a hole before it writes anything", () => {
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.map(client.mapping(2 * page, page, { offset: page }))).toBe(0);
    const bytes = pattern(3 * page);
    expect(guest.write(0, bytes, 0, bytes.length)).toBe(-errno.EFAULT);
    expect(guest.read(0, bytes, 0, bytes.length)).toBe(-errno.EFAULT);
    expect(client.read(0, page)).toEqual(new Uint8Array(page));
  });

  it.each([
    [{ readable: false }, -errno.EACCES, 0],
    [{ writable: false }, 0, -errno.EACCES],
    [{ readable: false, writable: false }, -errno.EACCES, -errno.EACCES],
  ])("keeps to the permission %o", (changes, reading, writing) => {
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.map(client.mapping(page, page, { offset: page, ...changes }))).toBe(0);
    const bytes = pattern(2 * page);
    for (const [iova, length] of [
      [page, 8],
      [page - 4, 8],
    ] as const) {
      expect(guest.read(iova, new Uint8Array(8), 0, length)).toBe(reading);
      expect(guest.write(iova, bytes, 0, length)).toBe(writing);
    }
    if (writing < 0) expect(client.read(0, 2 * page)).toEqual(new Uint8Array(2 * page));
    expect(guest.resolve(page, 8, false) === null).toBe(reading < 0);
    expect(guest.resolve(page, 8, true) === null).toBe(writing < 0);
  });

  it("finds nothing at addresses above 2^53, as a guest may put them into a descriptor", () => {
    expect(guest.map(client.mapping(0, page))).toBe(0);
    const bytes = new Uint8Array(16);
    for (const iova of [page, 2 ** 53, 2 ** 53 + 4096, 2 ** 63, 2 ** 64, addressEnd]) {
      expect(guest.read(iova, bytes, 0, 16)).toBe(-errno.EFAULT);
      expect(guest.write(iova, bytes, 0, 16)).toBe(-errno.EFAULT);
      expect(guest.resolve(iova, 16, false)).toBeNull();
    }
    expect(guest.read(page - 8, bytes, 0, 16)).toBe(-errno.EFAULT);
  });

  it("moves nothing for a length of 0, wherever", () => {
    expect(guest.read(12345, new Uint8Array(0), 0, 0)).toBe(0);
    expect(guest.write(12345, new Uint8Array(0), 0, 0)).toBe(0);
    expect(guest.resolve(12345, 0, false)).toBeNull();
  });

  it("treats a range outside of the device's own buffer as our mistake", () => {
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(() => guest.write(0, new Uint8Array(8), 4, 8)).toThrow(AssertionError);
    expect(() => guest.read(0, new Uint8Array(8), 4, 8)).toThrow(AssertionError);
  });

  it("shows rings where they lie, in as many cursors as a device needs", () => {
    expect(guest.map(client.mapping(0x10000, mebibyte))).toBe(0);
    const second = new Cursor();
    const first = guest.resolve(0x10040, 64, true);
    expect(guest.resolve(0x20000, 16, true, second)).toBe(second);
    first?.view.setUint32(first.at, 0xfeedbeef, true);
    second.bytes[second.at] = 9;
    expect(client.read(0x40, 4)).toEqual(Uint8Array.of(0xef, 0xbe, 0xed, 0xfe));
    expect(client.read(0x10000, 1)).toEqual(Uint8Array.of(9));
    client.write(0x41, Uint8Array.of(0x11));
    expect(first?.view.getUint32(first.at, true)).toBe(0xfeed11ef);
  });

  it("resolves no range that leaves its mapping", () => {
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.map(client.mapping(page, page, { offset: page }))).toBe(0);
    expect(guest.resolve(page - 8, 8, false)).not.toBeNull();
    expect(guest.resolve(page - 8, 16, false)).toBeNull();
  });

  it("keeps one descriptor for any number of mappings of one file", () => {
    for (let i = 0; i < 100; i++) {
      expect(guest.map(client.mapping(i * 2 * page, page, { offset: i * page }))).toBe(0);
    }
    expect(guest.fileCount).toBe(1);
    expect(openDescriptors()).toBe(descriptors + 2);
    for (let i = 0; i < 99; i++) expect(guest.unmap(i * 2 * page, page)).toBe(0);
    expect(guest.write(99 * 2 * page, pattern(8), 0, 8)).toBe(0);
    expect(client.read(99 * page, 8)).toEqual(pattern(8));
  });

  it("tells files apart that have nothing but their kind in common", () => {
    const others = Array.from({ length: 8 }, () => ClientMemory.create(page));
    for (const [i, other] of others.entries()) {
      expect(guest.map(other.mapping(i * page, page))).toBe(0);
      expect(guest.write(i * page, Uint8Array.of(i + 1), 0, 1)).toBe(0);
    }
    expect(guest.fileCount).toBe(8);
    expect(others.map((other) => other.read(0, 1)[0])).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    for (const other of others) other.close();
  });
});

describe("DMA_MAP and DMA_UNMAP", () => {
  let guest: GuestMemory;

  beforeEach(() => {
    guest = new GuestMemory({ mapsMax: 64 });
  });

  it.each([
    ["the same again", 0x10000, 0x2000],
    ["its first byte", 0xf000, 0x1001],
    ["its last byte", 0x11fff, 1],
    ["something inside", 0x10800, 0x800],
    ["all around", 0, 0x100000],
  ])("refuses an overlap: %s", (_, iova, size) => {
    expect(guest.map(byMessages(0x10000, 0x2000))).toBe(0);
    expect(guest.map(byMessages(0x30000, 0x2000))).toBe(0);
    expect(guest.map(byMessages(iova, size))).toBe(-errno.EEXIST);
    expect(guest.mapCount).toBe(2);
  });

  it("takes neighbours on both sides", () => {
    expect(guest.map(byMessages(0x10000, 0x1000))).toBe(0);
    expect(guest.map(byMessages(0xf000, 0x1000))).toBe(0);
    expect(guest.map(byMessages(0x11000, 0x1000))).toBe(0);
  });

  it.each([
    ["nothing", 0, 0, -errno.EINVAL],
    ["8 TiB", 0, sizeMax, 0],
    ["8 TiB and a page", 0, sizeMax + page, -errno.ENOSPC],
    ["2^64 - 1 bytes", 0, 2 ** 64, -errno.ENOSPC],
    ["up to the end of addresses", addressEnd - page, page, 0],
    ["beyond the end of addresses", addressEnd - page + 1, page, -errno.EINVAL],
    ["an address of 2^53", 2 ** 53, page, -errno.EINVAL],
    ["the last page of 2^64, which wraps around", 2 ** 64 - 4096, page, -errno.EINVAL],
  ])("answers a mapping of %s", (_, iova, size, answer) => {
    expect(guest.map(byMessages(iova, size))).toBe(answer);
    expect(guest.mapCount).toBe(answer === 0 ? 1 : 0);
  });

  it("refuses the 65th of 64", () => {
    for (let i = 0; i < 64; i++) expect(guest.map(byMessages(i * page, page))).toBe(0);
    expect(guest.map(byMessages(64 * page, page))).toBe(-errno.EINVAL);
    expect(guest.unmap(7 * page, page)).toBe(0);
    expect(guest.map(byMessages(64 * page, page))).toBe(0);
  });

  it("unmaps exactly what was mapped, or nothing", () => {
    expect(guest.map(byMessages(0x10000, 0x2000))).toBe(0);
    for (const [iova, size] of [
      [0x10000, 0x1000],
      [0x11000, 0x1000],
      [0xf000, 0x3000],
      [0, 0],
      [0x20000, 0x2000],
      [2 ** 64, 0x2000],
    ] as const) {
      expect(guest.unmap(iova, size)).toBe(-errno.ENOENT);
    }
    expect(guest.unmap(0x10000, 0x2000)).toBe(0);
    expect(guest.unmap(0x10000, 0x2000)).toBe(-errno.ENOENT);
  });

  it("leaves the descriptor of a refused mapping to the caller", () => {
    const client = ClientMemory.create(page);
    expect(guest.map(client.mapping(0, page))).toBe(0);
    const before = openDescriptors();
    const refused = client.mapping(0, page);
    expect(guest.map(refused)).toBe(-errno.EEXIST);
    const tooLong = client.mapping(page, 2 * page);
    expect(guest.map(tooLong)).toBe(-errno.EINVAL);
    expect(openDescriptors()).toBe(before + 2);
    new ClientMemory(refused.fd).close();
    new ClientMemory(tooLong.fd).close();
    guest.unmapAll();
    client.close();
  });

  it("tells a keeper of cursors that a mapping went away", () => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    const before = guest.generation;
    expect(guest.map(byMessages(page, page))).toBe(0);
    expect(guest.generation).toBe(before);
    expect(guest.unmap(0, page)).toBe(0);
    expect(guest.generation).not.toBe(before);
  });

  it("holds 65,535 mappings of one file, refuses one more, and finds each", () => {
    const large = new GuestMemory();
    const client = ClientMemory.create(2 * mapsMax);
    const before = openDescriptors();
    const place = (i: number) => ((i * 40_507) % mapsMax) * 0x11000;
    for (let i = 0; i < mapsMax; i++) {
      if (large.map(client.mapping(place(i), 2, { offset: 2 * i })) !== 0) throw new Error(`${i}`);
    }
    const last = client.mapping(mapsMax * 0x11000, 1);
    expect(large.map(last)).toBe(-errno.EINVAL);
    new ClientMemory(last.fd).close();
    expect(openDescriptors()).toBe(before + 1);
    const bytes = new Uint8Array(2);
    for (let i = 0; i < mapsMax; i += 97) {
      client.write(2 * i, Uint8Array.of(i & 0xff, i >> 8));
      if (large.read(place(i), bytes, 0, 2) !== 0) throw new Error(`${i}`);
      expect(bytes).toEqual(Uint8Array.of(i & 0xff, i >> 8));
      expect(large.read(place(i) + 1, bytes, 0, 2)).toBe(-errno.EFAULT);
    }
    for (let i = 0; i < mapsMax; i += 2) expect(large.unmap(place(i), 2)).toBe(0);
    expect(large.read(place(0), bytes, 0, 2)).toBe(-errno.EFAULT);
    expect(large.read(place(1), bytes, 0, 2)).toBe(0);
    large.unmapAll();
    expect(large.mapCount).toBe(0);
    expect(openDescriptors()).toBe(before);
    client.close();
  });
});
