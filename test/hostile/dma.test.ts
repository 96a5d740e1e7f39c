/** Clients that answer the server's DMA commands wrongly, late, never, or die meanwhile. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { RawClient, RawMessage } from "../../src/client/raw-client.ts";
import { deviceReset, dmaUnmap, joined, message } from "../../src/client/raw-requests.ts";
import {
  BenchDma,
  benchDma,
  benchResult,
  benchStatus,
  startBenchDma,
} from "../../src/conform/actions.ts";
import { type Context, ourCapabilities, pause } from "../../src/conform/context.ts";
import { acknowledgement, type Guest, parseDma, refusal } from "../../src/conform/guest.ts";
import type { Peer } from "../../src/conform/peer.ts";
import { Command, MessageType } from "../../src/spec/vfio-user.ts";
import { anyRequest, survivor, Victim } from "./victim.ts";

const server = survivor("bench", ["--set", "stateMiB=1"], 2);
const withTwin = { ...ourCapabilities, twin_socket: { supported: true } };
const sockets = [
  ["the main socket", ourCapabilities],
  ["the twin socket", withTwin],
] as const;
/** How long the server waits for the answer to a DMA command. */
const answerMs = 5000;

interface Waiting {
  readonly peer: Peer;
  readonly guest: Guest;
  /** The command that the device waits for. */
  readonly request: RawMessage;
  /** Where its answer goes. */
  readonly socket: RawClient;
}

/** A device that has asked for 64 bytes, which nobody has answered. */
function waiting(context: Context, capabilities: object, command: BenchDma): Waiting {
  const peer = context.open({ ...capabilities });
  const guest = context.guest();
  peer.done(guest.map(), 0);
  const seen: Array<{ request: RawMessage; socket: RawClient }> = [];
  peer.intercept = (request, socket) => {
    parseDma(request);
    seen.push({ request, socket });
  };
  startBenchDma(peer, command, guest.iova, 64);
  expect(peer.serveUntil(() => seen.length > 0)).toBe(true);
  peer.intercept = null;
  peer.guest = guest;
  const [first] = seen;
  if (first === undefined) throw new Error("the device asked for nothing");
  return { peer, guest, ...first };
}

/** The next DMA of the device works. */
function recovers({ peer, guest }: Waiting): void {
  expect(benchDma(peer, BenchDma.messageRead, guest.iova, 64)).toBe(0);
}

const { reply } = MessageType;

/** Replies that answer the command wrongly; each must end the device's DMA with an error. */
const wrong: ReadonlyArray<readonly [string, (request: RawMessage) => Uint8Array]> = [
  ["an error", (request) => refusal(request, errno.EIO)],
  ["an error that is no errno", (request) => refusal(request, 0xffff_ffff)],
  ["an error without a number", (request) => refusal(request, 0)],
  [
    "a header alone",
    ({ messageId, command }) =>
      message({ command, payload: new Uint8Array(0) }, { messageId, flags: reply }),
  ],
  ["too little data", (request) => acknowledgement(request, 0, 64, new Uint8Array(63))],
  ["too much data", (request) => acknowledgement(request, 0, 64, new Uint8Array(65))],
  ["far too much data", (request) => acknowledgement(request, 0, 64, new Uint8Array(1_000_000))],
  [
    "another command",
    ({ messageId }) => acknowledgement({ messageId, command: Command.dmaWrite }, 0, 64),
  ],
];

describe.each(sockets)("on %s", (_, capabilities) => {
  it.each(wrong)("%s ends the device's DMA with an error", (_name, answer) => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageRead);
    held.socket.send(answer(held.request));
    expect(benchResult(held.peer)).not.toBe(0);
    recovers(held);
  });

  it("an answer with another id is dropped, and the right one is still taken", () => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageRead);
    const { request, socket, guest, peer } = held;
    const right = guest.answer(request);
    for (const messageId of [request.messageId ^ 1, request.messageId ^ 0x8000]) {
      const { command } = request;
      socket.send(acknowledgement({ command, messageId }, 0, 64, new Uint8Array(64)));
    }
    expect(benchStatus(peer)).toBe(errno.EINPROGRESS);
    socket.send(right);
    expect(benchResult(peer)).toBe(0);
    recovers(held);
  });

  it("a second answer to the same command is dropped", () => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageRead);
    const right = held.guest.answer(held.request);
    held.socket.send(joined(right, right, right));
    expect(benchResult(held.peer)).toBe(0);
    recovers(held);
  });

  it("an answer byte by byte is taken", () => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageRead);
    held.socket.sendPieces([...held.guest.answer(held.request)].map((byte) => Uint8Array.of(byte)));
    expect(benchResult(held.peer)).toBe(0);
  });

  it("UNMAP ends it, and the late answer does no harm", () => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageFill);
    const { peer, guest, request, socket } = held;
    const right = guest.answer(request);
    peer.done(dmaUnmap({ address: guest.iova, size: guest.size }), 24);
    expect(benchResult(peer)).not.toBe(0);
    for (let i = 0; i < 3; i++) socket.send(right);
    peer.done(guest.map(), 0);
    recovers(held);
  });

  it("a reset ends it, and the late answer does no harm", () => {
    const held = waiting(server.victim.context(), capabilities, BenchDma.messageRead);
    held.peer.done(deviceReset(), 0);
    expect(benchStatus(held.peer)).toBe(0);
    held.socket.send(held.guest.answer(held.request));
    recovers(held);
  });

  it("a client that dies meanwhile leaves nothing", () => {
    for (const command of [BenchDma.messageRead, BenchDma.messageFill]) {
      const { peer } = waiting(server.victim.context(), capabilities, command);
      peer.close();
    }
  });

  it("a client that dies meanwhile leaves no command for the next one to answer", () => {
    const context = server.victim.context();
    waiting(context, capabilities, BenchDma.messageRead).peer.close();
    const next = context.open({ ...capabilities });
    for (let i = 0; i < 20; i++) next.done(anyRequest());
    expect(benchResult(next)).not.toBe(0);
  });

  it("memory that is not mapped is asked for by nobody", () => {
    const peer = server.victim.context().open({ ...capabilities });
    for (const command of [BenchDma.messageRead, BenchDma.messageFill]) {
      expect(benchDma(peer, command, 0x7000_0000, 64)).not.toBe(0);
    }
  });

  it("answers to nothing, in a flood, are dropped", () => {
    const context = server.victim.context();
    const peer = context.open({ ...capabilities });
    const socket = peer.twin ?? peer.client;
    for (let messageId = 0; messageId < 2000; messageId++) {
      for (const command of [Command.dmaRead, Command.dmaWrite]) {
        const answer = acknowledgement({ command, messageId }, 0, 64, new Uint8Array(64));
        if (socket.send(answer, [], peer.twin === null ? 1000 : 0) !== answer.length) break;
      }
    }
    if (peer.twin === null) peer.done(anyRequest());
    else server.victim.use(1);
  });
});

describe("a command that is never answered", () => {
  it("ends after a while with ETIMEDOUT; requests are served meanwhile and afterwards", () => {
    const held = waiting(server.victim.context(), ourCapabilities, BenchDma.messageRead);
    const { peer, guest, request, socket } = held;
    for (let waitedMs = 0; waitedMs < answerMs; waitedMs += 500) {
      peer.done(anyRequest());
      server.victim.use(1);
      pause(500);
    }
    peer.done(anyRequest());
    expect(benchResult(peer)).toBe(errno.ETIMEDOUT);
    socket.send(guest.answer(request));
    recovers(held);
  });

  it("does not keep the server from ending in order", async () => {
    const victim = await Victim.start("bench", ["--set", "stateMiB=0"]);
    waiting(victim.context(), withTwin, BenchDma.messageRead);
    expect(await victim.stop()).toBe(0);
    await victim.end();
  });
});

describe("the twin socket", () => {
  it("that the client closes fails the DMA that is under way, and requests are served", () => {
    const { peer } = waiting(server.victim.context(), withTwin, BenchDma.messageRead);
    peer.dropTwin();
    expect(benchResult(peer)).not.toBe(0);
    peer.done(anyRequest());
  });

  it("that brings noise instead of answers harms nobody", () => {
    const context = server.victim.context();
    const { peer, socket } = waiting(context, withTwin, BenchDma.messageRead);
    const noise = [
      new Uint8Array(16),
      message({ command: 4, payload: new Uint8Array(16) }),
      message(anyRequest()),
      message({ command: 11, payload: new Uint8Array(0) }, { messageSize: 0xffff_ffff, flags: 1 }),
      new Uint8Array(100_000).fill(0xff),
    ];
    for (const bytes of noise) socket.send(bytes, [], 500);
    for (let i = 0; i < 50; i++) peer.done(anyRequest());
    server.victim.use(1);
  });

  it("that is never read does not stop requests on the main socket", () => {
    const context = server.victim.context();
    const small = { ...withTwin, max_data_xfer_size: 64 };
    const peer = context.open(small);
    const guest = context.guest();
    peer.done(guest.map(), 0);
    peer.intercept = () => {};
    startBenchDma(peer, BenchDma.messageFill, guest.iova, guest.size);
    for (let i = 0; i < 200; i++) peer.done(anyRequest());
  });
});
