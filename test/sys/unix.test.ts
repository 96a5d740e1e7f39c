import { closeSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { FerryError } from "../../src/base/errors.ts";
import { Arena } from "../../src/sys/arena.ts";
import { read, write } from "../../src/sys/libc.ts";
import {
  acceptUnix,
  connectUnix,
  listenUnix,
  pathBytesMax,
  peerProcess,
  setNonBlocking,
  shutdownSocket,
  socketPair,
} from "../../src/sys/unix.ts";
import { isCloseOnExec, openDescriptors } from "./descriptor-facts.ts";

const arena = new Arena(4096);
const noFd = -1;

describe("a unix socket by path", () => {
  let folder: string;
  let path: string;
  let descriptors: number;
  const opened: number[] = [];

  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), "ferry-"));
    path = join(folder, "socket");
    descriptors = openDescriptors();
  });

  afterEach(() => {
    for (const fd of opened.splice(0)) closeSync(fd);
    expect(openDescriptors(), "descriptors that stayed open").toBe(descriptors);
    rmSync(folder, { recursive: true });
  });

  const kept = (fd: number): number => {
    if (fd > noFd) opened.push(fd);
    return fd;
  };

  const codeOf = (listen: () => unknown): string => {
    try {
      listen();
    } catch (thrown) {
      if (thrown instanceof FerryError) return thrown.code;
      throw thrown;
    }
    return "none";
  };

  it("connects two ends that hear each other", () => {
    const listener = kept(listenUnix(path, 1));
    const client = kept(connectUnix(path));
    const server = kept(acceptUnix(listener));
    expect([listener, client, server].map(isCloseOnExec)).toEqual([true, true, true]);
    arena.bytes[0] = 42;
    expect(write(client, arena.address, 1)).toBe(1);
    expect(read(server, arena.address + 8, 8)).toBe(1);
    expect(arena.bytes[8]).toBe(42);
    expect(peerProcess(server)).toBe(process.pid);
  });

  it("does not block in accept, and takes every connection in turn", () => {
    const listener = kept(listenUnix(path, 4));
    expect(acceptUnix(listener)).toBe(-errno.EAGAIN);
    kept(connectUnix(path));
    kept(connectUnix(path));
    expect([kept(acceptUnix(listener)) > 0, kept(acceptUnix(listener)) > 0]).toEqual([true, true]);
    expect(acceptUnix(listener)).toBe(-errno.EAGAIN);
  });

  it("replaces the file of a process that died", () => {
    closeSync(listenUnix(path, 1));
    expect(existsSync(path)).toBe(true);
    expect(connectUnix(path)).toBe(-errno.ECONNREFUSED);
    const listener = kept(listenUnix(path, 1));
    expect(kept(connectUnix(path))).toBeGreaterThan(0);
    expect(kept(acceptUnix(listener))).toBeGreaterThan(0);
  });

  it("does not take the path of a process that lives", () => {
    const listener = kept(listenUnix(path, 4));
    expect(codeOf(() => listenUnix(path, 4))).toBe("socket-in-use");
    expect(kept(connectUnix(path))).toBeGreaterThan(0);
    // The first is what the question "is anybody there?" left behind.
    expect(kept(acceptUnix(listener))).toBeGreaterThan(0);
    expect(kept(acceptUnix(listener))).toBeGreaterThan(0);
  });

  it("does not touch what is not a socket", () => {
    writeFileSync(path, "precious");
    expect(codeOf(() => listenUnix(path, 1))).toBe("not-a-socket");
    expect(existsSync(path)).toBe(true);
    const link = join(folder, "link");
    symlinkSync(path, link);
    expect(codeOf(() => listenUnix(link, 1))).toBe("not-a-socket");
    expect(codeOf(() => listenUnix(folder, 1))).toBe("not-a-socket");
  });

  it("says so when it cannot listen, and leaves no descriptor", () => {
    expect(codeOf(() => listenUnix(join(folder, "missing", "socket"), 1))).toBe("cannot-bind");
    const dangling = join(folder, "dangling");
    symlinkSync(join(folder, "nowhere"), dangling);
    expect(codeOf(() => listenUnix(dangling, 1))).toBe("cannot-bind");
  });

  it("answers an errno when nobody is there", () => {
    expect(connectUnix(path)).toBe(-errno.ENOENT);
    writeFileSync(path, "");
    expect(connectUnix(path)).toBe(-errno.ECONNREFUSED);
  });

  it("has a path of at most 107 bytes, not characters", () => {
    const fits = join(folder, "x".repeat(pathBytesMax - folder.length - 1));
    expect(fits.length).toBe(pathBytesMax);
    const listener = kept(listenUnix(fits, 1));
    expect(existsSync(fits)).toBe(true);
    expect(kept(connectUnix(fits))).toBeGreaterThan(0);
    expect(kept(acceptUnix(listener))).toBeGreaterThan(0);
    for (const long of [`${fits}x`, `${fits.slice(0, -1)}ä`]) {
      expect(codeOf(() => listenUnix(long, 1))).toBe("path-too-long");
      expect(codeOf(() => connectUnix(long))).toBe("path-too-long");
    }
  });

  it("forgets a long path when a short one follows", () => {
    const long = kept(listenUnix(`${path}-with-a-longer-name`, 1));
    const short = kept(listenUnix(path, 1));
    expect(kept(connectUnix(path))).toBeGreaterThan(0);
    expect(acceptUnix(long)).toBe(-errno.EAGAIN);
    expect(kept(acceptUnix(short))).toBeGreaterThan(0);
  });

  it("stops to accept when it is shut down", () => {
    const listener = kept(listenUnix(path, 1));
    expect(shutdownSocket(listener)).toBe(0);
    expect(connectUnix(path)).toBe(-errno.ECONNREFUSED);
    setNonBlocking(listener, false);
    expect(acceptUnix(listener)).toBe(-errno.EINVAL);
  });

  it("waits or does not wait, as it was told last", () => {
    const [one, other] = socketPair();
    kept(one);
    kept(other);
    setNonBlocking(one, true);
    expect(read(one, arena.address, 8)).toBe(-errno.EAGAIN);
    write(other, arena.address, 3);
    setNonBlocking(one, false);
    expect(read(one, arena.address, 8)).toBe(3);
    shutdownSocket(other);
    expect(read(one, arena.address, 8)).toBe(0);
  });

  it("knows no process behind something that is no socket", () => {
    expect(peerProcess(19_999)).toBe(0);
  });
});
