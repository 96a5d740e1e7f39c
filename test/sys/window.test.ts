import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Arena } from "../../src/sys/arena.ts";
import { createEventfd, createMemfd } from "../../src/sys/descriptors.ts";
import { pread } from "../../src/sys/libc.ts";
import { Window } from "../../src/sys/window.ts";

const page = 4096;
const size = 2 ** 21;

describe("a window", () => {
  const window = Window.reserve(size) as Window;
  let fd: number;

  beforeEach(() => {
    fd = createMemfd("file", 64 * page);
    writeSync(
      fd,
      Uint8Array.from({ length: 2 * page }, (_, i) => (i < page ? 1 : 2)),
      0,
    );
  });

  afterEach(() => {
    expect(window.blank()).toBe(0);
    closeSync(fd);
  });

  const inFile = (offset: number): number => {
    const bytes = new Uint8Array(1);
    readSync(fd, bytes, 0, 1, offset);
    return bytes[0] as number;
  };

  it("is blank at first, and can be written", () => {
    const fresh = Window.reserve(size) as Window;
    expect(fresh.bytes.length).toBe(size);
    expect(fresh.view.byteLength).toBe(size);
    expect([fresh.bytes[0], fresh.bytes[size - 1]]).toEqual([0, 0]);
    fresh.bytes[size - 1] = 3;
    expect(fresh.view.getUint8(size - 1)).toBe(3);
  });

  it("shows a file from an offset on, both ways", () => {
    expect(window.lay(fd, page, 16 * page, true)).toBe(0);
    expect(window.populate(0, 16 * page, true)).toBe(0);
    expect(window.bytes[0]).toBe(2);
    window.view.setUint8(page, 77);
    expect(inFile(2 * page)).toBe(77);
    writeSync(fd, Uint8Array.of(78), 0, 1, 3 * page);
    expect(window.bytes[2 * page]).toBe(78);
  });

  it("keeps its views over everything that is laid into it and taken out again", () => {
    const { bytes, view } = window;
    expect(window.lay(fd, 0, page, true)).toBe(0);
    expect(bytes[0]).toBe(1);
    expect(window.lay(fd, page, page, true)).toBe(0);
    expect(bytes[0]).toBe(2);
    expect(window.blank()).toBe(0);
    expect(view.getUint8(0)).toBe(0);
    bytes[0] = 9;
    expect([inFile(0), inFile(page)]).toEqual([1, 2]);
  });

  it("shows more of a file than the window has before without losing what lies behind", () => {
    window.bytes[32 * page] = 5;
    expect(window.lay(fd, 0, page, true)).toBe(0);
    expect([window.bytes[0], window.bytes[page], window.bytes[32 * page]]).toEqual([1, 0, 5]);
  });

  it("may be laid for reading only", () => {
    const reading = openSync(`/proc/self/fd/${fd}`, "r");
    expect(window.lay(reading, 0, page, true)).toBe(-errno.EACCES);
    expect(window.blank()).toBe(0);
    expect(window.lay(reading, 0, page, false)).toBe(0);
    expect(window.populate(0, page, false)).toBe(0);
    expect(window.bytes[0]).toBe(1);
    closeSync(reading);
  });

  it("says as an errno what a touch would say as a signal", () => {
    expect(window.lay(fd, 0, 128 * page, true)).toBe(0);
    expect(window.populate(0, 64 * page, true)).toBe(0);
    expect(window.populate(64 * page, page, true)).toBe(-errno.EFAULT);
    expect(window.populate(64 * page, page, false)).toBe(-errno.EFAULT);
    ftruncateSync(fd, page);
    expect(window.populate(page, page, true)).toBe(-errno.EFAULT);
    expect(window.populate(0, page, true)).toBe(0);
  });

  it("cannot show what has no pages", () => {
    const eventfd = createEventfd();
    expect(window.lay(eventfd, 0, page, true)).toBeLessThan(0);
    expect(window.lay(19_999, 0, page, true)).toBe(-errno.EBADF);
    expect(window.blank()).toBe(0);
    expect(window.bytes[0]).toBe(0);
    closeSync(eventfd);
  });

  it("is null where there are not that many addresses", () => {
    expect(Window.reserve(2 ** 50)).toBeNull();
  });
});

describe("an arena", () => {
  it("is seen alike by JavaScript and by the kernel", () => {
    const arena = new Arena(100);
    expect(arena.size).toBe(page);
    expect(arena.bytes.every((byte) => byte === 0)).toBe(true);
    const fd = createMemfd("file", page);
    writeSync(fd, Uint8Array.of(1, 2, 3, 4), 0, 4, 8);
    expect(pread(fd, arena.address + 16, 4, 8)).toBe(4);
    expect(arena.view.getUint32(16, true)).toBe(0x04030201);
    closeSync(fd);
    arena.free();
  });

  it("costs no memory until it is touched", () => {
    const before = process.memoryUsage.rss();
    const arena = new Arena(2 ** 31);
    expect(arena.bytes.length).toBe(2 ** 31);
    arena.bytes[2 ** 30] = 1;
    expect(process.memoryUsage.rss() - before).toBeLessThan(2 ** 28);
    arena.free();
  });
});
