/** Memory that a hostile client lends: nothing of it may end the process by a signal. */
import {
  closeSync,
  constants,
  fstatSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { granuleBytes } from "../../src/memory/file-window.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { WindowPool, windowSizes } from "../../src/memory/window-pool.ts";
import { F_SEAL_GROW, F_SEAL_SHRINK, MFD_ALLOW_SEALING } from "../../src/sys/constants.ts";
import { addSeals, createEventfd, isOpen, resizeFile } from "../../src/sys/descriptors.ts";
import { memfdCreate } from "../../src/sys/libc.ts";
import { socketPair } from "../../src/sys/unix.ts";
import type { Window } from "../../src/sys/window.ts";
import { ClientMemory, openDescriptors, pattern, same } from "./client-memory.ts";

const page = 4096;
const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;
const sealWrite = 8;
const sealFutureWrite = 16;
const memfdHugetlb = 4;

const freeHugePages = Number(
  /HugePages_Free:\s+(\d+)/.exec(readFileSync("/proc/meminfo", "utf8"))?.[1] ?? 0,
);

/** A pool whose windows lack something. */
class FaultyPool extends WindowPool {
  readonly #fault: Partial<Record<"lay" | "populate", () => number>>;

  constructor(fault: Partial<Record<"lay" | "populate", () => number>>) {
    super();
    this.#fault = fault;
  }

  override take(size: number): Window | null {
    const window = super.take(size);
    if (window === null) return null;
    const replaced = Object.entries(this.#fault).map(([name, value]) => [name, { value }]);
    return Object.create(window, Object.fromEntries(replaced)) as Window;
  }
}

describe("memory that a client lends", () => {
  let guest: GuestMemory;
  const bytes = new Uint8Array(2 * mebibyte);

  beforeEach(() => {
    guest = new GuestMemory();
    bytes.fill(0);
  });

  afterEach(() => {
    guest.unmapAll();
  });

  /** Every access that a device could try, with the answer that all of them must have. */
  function expectEveryAccess(iova: number, answer: number): void {
    for (const length of [1, 64, page]) {
      expect(guest.read(iova, bytes, 0, length)).toBe(answer);
      expect(guest.write(iova, bytes, 0, length)).toBe(answer);
    }
  }

  it("refuses a memfd that is shorter than the mapping", () => {
    const client = ClientMemory.create(page);
    for (const [size, offset] of [
      [page + 1, 0],
      [page, 1],
      [1, page],
      [page, 2 ** 52],
    ] as const) {
      const mapping = client.mapping(0, size, { offset });
      expect(guest.map(mapping)).toBe(-errno.EINVAL);
      closeSync(mapping.fd);
    }
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expectEveryAccess(0, 0);
    client.close();
  });

  it("answers EFAULT behind the end of an unsealed memfd that was cut off", () => {
    const client = ClientMemory.create(mebibyte, 0);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expectEveryAccess(mebibyte - page, 0);
    expect(client.resize(2 * page)).toBe(0);
    expectEveryAccess(mebibyte - page, -errno.EFAULT);
    expect(guest.read(2 * page - 1, bytes, 0, 2)).toBe(-errno.EFAULT);
    expect(guest.write(2 * page - 1, bytes, 0, 2)).toBe(-errno.EFAULT);
    expectEveryAccess(page, 0);
    expect(client.size).toBe(2 * page);
    expect(client.resize(mebibyte)).toBe(0);
    expectEveryAccess(mebibyte - page, 0);
    client.close();
  });

  it("never shows an unsealed memfd in a window", () => {
    const client = ClientMemory.create(mebibyte, F_SEAL_GROW);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(guest.resolve(0, 64, false)).toBeNull();
    client.close();
  });

  it("cannot be cut off once it is sealed", () => {
    const client = ClientMemory.create(mebibyte);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(client.resize(page)).toBe(-errno.EPERM);
    const cursor = guest.resolve(mebibyte - page, page, true);
    cursor?.bytes.fill(7, cursor.at, cursor.at + page);
    expect(client.read(mebibyte - page, page)).toEqual(new Uint8Array(page).fill(7));
    client.close();
  });

  it("believes the size that a file has after the seal, not the one that DMA_MAP saw", () => {
    const client = ClientMemory.create(mebibyte, 0);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(client.resize(page + 100)).toBe(0);
    expect(addSeals(client.fd, F_SEAL_SHRINK | F_SEAL_GROW)).toBe(0);
    expectEveryAccess(mebibyte - page, -errno.EFAULT);
    expect(guest.resolve(page + 64, 64, false)).toBeNull();
    expect(guest.resolve(page + 36, 64, false)).not.toBeNull();
    client.close();
  });

  it("leaves a stale view harmless: it neither crashes nor reaches the client", () => {
    const client = ClientMemory.create(mebibyte);
    client.write(0, pattern(page));
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    const cursor = guest.resolve(0, page, true);
    const stale = { bytes: cursor?.bytes as Uint8Array, at: cursor?.at as number };
    expect(stale.bytes.subarray(stale.at, stale.at + page)).toEqual(pattern(page));
    expect(guest.unmap(0, mebibyte)).toBe(0);
    expect(stale.bytes.subarray(stale.at, stale.at + page)).toEqual(new Uint8Array(page));
    stale.bytes.fill(0xee, stale.at, stale.at + mebibyte);
    expect(client.read(0, page)).toEqual(pattern(page));
    client.close();
  });

  it("reuses the windows of what was unmapped, blank", () => {
    const windows = new WindowPool();
    guest = new GuestMemory({ windows });
    for (let i = 0; i < 50; i++) {
      const client = ClientMemory.create(mebibyte);
      expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
      expect(guest.read(1000, bytes, 0, 64)).toBe(0);
      expect(bytes.subarray(0, 64)).toEqual(new Uint8Array(64));
      expect(guest.write(1000, pattern(64), 0, 64)).toBe(0);
      expect(guest.unmap(0, mebibyte)).toBe(0);
      client.close();
    }
    expect(windows.made).toBe(1);
  });

  it("populates a sparse file one granule at a time, at the first touch", () => {
    const client = ClientMemory.create(gibibyte);
    expect(guest.map(client.mapping(0, gibibyte))).toBe(0);
    expect(client.allocated).toBe(0);
    expect(guest.read(500 * mebibyte, bytes, 0, 1)).toBe(0);
    expect(client.allocated).toBe(granuleBytes);
    expect(guest.write(500 * mebibyte + granuleBytes - 1, bytes, 0, 1)).toBe(0);
    expect(client.allocated).toBe(granuleBytes);
    expect(guest.write(500 * mebibyte + granuleBytes - 1, bytes, 0, 2)).toBe(0);
    expect(client.allocated).toBe(2 * granuleBytes);
    client.close();
  });

  it("goes over the border of two windows", () => {
    const client = ClientMemory.create(3 * gibibyte);
    expect(guest.map(client.mapping(0x1000, 3 * gibibyte - page, { offset: page }))).toBe(0);
    const data = pattern(3 * page);
    expect(guest.write(gibibyte - page, data, 0, data.length)).toBe(0);
    expect(same(client.read(gibibyte - page, data.length), data)).toBe(true);
    expect(guest.read(gibibyte - page, bytes, 5, data.length)).toBe(0);
    expect(same(bytes.subarray(5, 5 + data.length), data)).toBe(true);
    expect(guest.resolve(gibibyte - page, 2 * page, false)).toBeNull();
    expect(guest.resolve(2 * gibibyte, page, false)?.at).toBe(0);
    client.close();
  });

  it("takes up a file that has grown since its first mapping", () => {
    const client = ClientMemory.create(5000);
    expect(guest.map(client.mapping(0, 5000))).toBe(0);
    expectEveryAccess(900, 0);
    expect(client.resize(4 * mebibyte)).toBe(0);
    expect(guest.map(client.mapping(mebibyte, 3 * mebibyte, { offset: mebibyte }))).toBe(0);
    expect(guest.fileCount).toBe(1);
    expectEveryAccess(mebibyte, 0);
    expectEveryAccess(4 * mebibyte - page, 0);
    expectEveryAccess(900, 0);
    expect(guest.write(3 * mebibyte, pattern(64), 0, 64)).toBe(0);
    expect(client.read(3 * mebibyte, 64)).toEqual(pattern(64));
    for (const iova of [900, mebibyte, 2 * mebibyte, 4 * mebibyte - page]) {
      expect(guest.resolve(iova, 64, true), `${iova}`).not.toBeNull();
    }
    client.close();
  });

  it("populates again what was laid again", () => {
    const populated: number[] = [];
    class Watching extends WindowPool {
      override take(size: number): Window | null {
        const window = super.take(size) as Window;
        const populate = (at: number, length: number, writable: boolean) => {
          populated.push(at);
          return window.populate(at, length, writable);
        };
        return Object.create(window, { populate: { value: populate } }) as Window;
      }
    }
    guest = new GuestMemory({ windows: new Watching() });
    const client = ClientMemory.create(page);
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expectEveryAccess(0, 0);
    expect(client.resize(mebibyte)).toBe(0);
    expect(guest.map(client.mapping(page, mebibyte - page, { offset: page }))).toBe(0);
    expectEveryAccess(granuleBytes, 0);
    expectEveryAccess(0, 0);
    expect(populated).toEqual([0, granuleBytes, 0]);
    client.close();
  });

  it("refuses to write through a descriptor that was opened for reading", () => {
    const client = ClientMemory.create(page);
    client.write(0, pattern(64));
    expect(guest.map(client.mapping(0, page, { fd: client.reopened("r") }))).toBe(0);
    expect(guest.map(client.mapping(page, page, { fd: client.reopened(constants.O_WRONLY) }))).toBe(
      0,
    );
    expect(guest.map(client.mapping(2 * page, page, { fd: client.reopened("a+") }))).toBe(0);
    expect(guest.map(client.mapping(3 * page, page))).toBe(0);
    expect(guest.fileCount).toBe(4);
    expect(guest.read(0, bytes, 0, 64)).toBe(0);
    expect(bytes.subarray(0, 64)).toEqual(pattern(64));
    expect(guest.resolve(0, 64, false)).not.toBeNull();
    expect(guest.write(0, bytes, 0, 64)).toBe(-errno.EACCES);
    expect(guest.resolve(0, 64, true)).toBeNull();
    expect(guest.read(page, bytes, 0, 64)).toBe(-errno.EACCES);
    expect(guest.write(2 * page, bytes, 0, 64)).toBe(-errno.EACCES);
    expect(client.size).toBe(page);
    expectEveryAccess(3 * page, 0);
    client.close();
  });

  it.each([
    ["F_SEAL_WRITE", sealWrite],
    ["F_SEAL_FUTURE_WRITE", sealFutureWrite],
  ])("reads but does not write a memfd with %s", (_, seal) => {
    const client = ClientMemory.create(page, 0);
    client.write(0, pattern(64));
    expect(addSeals(client.fd, F_SEAL_SHRINK | seal)).toBe(0);
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.write(0, bytes, 0, 64)).toBe(-errno.EACCES);
    expect(guest.read(0, bytes, 0, 64)).toBe(0);
    expect(bytes.subarray(0, 64)).toEqual(pattern(64));
    expect(guest.resolve(0, 64, false)).not.toBeNull();
    expect(guest.resolve(0, 64, true)).toBeNull();
    client.close();
  });

  it("refuses to write what F_SEAL_FUTURE_WRITE came before", () => {
    const client = ClientMemory.create(2 * gibibyte);
    expect(guest.map(client.mapping(0, 2 * gibibyte))).toBe(0);
    expect(guest.write(0, bytes, 0, 64)).toBe(0);
    expect(addSeals(client.fd, sealFutureWrite)).toBe(0);
    expect(guest.write(gibibyte, bytes, 0, 64)).toBe(-errno.EACCES);
    expect(guest.read(gibibyte, bytes, 0, 64)).toBe(0);
    expect(guest.read(page, bytes, 0, 64)).toBe(0);
    client.close();
  });

  it("reads and writes, but never maps, where the client forbids mapping", () => {
    const client = ClientMemory.create(mebibyte);
    expect(guest.map(client.mapping(0, mebibyte, { mayMap: false }))).toBe(0);
    const data = pattern(600_000);
    expect(guest.write(77, data, 0, data.length)).toBe(0);
    expect(same(client.read(77, data.length), data)).toBe(true);
    expect(guest.read(77, bytes, 0, data.length)).toBe(0);
    expect(same(bytes.subarray(0, data.length), data)).toBe(true);
    expect(guest.resolve(0, 64, false)).toBeNull();
    client.close();
  });

  it("reads and writes an ordinary file, which cannot be sealed", () => {
    const folder = mkdtempSync(join(tmpdir(), "ferry-memory-"));
    const client = new ClientMemory(openSync(join(folder, "memory"), "w+"));
    resizeFile(client.fd, mebibyte);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    expect(guest.write(4000, pattern(page), 0, page)).toBe(0);
    expect(client.read(4000, page)).toEqual(pattern(page));
    expect(guest.resolve(0, 64, false)).toBeNull();
    client.resize(0);
    expectEveryAccess(4000, -errno.EFAULT);
    client.close();
    rmSync(folder, { recursive: true });
  });

  it("closes a descriptor that is not of a file and goes by messages instead", () => {
    const [one, other] = socketPair();
    const before = openDescriptors();
    const eventfd = createEventfd();
    for (const [i, fd] of [eventfd, one].entries()) {
      const mapping = { readable: true, writable: true, offset: 0, mayMap: true };
      expect(guest.map({ ...mapping, iova: i * page, size: page, fd })).toBe(0);
      expectEveryAccess(i * page, -errno.EINPROGRESS);
      expect(isOpen(fd)).toBe(false);
    }
    expect(openDescriptors()).toBe(before - 1);
    closeSync(other);
  });

  it("says so when the descriptor is not open at all", () => {
    const mapping = { readable: true, writable: true, offset: 0, mayMap: true };
    expect(guest.map({ ...mapping, iova: 0, size: page, fd: 19_999 })).toBe(-errno.EBADF);
    expect(guest.mapCount).toBe(0);
  });

  it.each([
    ["there is no window left", new WindowPool(0)],
    ["mmap fails", new FaultyPool({ lay: () => -errno.ENOMEM })],
    ["populating fails", new FaultyPool({ populate: () => -errno.EFAULT })],
  ])("reads and writes the file when %s", (_, windows) => {
    guest = new GuestMemory({ windows });
    const client = ClientMemory.create(mebibyte);
    expect(guest.map(client.mapping(0, mebibyte))).toBe(0);
    const data = pattern(300_000);
    expect(guest.write(5, data, 0, data.length)).toBe(0);
    expect(same(client.read(5, data.length), data)).toBe(true);
    expect(guest.read(5, bytes, 0, data.length)).toBe(0);
    expect(same(bytes.subarray(0, data.length), data)).toBe(true);
    expect(guest.resolve(0, 64, true)).toBeNull();
    client.close();
  });

  it("leaves a window usable after a failed mmap: its views see zeroes", () => {
    let failing = false;
    const pool = new WindowPool();
    const window = pool.take(windowSizes[0]) as Window;
    const lay = window.lay.bind(window);
    const cut = () => {
      if (!failing) return 0;
      // What an mmap that fails half-way does to the range: it is no longer what it was.
      lay(client.fd, 0, page, false);
      return -errno.ENOMEM;
    };
    const client = ClientMemory.create(2 * page);
    client.write(0, pattern(64));
    const once = Object.create(window, {
      lay: { value: (...args: Parameters<typeof lay>) => cut() || lay(...args) },
    }) as Window;
    pool.give(once);
    guest = new GuestMemory({ windows: pool });
    expect(guest.map(client.mapping(0, 2 * page))).toBe(0);
    failing = true;
    expectEveryAccess(page, 0);
    expect(window.bytes.subarray(0, 64)).toEqual(new Uint8Array(64));
    window.bytes[0] = 1;
    failing = false;
    expect(guest.resolve(0, 64, false)).not.toBeNull();
    expect(window.bytes.subarray(0, 64)).toEqual(pattern(64));
    client.close();
  });

  it.skipIf(freeHugePages > 0)("leaves hugetlb memory that cannot be populated to messages", () => {
    const fd = memfdCreate("huge", memfdHugetlb | MFD_ALLOW_SEALING);
    expect(fd).toBeGreaterThan(0);
    const client = new ClientMemory(fd);
    expect(client.resize(2 * mebibyte)).toBe(0);
    expect(guest.map(client.mapping(0, 2 * mebibyte))).toBe(0);
    expectEveryAccess(0, -errno.EINPROGRESS);
    guest.unmapAll();
    expect(addSeals(fd, F_SEAL_SHRINK)).toBe(0);
    expect(guest.map(client.mapping(0, 2 * mebibyte))).toBe(0);
    expectEveryAccess(0, -errno.EINPROGRESS);
    expect(guest.resolve(0, 64, false)).toBeNull();
    client.close();
  });

  it.skipIf(freeHugePages === 0)("maps sealed hugetlb memory (needs vm.nr_hugepages)", () => {
    const fd = memfdCreate("huge", memfdHugetlb | MFD_ALLOW_SEALING);
    const client = new ClientMemory(fd);
    expect(client.resize(2 * mebibyte)).toBe(0);
    expect(addSeals(fd, F_SEAL_SHRINK)).toBe(0);
    expect(guest.map(client.mapping(0, 2 * mebibyte))).toBe(0);
    expect(guest.write(mebibyte, pattern(page), 0, page)).toBe(0);
    expect(guest.resolve(mebibyte, page, false)).not.toBeNull();
    expect(client.read(mebibyte, page)).toEqual(pattern(page));
    expect(fstatSync(fd).size).toBe(2 * mebibyte);
    client.close();
  });
});
