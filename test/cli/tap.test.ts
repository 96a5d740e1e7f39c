/** What stands between a client and a server: everything must come out as it went in. */
import { join } from "node:path";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { SeenMessage } from "../../src/cli/tracing/message-meter.ts";
import { Tap } from "../../src/cli/tracing/tap.ts";
import { laneBytes } from "../../src/cli/tracing/tap-lane.ts";
import { placesPerSession, TapSession } from "../../src/cli/tracing/tap-session.ts";
import type { TraceLog } from "../../src/cli/tracing/trace-log.ts";
import { Command, Header } from "../../src/spec/vfio-user.ts";
import { closeFd, createMemfd, fileSize } from "../../src/sys/descriptors.ts";
import { PollSet } from "../../src/sys/poll.ts";
import { acceptUnix, connectUnix, listenUnix, socketPair } from "../../src/sys/unix.ts";
import { formatVersion } from "../../src/wire/negotiate.ts";
import { encode, openFds, Puppet, serverLimits } from "../client/fake-server.ts";
import { temporaryFolder, until } from "../support/ferry.ts";
import { End } from "./end.ts";

interface Witnessed {
  readonly socket: string;
  readonly to: string;
  readonly command: number;
  readonly size: number;
  readonly fdCount: number;
}

/** A session between two ends of ours, moved by hand. */
class Bench {
  readonly client: End;
  readonly server: End;
  readonly session: TapSession;
  readonly seen: Witnessed[] = [];
  readonly #poll = new PollSet(placesPerSession);

  constructor() {
    const [clientFd, tapClient] = socketPair();
    const [serverFd, tapServer] = socketPair();
    this.client = new End(clientFd);
    this.server = new End(serverFd);
    const witness = (socket: string, to: string, message: SeenMessage): void => {
      const { bytes, size, fdCount } = message;
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
      const command = bytes.length < Header.size ? -1 : view.getUint16(2, true);
      this.seen.push({ socket, to, command, size, fdCount });
    };
    this.session = new TapSession(1, tapClient, tapServer, witness);
  }

  /** Moves what can be moved; true when something was. */
  step(): boolean {
    this.#poll.clear();
    this.session.watch(this.#poll);
    const ready = this.#poll.wait(0);
    if (ready > 0) this.session.step(this.#poll);
    return ready > 0;
  }

  /** Moves everything that can be moved while the ends take what comes. */
  settle(...ends: readonly End[]): void {
    let moved = true;
    while (moved) {
      moved = !this.session.isOver && this.step();
      for (const end of ends) moved = end.take() || moved;
    }
  }

  close(): void {
    this.session.close();
    this.client.close();
    this.server.close();
  }
}

/** Messages of random sizes, some with descriptors, cut into random pieces. */
const conversation = fc.array(
  fc.record({
    size: fc.oneof(fc.nat(64), fc.nat(3000), fc.constantFrom(100_000, laneBytes + 17, 1_048_576)),
    fds: fc.oneof(fc.constant(0), fc.nat(3)),
  }),
  { minLength: 1, maxLength: 12 },
);

/** Sends messages with memfds whose sizes count up; says where in the stream they belong. */
function queueAll(end: End, messages: ReadonlyArray<{ size: number; fds: number }>): number[] {
  let memfds = 0;
  let position = 0;
  const places: number[] = [];
  for (const [id, { size, fds }] of messages.entries()) {
    const payload = Uint8Array.from({ length: size }, (_, i) => (i * 7 + id) & 255);
    const bytes = encode({ id, command: Command.regionWrite, payload, isCommand: true });
    const carried = Array.from({ length: fds }, () => createMemfd("carried", ++memfds * 4096));
    end.queue(bytes, carried);
    for (let i = 0; i < fds; i++) places.push(position);
    position += bytes.length;
  }
  return places;
}

describe("a tap", () => {
  it("passes any conversation on, byte for byte, with descriptors at their message", () => {
    fc.assert(
      fc.property(conversation, conversation, (requests, answers) => {
        const before = openFds();
        const bench = new Bench();
        const { client, server } = bench;
        const toServer = queueAll(client, requests);
        const toClient = queueAll(server, answers);
        bench.settle(client, server);
        expect(server.received().equals(client.sent())).toBe(true);
        expect(client.received().equals(server.sent())).toBe(true);
        expect(server.fds.map(({ place }) => place)).toEqual(toServer);
        expect(client.fds.map(({ place }) => place)).toEqual(toClient);
        for (const end of [client, server]) {
          const sizes = end.fds.map(({ fd }) => fileSize(fd));
          expect(sizes).toEqual(sizes.map((_, i) => (i + 1) * 4096));
        }
        const sizes = bench.seen.filter(({ to }) => to === "server").map(({ size }) => size);
        expect(sizes).toEqual(requests.map(({ size }) => size + Header.size));
        const counts = bench.seen.filter(({ to }) => to === "client").map((each) => each.fdCount);
        expect(counts).toEqual(answers.map(({ fds }) => fds));
        bench.close();
        expect(openFds()).toBe(before);
      }),
      { numRuns: 30 },
    );
  });

  it("holds a header until it is whole, and then sends it in one piece", () => {
    const bench = new Bench();
    const bytes = encode({ id: 1, command: Command.deviceReset, isCommand: true });
    for (const [i, byte] of bytes.entries()) {
      bench.client.queue(Uint8Array.of(byte), []);
      bench.settle(bench.client, bench.server);
      expect(bench.server.received().length).toBe(i === Header.size - 1 ? Header.size : 0);
    }
    expect(bench.seen).toHaveLength(1);
    bench.close();
  });

  it("sends a body on before all of it is there", () => {
    const bench = new Bench();
    const payload = new Uint8Array(1000);
    const bytes = encode({ id: 1, command: Command.regionWrite, payload, isCommand: true });
    bench.client.queue(bytes.subarray(0, 300), []);
    bench.settle(bench.client, bench.server);
    expect(bench.server.received().length).toBe(300);
    expect(bench.seen).toEqual([]);
    bench.close();
  });

  it("keeps no more than a lane's bytes of a sender whose receiver does not read", () => {
    const bench = new Bench();
    const payload = new Uint8Array(8 * 1024 * 1024);
    const bytes = encode({ id: 1, command: Command.regionWrite, payload, isCommand: true });
    bench.client.queue(bytes, []);
    bench.settle(bench.client);
    const accepted = bench.client.sent().length - bench.client.unsent;
    expect(bench.client.unsent).toBeGreaterThan(0);
    expect(accepted).toBeLessThan(laneBytes + 2 * 1024 * 1024);
    bench.settle(bench.client, bench.server);
    expect(bench.server.received().equals(bench.client.sent())).toBe(true);
    bench.close();
  });

  it("a full lane one way does not hold up the other way", () => {
    const bench = new Bench();
    const payload = new Uint8Array(4 * 1024 * 1024);
    const request = encode({ id: 1, command: Command.regionWrite, payload, isCommand: true });
    bench.client.queue(request, []);
    bench.settle(bench.client);
    bench.server.queue(encode({ id: 9, command: Command.regionRead }), []);
    bench.settle(bench.server, bench.client);
    expect(bench.client.received().length).toBe(Header.size);
    bench.close();
  });

  it("rest in peace: what was said before a hang-up is delivered, then the other side ends", () => {
    for (const who of ["client", "server"] as const) {
      const before = openFds();
      const bench = new Bench();
      const other = who === "client" ? "server" : "client";
      bench[who].queue(encode({ id: 1, command: Command.deviceReset }), [createMemfd("x", 4096)]);
      bench[who].take();
      bench[who].hangUp();
      bench.settle(bench[other]);
      expect(bench.session.isOver).toBe(true);
      bench.session.close();
      bench[other].take();
      expect(bench[other].received().length).toBe(Header.size);
      expect(bench[other].fds).toHaveLength(1);
      expect(bench[other].isEnded).toBe(true);
      bench[other].close();
      expect(openFds()).toBe(before);
    }
  });

  it("a message that is cut by a hang-up is witnessed as far as it came", () => {
    const bench = new Bench();
    bench.client.queue(encode({ id: 1, command: Command.dmaMap, size: 500 }), []);
    bench.client.queue(Uint8Array.of(1, 2, 3), []);
    bench.client.take();
    bench.client.hangUp();
    bench.settle(bench.server);
    expect(bench.seen).toMatchObject([{ command: Command.dmaMap, size: Header.size + 3 }]);
    bench.session.close();
    bench.server.close();
  });
});

describe("the twin socket", () => {
  it("is replaced by one that is witnessed too", () => {
    const before = openFds();
    const bench = new Bench();
    const [serverTwin, given] = socketPair();
    const limits = { ...serverLimits, twinSocket: true };
    const version = formatVersion(1, limits, { twinFdIndex: 1 });
    const other = createMemfd("first", 4096);
    const reply = encode({ id: 1, command: Command.version, payload: version });
    bench.server.queue(reply.subarray(0, 20), [other, given]);
    bench.settle(bench.server, bench.client);
    expect(bench.client.received().length).toBe(0);
    bench.server.queue(reply.subarray(20), []);
    bench.settle(bench.server, bench.client);
    expect(bench.client.received().equals(bench.server.sent())).toBe(true);
    expect(fileSize(bench.client.fds[0]?.fd ?? -1)).toBe(4096);
    const mine = new Puppet(bench.client.takeFd(1));
    const theirs = new Puppet(serverTwin);
    theirs.command(5, Command.dmaRead, new Uint8Array(16));
    bench.settle();
    expect(mine.heard()).toMatchObject([{ id: 5, command: Command.dmaRead }]);
    mine.reply(5, Command.dmaRead, new Uint8Array(20));
    bench.settle();
    expect(theirs.heard()).toMatchObject([{ id: 5, flags: 1 }]);
    expect(bench.seen).toMatchObject([
      { socket: "main", to: "client", command: Command.version, fdCount: 2 },
      { socket: "twin", to: "client", command: Command.dmaRead },
      { socket: "twin", to: "server", command: Command.dmaRead },
    ]);
    mine.close();
    bench.settle();
    theirs.close();
    bench.close();
    expect(openFds()).toBe(before);
  });

  it("that is promised without a descriptor is left as it is", () => {
    const bench = new Bench();
    const limits = { ...serverLimits, twinSocket: true };
    const version = formatVersion(1, limits, { twinFdIndex: 5 });
    const memfd = createMemfd("only", 8192);
    bench.server.queue(encode({ id: 1, command: Command.version, payload: version }), [memfd]);
    bench.settle(bench.server, bench.client);
    expect(bench.client.fds.map(({ fd }) => fileSize(fd))).toEqual([8192]);
    for (const { fd } of bench.client.fds) expect(fd).not.toBe(-1);
    bench.close();
    closeFd(-1);
  });
});

it("a tap has 16 clients at a time, and more of them when one has gone", async () => {
  const before = openFds();
  using folder = temporaryFolder();
  const [path, serverPath] = [join(folder.path, "tap"), join(folder.path, "server")];
  const listener = listenUnix(serverPath, 17);
  const log = { isRead: true, event: () => {}, message: () => {}, flush: () => {} };
  const tap = new Tap(path, serverPath, log as unknown as TraceLog);
  const running = tap.run(false);
  const clients: End[] = [];
  for (let count = 1; count <= 16; count++) {
    clients.push(new End(connectUnix(path)));
    await until(() => tap.count === count, `client ${count} is there`);
  }
  clients.push(new End(connectUnix(path)));
  const [first] = clients as [End];
  const server = new End(acceptUnix(listener));
  first.queue(encode({ id: 1, command: Command.deviceReset }), []);
  first.take();
  await until(() => server.take(), "a message has come, and whoever waits was seen");
  expect(tap.count).toBe(16);
  first.hangUp();
  await until(() => tap.count === 17, "the last one is there");
  tap.stop();
  await running;
  tap.close();
  for (const end of [...clients.slice(1), server]) end.close();
  closeFd(listener);
  expect(openFds()).toBe(before);
});
