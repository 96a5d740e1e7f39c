/** Two sides that send a megabyte to each other at the same time. */
import { once } from "node:events";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { MemoryPort } from "../../src/client/memory-port.ts";
import { Command, RegionAccess } from "../../src/spec/vfio-user.ts";
import { createMemfd, duplicate } from "../../src/sys/descriptors.ts";
import { FakeServer } from "./fake-server.ts";

const dataBytes = 1_048_576;
const rounds = 8;
const iova = 0x100_0000;

/** Runs a client against a server that does not read while it sends. */
async function exchange(
  twins: boolean,
): Promise<{ results: number[]; said: string; last: number }> {
  const options = { timeoutMs: 30_000 };
  const [server, connection, twin] = twins
    ? FakeServer.twins(options)
    : ([...FakeServer.connected(options), null] as const);
  const port = new MemoryPort();
  const fd = createMemfd("guest", dataBytes);
  const mapping = { iova, size: dataBytes, readable: true, writable: true, fd, offset: 0 };
  expect(port.memory.map({ ...mapping, mayMap: true })).toBe(0);
  connection.dma = port;
  const workerData = {
    fd: duplicate(server.fd),
    twinFd: twin === null ? -1 : duplicate(twin.fd),
    rounds,
    dataBytes,
    iova,
  };
  const worker = new Worker(new URL("./stubborn-peer.mjs", import.meta.url), { workerData });
  await once(worker, "message");
  const ended = once(worker, "message");
  const results: number[] = [];
  for (let number = 1; number <= rounds; number++) {
    const length = RegionAccess.size + dataBytes;
    expect(connection.prepare(length)).toBe(0);
    const { requestBytes, requestAt } = connection;
    requestBytes.fill(number, requestAt, requestAt + length);
    results.push(connection.call(Command.regionWrite, length, RegionAccess.size));
  }
  const [said] = (await ended) as [string];
  const check = new Uint8Array(dataBytes);
  port.memory.read(iova, check, 0, dataBytes);
  const last = check.every((byte) => byte === check[0]) ? (check[0] as number) : -1;
  connection.close();
  twin?.close();
  server.close();
  return { results, said, last };
}

describe("large messages both ways", () => {
  it("do not block each other on one socket", async () => {
    const { results, said, last } = await exchange(false);
    expect(said).toBe("done");
    expect(results).toEqual(Array.from({ length: rounds }, () => RegionAccess.size));
    expect(last).toBe(rounds);
  });

  it("do not block each other on two sockets", async () => {
    const { results, said, last } = await exchange(true);
    expect(said).toBe("done");
    expect(results).toEqual(Array.from({ length: rounds }, () => RegionAccess.size));
    expect(last).toBe(rounds);
  });
});
