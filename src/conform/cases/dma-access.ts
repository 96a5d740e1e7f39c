import { errno } from "../../base/errno.ts";
import type { RawClient, RawMessage } from "../../client/raw-client.ts";
import { deviceGetInfo, dmaUnmap } from "../../client/raw-requests.ts";
import { DeviceInfo } from "../../spec/vfio.ts";
import { Command, DmaMapFlags, RegionAccess } from "../../spec/vfio-user.ts";
import {
  BenchDma,
  benchDma,
  benchFirstByte,
  benchResult,
  echo,
  echoResult,
  read32,
  startBenchDma,
  startEcho,
} from "../actions.ts";
import { casesOf, Mismatch } from "../case.ts";
import { type Context, ourCapabilities } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { acknowledgement, type Guest, parseDma, refusal } from "../guest.ts";
import { bench, hello } from "../offer.ts";
import type { Peer } from "../peer.ts";

const page = 4096;
const ours = { ...ourCapabilities, twin_socket: { supported: true } };

/** A client with guest memory that the server reaches by messages only. */
function byMessages(context: Context, capabilities: Record<string, unknown> = ourCapabilities) {
  const peer = context.open(capabilities);
  const guest = context.guest();
  peer.done(guest.map(), 0);
  peer.guest = guest;
  return { peer, guest };
}

/** The commands cover a range once, in order, and none is larger than `most`. */
function expectCover(guest: Guest, command: number, at: number, length: number, most: number) {
  const pieces = guest.commands.filter((each) => each.command === command);
  let next = at;
  for (const { address, count } of pieces.toSorted((a, b) => a.address - b.address)) {
    expectEqual("address of the next piece", address, next);
    expectThat(count > 0 && count <= most, `a count up to ${most}`, count);
    next += count;
  }
  expectEqual("end of the last piece", next, at + length);
}

/** Lets the hello device copy, on the main socket or on the twin, and checks every command. */
function copies(context: Context, capabilities: Record<string, unknown>, twin: boolean): void {
  const { peer, guest } = byMessages(context, capabilities);
  expectEqual("twin socket", peer.twin !== null, twin);
  for (const length of [1, 64, page, 3 * page + 5]) {
    guest.commands.length = 0;
    const bytes = guest.pattern(3, length);
    const target = guest.iova + 8 * page;
    expectEqual("status", echo(peer, { source: guest.iova + 3, target, length }), 0);
    expectBytes("copy", guest.read(8 * page, length), bytes);
    expectCover(guest, Command.dmaRead, guest.iova + 3, length, 1_048_576);
    expectCover(guest, Command.dmaWrite, target, length, 1_048_576);
  }
}

/** Starts a DMA of the bench device and keeps the server's first command unanswered. */
function held(context: Context, peer: Peer, guest: Guest): { request: RawMessage; on: RawClient } {
  const found: Array<{ request: RawMessage; on: RawClient }> = [];
  peer.intercept = (request, on) => {
    parseDma(request);
    found.push({ request, on });
  };
  startBenchDma(peer, BenchDma.messageRead, guest.iova, 64);
  peer.serveUntil(() => found.length > 0);
  const [first] = found;
  if (first === undefined) throw new Mismatch("a DMA_READ", `nothing in ${context.timeoutMs} ms`);
  return first;
}

/** Answers the device's read with `reply`; its status must then say an error. */
function failsWith(context: Context, reply: (request: RawMessage) => Uint8Array): number {
  const { peer, guest } = byMessages(context);
  const { request, on } = held(context, peer, guest);
  on.send(reply(request));
  peer.intercept = null;
  const status = benchResult(peer);
  expectThat(status !== 0, "a DMA that failed", status);
  peer.usable();
  expectEqual("status of the next DMA", benchDma(peer, BenchDma.messageRead, guest.iova, 64), 0);
  return status;
}

export const cases = casesOf(
  "dma-access",
  "VFIO_USER_DMA_READ",
  [],
  [
    {
      id: "read",
      title: "a device reads memory without a file by DMA_READ",
      needs: [bench],
      run(context) {
        const { peer, guest } = byMessages(context);
        guest.fill(page, 64, 0x3c);
        const at = guest.iova + page;
        expectEqual("status", benchDma(peer, BenchDma.messageRead, at, 64), 0);
        expectEqual("first byte that the device read", benchFirstByte(peer), 0x3c);
        expectEqual("commands", guest.commands.length, 1);
        expectCover(guest, Command.dmaRead, at, 64, 64);
      },
    },
    {
      id: "write",
      section: "VFIO_USER_DMA_WRITE",
      title: "a device writes memory without a file by DMA_WRITE",
      needs: [bench],
      run(context) {
        const { peer, guest } = byMessages(context);
        guest.fill(0, 3 * page, 0x11);
        const at = guest.iova + page;
        expectEqual("status", benchDma(peer, BenchDma.messageFill, at, 64), 0);
        const bytes = guest.read(page, 64);
        expectThat(bytes[0] !== 0x11, "bytes that the device wrote", bytes[0]);
        expectBytes("64 bytes", bytes, new Uint8Array(64).fill(bytes[0] ?? 0));
        expectEqual("byte in front", guest.read(page - 1, 1)[0], 0x11);
        expectEqual("byte behind", guest.read(page + 64, 1)[0], 0x11);
        expectCover(guest, Command.dmaWrite, at, 64, 64);
      },
    },
    {
      id: "not-mapped",
      title: "nothing is asked of memory that the client has not mapped, or not for this access",
      needs: [bench],
      run(context) {
        const peer = context.open();
        const guest = context.guest();
        peer.guest = guest;
        const { read, write } = DmaMapFlags.mask;
        for (const how of [BenchDma.messageRead, BenchDma.messageFill]) {
          expectThat(benchDma(peer, how, guest.iova, 64) !== 0, "a DMA that failed", 0);
        }
        peer.done(guest.map(0, page, read), 0);
        peer.done(guest.map(page, page, write), 0);
        const fill = benchDma(peer, BenchDma.messageFill, guest.iova, 64);
        expectThat(fill !== 0, "a refused write to memory for reading", 0);
        const status = benchDma(peer, BenchDma.messageRead, guest.iova + page, 64);
        expectThat(status !== 0, "a refused read of memory for writing", 0);
        expectEqual("commands of the server", guest.commands.length, 0);
      },
    },
    {
      id: "chunks",
      section: "Message sizes",
      title: "no command asks for more than the client's max_data_xfer_size",
      needs: [bench],
      run(context) {
        const small = { ...ourCapabilities, max_data_xfer_size: page };
        const { peer, guest } = byMessages(context, small);
        const length = 2 * page + 42;
        for (const [how, command] of [
          [BenchDma.messageRead, Command.dmaRead],
          [BenchDma.messageFill, Command.dmaWrite],
        ] as const) {
          guest.commands.length = 0;
          expectEqual("status", benchDma(peer, how, guest.iova, length), 0);
          expectCover(guest, command, guest.iova, length, page);
        }
      },
    },
    {
      id: "many",
      title: "more pieces than a server sends at once arrive all",
      needs: [bench],
      run(context) {
        const small = { ...ourCapabilities, max_data_xfer_size: 16 };
        const { peer, guest } = byMessages(context, small);
        expectEqual("status", benchDma(peer, BenchDma.messageFill, guest.iova, 2 * page), 0);
        expectCover(guest, Command.dmaWrite, guest.iova, 2 * page, 16);
      },
    },
    {
      id: "echo",
      title: "a device copies memory without a file on the main socket",
      needs: [hello],
      run: (context) => copies(context, ourCapabilities, false),
    },
    {
      id: "echo-twin",
      section: "VFIO_USER_VERSION",
      title: "with a twin socket every command of the server comes on it",
      needs: [hello, ({ limits }) => (limits.maxMsgFds > 0 ? null : "the server takes no fds")],
      run: (context) => copies(context, ours, true),
    },
    {
      id: "mapped",
      title: "memory with a file is reached without messages",
      needs: [hello],
      run(context) {
        const peer = context.open(ours);
        const guest = context.guest();
        peer.guest = guest;
        const { read, write, mmap, fileIo } = DmaMapFlags.mask;
        for (const how of [0, mmap, fileIo, mmap | fileIo]) {
          peer.done(guest.map(0, guest.size, read | write | how), 0, [guest.fd]);
          const target = guest.iova + page;
          expectEqual("status", echo(peer, { source: guest.iova, target, length: page }), 0);
          peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
        }
        expectEqual("commands of the server", guest.commands.length, 0);
      },
    },
    {
      id: "error",
      title: "a client's error is the device's error, and nothing else breaks",
      needs: [bench],
      run(context) {
        const status = failsWith(context, (request) => refusal(request, errno.EIO));
        expectEqual("status", status, errno.EIO);
      },
    },
    {
      id: "error-zero",
      section: "Header",
      title: "an error without a number fails the device's DMA too",
      needs: [bench],
      run(context) {
        failsWith(context, (request) => refusal(request, 0));
      },
    },
    {
      id: "short-reply",
      title: "a reply with less data than was asked for fails the device's DMA",
      needs: [bench],
      run(context) {
        failsWith(context, (request) => {
          const { address, count } = parseDma(request);
          return acknowledgement(request, address, count, new Uint8Array(count - 1));
        });
      },
    },
    {
      id: "main-goes-on",
      section: "Socket",
      title: "requests are served while a command on the twin socket waits for its answer",
      needs: [bench],
      run(context) {
        const { peer, guest } = byMessages(context, ours);
        const { request, on } = held(context, peer, guest);
        peer.done(deviceGetInfo(), DeviceInfo.size);
        on.send(guest.answer(request));
        peer.intercept = null;
        expectEqual("status", benchResult(peer), 0);
      },
    },
    {
      id: "interleaved",
      section: "Command Concurrency",
      title: "requests are served while a command on the main socket waits for its answer",
      needs: [bench],
      run(context) {
        const { peer, guest } = byMessages(context);
        const { request, on } = held(context, peer, guest);
        for (let i = 0; i < 20; i++) peer.done(deviceGetInfo(), DeviceInfo.size);
        on.send(guest.answer(request));
        peer.intercept = null;
        expectEqual("status", benchResult(peer), 0);
      },
    },
    {
      id: "unmap-ends-it",
      section: "VFIO_USER_DMA_UNMAP",
      title: "an unmapping ends the DMA that is under way, and a late answer to it does no harm",
      needs: [bench],
      run(context) {
        const { peer, guest } = byMessages(context);
        const { request, on } = held(context, peer, guest);
        peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
        peer.intercept = null;
        expectThat(benchResult(peer) !== 0, "a DMA that failed", 0);
        on.send(guest.answer(request));
        peer.usable();
        peer.done(guest.map(), 0);
        const status = benchDma(peer, BenchDma.messageRead, guest.iova, 64);
        expectEqual("status of the next DMA", status, 0);
      },
    },
    {
      id: "reply-before-dma",
      section: "Read and Write Operations",
      title: "the write that starts a DMA is answered before the DMA needs the client",
      needs: [hello],
      run(context) {
        const { peer, guest } = byMessages(context);
        const seen: RawMessage[] = [];
        peer.intercept = (request) => seen.push(request);
        startEcho(peer, { source: guest.iova, target: guest.iova + page, length: 64 });
        read32(peer, 0, 0);
        peer.serveUntil(() => seen.length > 0);
        peer.intercept = null;
        for (const request of seen) peer.sendBytes(guest.answer(request));
        expectEqual("status", echoResult(peer), 0);
        expectEqual("bytes of an answer", RegionAccess.size, 16);
      },
    },
  ],
);
