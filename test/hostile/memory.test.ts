/** Files that are not what a client says they are, given to DMA_MAP. */
import { openSync, readSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { dmaMap, dmaUnmap, with64 } from "../../src/client/raw-requests.ts";
import { BenchDma, benchDma } from "../../src/conform/actions.ts";
import type { Context } from "../../src/conform/context.ts";
import { parseDma, refusal } from "../../src/conform/guest.ts";
import type { Peer } from "../../src/conform/peer.ts";
import { DmaMap, DmaMapFlags, HeaderFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, createMemfd, resizeFile } from "../../src/sys/descriptors.ts";
import { survivor } from "./victim.ts";

const page = 4096;
const { read, write, mmap, fileIo } = DmaMapFlags.mask;
const everyWay = [0, mmap, fileIo, mmap | fileIo].map((how) => read | write | how);
const server = survivor("bench", ["--set", "stateMiB=1"]);

/** An anonymous file of its own for the test, unsealed. */
function file(context: Context, size: number): number {
  const fd = createMemfd("hostile", size);
  context.keep({ close: () => closeFd(fd) });
  return fd;
}

/** Lets the device read and fill the range; the server's own commands are refused. */
function useMemory(peer: Peer, address: number, length: number): number[] {
  peer.intercept = (request, socket) => {
    parseDma(request);
    socket.send(refusal(request, errno.EFAULT));
  };
  return Object.values(BenchDma).map((command) => benchDma(peer, command, address, length));
}

/** Maps a file in one way, lets the device use it all, and takes it away if it was taken. */
function abuse(peer: Peer, fd: number, size: number, flags: number, offset = 0): boolean {
  const reply = peer.ask(dmaMap({ address: page, size, offset, flags }), [fd]);
  const taken = (reply.flags & HeaderFlags.mask.error) === 0;
  if (taken) {
    useMemory(peer, page, Math.min(size, 16 << 20));
    useMemory(peer, page + size - page, page);
    peer.done(dmaUnmap({ address: page, size }));
  }
  peer.usable();
  return taken;
}

describe("a file that is too short", () => {
  it("for its mapping from the start is refused or read with an error", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, page);
    for (const flags of everyWay) {
      abuse(peer, fd, 4 * page, flags);
      abuse(peer, fd, 2 ** 40, flags);
    }
  });

  it("because the mapping starts behind its end is refused or read with an error", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, 4 * page);
    for (const flags of everyWay) {
      for (const offset of [page, 4 * page, 2 ** 40, 2 ** 52]) {
        abuse(peer, fd, 4 * page, flags, offset);
      }
    }
  });

  it("and has no byte at all is refused or read with an error", () => {
    const context = server.victim.context();
    const peer = context.open();
    for (const flags of everyWay) abuse(peer, file(context, 0), page, flags);
  });
});

describe("a file that shrinks while it is mapped", () => {
  it.each(everyWay)("does not kill the server (flags %i)", (flags) => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, 16 * page);
    peer.done(dmaMap({ address: page, size: 16 * page, flags }), 0, [fd]);
    expect(benchDma(peer, BenchDma.mappedFill, page, 16 * page)).toBe(0);
    resizeFile(fd, page);
    useMemory(peer, page, 16 * page);
    resizeFile(fd, 0);
    useMemory(peer, page, 16 * page);
    resizeFile(fd, 16 * page);
    expect(benchDma(peer, BenchDma.mappedFill, page, 16 * page)).toBe(0);
    peer.done(dmaUnmap({ address: page, size: 16 * page }));
  });
});

describe("a descriptor that is no memory", () => {
  it.each(["/dev/null", "/dev/zero", "/dev/urandom", "/proc/self/stat", "/", "/proc/self/mem"])(
    "such as %s is refused or fails to be read",
    (path) => {
      const context = server.victim.context();
      const peer = context.open();
      const fd = openSync(path, "r");
      for (const flags of everyWay) abuse(peer, fd, 4 * page, flags);
      closeFd(fd);
    },
  );

  it("such as an eventfd or the connection itself is refused", () => {
    const context = server.victim.context();
    const peer = context.open();
    for (const fd of [context.eventfd(3), peer.client.fd]) {
      for (const flags of everyWay) abuse(peer, fd, 4 * page, flags);
    }
  });

  it("such as a file for reading only is never written", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, 4 * page);
    const readOnly = openSync(`/proc/self/fd/${fd}`, "r");
    for (const flags of everyWay) abuse(peer, readOnly, 4 * page, flags);
    const bytes = new Uint8Array(4 * page);
    readSync(fd, bytes, 0, bytes.length, 0);
    expect(bytes.every((byte) => byte === 0)).toBe(true);
    closeFd(readOnly);
  });
});

describe("numbers of a mapping", () => {
  it("that are not whole pages are taken or refused, and used without harm", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, 16 * page);
    for (const [address, size, offset] of [
      [1, page, 0],
      [page, 1, 0],
      [page, page + 1, 0],
      [page, page, 1],
      [page, page, 2049],
      [3, 5, 7],
    ] as const) {
      const reply = peer.ask(dmaMap({ address, size, offset }), [fd]);
      useMemory(peer, address, size);
      if ((reply.flags & HeaderFlags.mask.error) === 0) {
        peer.done(dmaUnmap({ address, size }));
      }
    }
  });

  it("that are nearly 2^64 are refused, with and without a file", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, 16 * page);
    const huge = [2n ** 53n, 2n ** 63n, 2n ** 64n - 4096n, 2n ** 64n - 1n];
    for (const field of ["offset", "address", "size"] as const) {
      for (const value of huge) {
        const request = with64(dmaMap({ address: page, size: page }), DmaMap.offset[field], value);
        const reply = peer.ask(request, [fd]);
        expect(reply.flags & HeaderFlags.mask.error, `${field} ${value}`).not.toBe(0);
        if (field === "offset") continue;
        const without = peer.ask(request);
        expect(without.flags & HeaderFlags.mask.error, `${field} ${value}`).not.toBe(0);
      }
    }
  });

  it("the same file a thousand times, and the client dies with all of them", () => {
    const context = server.victim.context();
    const peer = context.open();
    const fd = file(context, page);
    for (let i = 0; i < 1000; i++) {
      peer.post(dmaMap({ address: i * page, size: page }), [fd]);
    }
    for (let i = 0; i < 1000; i++) peer.receive();
    peer.close();
  });

  it("a thousand files, until the server has no descriptors or refuses, and it goes on", () => {
    const context = server.victim.context();
    const peer = context.open();
    let taken = 0;
    for (let i = 0; i < 1000; i++) {
      const fd = createMemfd("hostile", page);
      const reply = peer.ask(dmaMap({ address: i * page, size: page }), [fd]);
      closeFd(fd);
      if ((reply.flags & HeaderFlags.mask.error) === 0) taken += 1;
    }
    expect(taken).toBeGreaterThan(100);
    peer.usable();
  });
});
