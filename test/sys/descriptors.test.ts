import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { afterEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK } from "../../src/sys/constants.ts";
import {
  addSeals,
  closeFd,
  createEventfd,
  createMemfd,
  drainEventfd,
  duplicate,
  fileSize,
  isHugetlb,
  isOpen,
  isWritable,
  resizeFile,
  sealsOf,
  signalEventfd,
} from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { isCloseOnExec, openDescriptors } from "./descriptor-facts.ts";

const closed = 19_999;
const opened: number[] = [];
const kept = (fd: number): number => {
  opened.push(fd);
  return fd;
};

afterEach(() => {
  for (const fd of opened.splice(0)) closeSync(fd);
});

describe("an eventfd", () => {
  it("counts signals and is empty after it was drained", () => {
    const fd = kept(createEventfd(3));
    expect(isCloseOnExec(fd)).toBe(true);
    expect([signalEventfd(fd), signalEventfd(fd)]).toEqual([8, 8]);
    expect(drainEventfd(fd)).toBe(5);
    expect(drainEventfd(fd)).toBe(0);
    expect(drainEventfd(fd)).toBe(0);
  });

  it("that is full says EAGAIN instead of blocking, and still says what it said", () => {
    const fd = kept(createEventfd(0xffff_ffff));
    const full = Buffer.alloc(8);
    full.writeBigUInt64LE(2n ** 64n - 2n - 0xffff_ffffn);
    expect(writeSync(fd, full)).toBe(8);
    expect(signalEventfd(fd)).toBe(-errno.EAGAIN);
    expect(drainEventfd(fd)).toBeGreaterThanOrEqual(2 ** 53);
    expect(signalEventfd(fd)).toBe(8);
    expect(drainEventfd(fd)).toBe(1);
  });

  it("that is closed is an errno", () => {
    expect(signalEventfd(closed)).toBe(-errno.EBADF);
    expect(drainEventfd(closed)).toBe(-errno.EBADF);
  });
});

describe("a memfd", () => {
  it("has its size, no content, and no life after exec", () => {
    const fd = kept(createMemfd("guest", 12_345));
    expect(fileSize(fd)).toBe(12_345);
    expect(isCloseOnExec(fd)).toBe(true);
    const bytes = new Uint8Array(16).fill(1);
    expect(readSync(fd, bytes, 0, 16, 0)).toBe(16);
    expect(bytes).toEqual(new Uint8Array(16));
  });

  it("may have more bytes than 32 bits count", () => {
    const fd = kept(createMemfd("large", 2 ** 43));
    expect(fileSize(fd)).toBe(2 ** 43);
    expect(resizeFile(fd, 2 ** 33 + 1)).toBe(0);
    expect(fileSize(fd)).toBe(2 ** 33 + 1);
  });

  it("that cannot have its size is an errno, and leaves no descriptor", () => {
    const before = openDescriptors();
    expect(createMemfd("guest", -1)).toBe(-errno.EINVAL);
    expect(openDescriptors()).toBe(before);
  });

  it("keeps to its seals", () => {
    const fd = kept(createMemfd("guest", 8192));
    expect(sealsOf(fd)).toBe(0);
    expect(addSeals(fd, F_SEAL_SHRINK)).toBe(0);
    expect(resizeFile(fd, 4096)).toBe(-errno.EPERM);
    expect(resizeFile(fd, 16_384)).toBe(0);
    expect(addSeals(fd, F_SEAL_GROW | F_SEAL_SEAL)).toBe(0);
    expect(resizeFile(fd, 32_768)).toBe(-errno.EPERM);
    expect(addSeals(fd, F_SEAL_SHRINK)).toBe(-errno.EPERM);
    expect(sealsOf(fd)).toBe(F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
  });
});

describe("a descriptor", () => {
  it("is duplicated to another of the same file, close-on-exec and above 2", () => {
    const fd = kept(createMemfd("guest", 4096));
    const other = kept(duplicate(fd));
    expect(other).toBeGreaterThan(2);
    expect(other).not.toBe(fd);
    expect(isCloseOnExec(other)).toBe(true);
    resizeFile(other, 100);
    expect(fileSize(fd)).toBe(100);
  });

  it("of something else than a regular file has no size", () => {
    const [one, other] = socketPair();
    kept(one);
    kept(other);
    expect(fileSize(kept(createEventfd()))).toBe(-errno.ENODEV);
    expect(fileSize(one)).toBe(-errno.ENODEV);
    expect(fileSize(kept(openSync("/dev/null", "r")))).toBe(-errno.ENODEV);
    expect(fileSize(kept(openSync(tmpdir(), "r")))).toBe(-errno.ENODEV);
  });

  it("is writable when it was opened for reading and writing", () => {
    const fd = kept(createMemfd("guest", 4096));
    const path = `/proc/self/fd/${fd}`;
    expect(isWritable(fd)).toBe(true);
    expect(isWritable(kept(openSync(path, "r")))).toBe(false);
    expect(isWritable(kept(openSync(path, "w")))).toBe(false);
    expect(isWritable(closed)).toBe(false);
  });

  it("of an ordinary file has no seals and is not of hugetlbfs", () => {
    const fd = kept(openSync(process.execPath, "r"));
    expect(sealsOf(fd)).toBe(-errno.EINVAL);
    expect(isHugetlb(fd)).toBe(false);
    expect(isHugetlb(closed)).toBe(false);
  });

  it("is open until it is closed; -1 is nothing to close", () => {
    const fd = createEventfd();
    expect(isOpen(fd)).toBe(true);
    closeFd(fd);
    expect(isOpen(fd)).toBe(false);
    const before = openDescriptors();
    closeFd(-1);
    expect(openDescriptors()).toBe(before);
  });

  it("that is closed is an errno everywhere", () => {
    const answers = [duplicate, fileSize, sealsOf].map((ask) => ask(closed));
    expect(answers).toEqual([-errno.EBADF, -errno.EBADF, -errno.EBADF]);
    expect(resizeFile(closed, 1)).toBe(-errno.EBADF);
    expect(addSeals(closed, F_SEAL_SHRINK)).toBe(-errno.EBADF);
  });
});
