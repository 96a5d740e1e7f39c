/** A server that says anything: the client answers with numbers, and keeps nothing open. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { FerryError } from "../../src/base/errors.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { Command } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, duplicate } from "../../src/sys/descriptors.ts";
import {
  encode,
  FakeServer,
  joined,
  type Line,
  openFds,
  serverLimits,
  words,
} from "./fake-server.ts";

/** A message as a server may send it, with one thing or another wrong about it. */
const anyLine: fc.Arbitrary<Line> = fc
  .record({
    id: fc.oneof(fc.integer({ min: 1, max: 12 }), fc.nat(0xffff)),
    command: fc.oneof(fc.constantFrom(...Object.values(Command)), fc.nat(0xffff)),
    payload: fc.oneof(fc.uint8Array({ maxLength: 64 }), fc.constant(words(4, 16, 3, 2, 1))),
    isCommand: fc.boolean(),
    flags: fc.oneof({ weight: 5, arbitrary: fc.constant(0) }, fc.nat()),
    error: fc.oneof({ weight: 5, arbitrary: fc.constant(undefined) }, fc.nat()),
    size: fc.oneof({ weight: 8, arbitrary: fc.constant(undefined) }, fc.nat(200), fc.nat()),
  })
  .map(({ error, size, ...line }) => ({
    ...line,
    ...(error === undefined ? {} : { error }),
    ...(size === undefined ? {} : { size }),
  }));

/** Answers that fit the first questions, so that the noise reaches further in. */
const opening: readonly Line[] = [
  { id: 2, command: Command.deviceGetInfo, payload: words(4, 16, 3, 1, 1) },
  {
    id: 3,
    command: Command.deviceGetRegionInfo,
    payload: joined(words(4, 32, 3, 0, 0), words(8, 4096, 0)),
  },
  { id: 4, command: Command.deviceGetIrqInfo, payload: words(4, 16, 1, 0, 4) },
];

const script = fc.record({
  politeFor: fc.nat(opening.length),
  lines: fc.array(fc.record({ line: anyLine, fds: fc.nat(2) }), { maxLength: 30 }),
  cut: fc.nat(60),
});

/** Everything that a client may do, one after the other. */
function useAll(device: RemoteDevice): number[] {
  const bytes = new Uint8Array(64);
  const sink = { bytes, at: 0, lend: () => {} };
  const mapping = { iova: 0, size: 4096, readable: true, writable: true, fd: -1, offset: 0 };
  return [
    device.read(0, 0, bytes, 0, 8),
    device.write(0, 0, bytes, 0, 8),
    device.post(0, 0, bytes, 0, 8),
    device.feature(1 << 16, bytes, 0, 0, 16),
    device.ioEventfds(0).length,
    device.mapDma({ ...mapping, mayMap: true }),
    device.readMigration(sink, 32),
    device.connection.poll(),
    device.reset(),
    device.unmapAllDma(),
  ];
}

describe("a server that says anything", () => {
  it("gets no more than errors out of a client, and no descriptor stays", () => {
    const eventfd = createEventfd();
    const before = openFds();
    fc.assert(
      fc.property(script, fc.boolean(), ({ politeFor, lines, cut }, asTwin) => {
        const server = new FakeServer().agree(serverLimits);
        for (const line of opening.slice(0, politeFor)) server.say(line);
        for (const { line, fds } of lines) {
          server.raw(
            encode(line),
            Array.from({ length: fds }, () => eventfd),
          );
        }
        server.raw(encode({ id: 9, command: 9, payload: new Uint8Array(60) }).subarray(0, cut + 1));
        const connection = server.connect({ twinSocket: asTwin });
        server.close();
        try {
          const device = new RemoteDevice(connection, "a server");
          for (const result of useAll(device)) expect(Number.isSafeInteger(result)).toBe(true);
          device.detach();
          device.close();
        } catch (thrown) {
          expect(thrown).toBeInstanceOf(FerryError);
          connection.close();
        }
        expect(openFds()).toBe(before);
      }),
      { numRuns: 400 },
    );
    closeFd(eventfd);
  });

  it("without end is left when the time is over", async () => {
    const [server, connection] = FakeServer.connected({ timeoutMs: 50 });
    const workerData = { fd: duplicate(server.fd) };
    const worker = new Worker(new URL("./flooding-peer.mjs", import.meta.url), { workerData });
    await once(worker, "message");
    const ended = once(worker, "message");
    expect(connection.prepare(0)).toBe(0);
    expect(connection.call(Command.deviceReset, 0, 0)).toBe(-errno.ETIMEDOUT);
    expect(connection.commandsServed).toBeGreaterThan(0);
    connection.close();
    expect(await ended).toEqual(["done"]);
    server.close();
  });
});
