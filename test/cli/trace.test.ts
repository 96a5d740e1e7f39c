/** `ferry trace` between a client of ours and a real server. */
import { existsSync, readFileSync } from "node:fs";
import { createConnection, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { Connection } from "../../src/client/connection.ts";
import { GuestRam } from "../../src/client/guest-ram.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { IrqSetFlags, PciIrq } from "../../src/spec/vfio.ts";
import { POLLIN } from "../../src/sys/constants.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../../src/sys/descriptors.ts";
import { PollSet } from "../../src/sys/poll.ts";
import { connectWhenFree } from "../client/connect-when-free.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";
import { isListening } from "../support/listening.ts";
import { ferry, Running } from "./run.ts";

const folder = temporaryFolder();
const serverPath = join(folder.path, "hello.sock");
const tracePath = join(folder.path, "traced.sock");
let server: Ferry;

beforeAll(async () => {
  server = await Ferry.start(["hello", "--socket-path", serverPath]);
});

afterAll(async () => {
  await server.stop();
  folder[Symbol.dispose]();
});

/** Starts a trace and waits until it listens. */
async function startTrace(...options: string[]): Promise<Running> {
  const trace = new Running(["trace", tracePath, serverPath, ...options]);
  await until(() => isListening(tracePath) || trace.child.exitCode !== null, "the trace listens");
  return trace;
}

const timeless = (output: string): string => output.replace(/^ *\d+\.\d{6}/gm, "TIME");

/** What a driver does: registers, an interrupt, DMA in both ways, a mistake, reset. */
function drive(path: string, twinSocket: boolean): void {
  const connection = connectWhenFree(path, { twinSocket });
  const device = new RemoteDevice(connection, "traced");
  const ram = new GuestRam(8192);
  device.attach(ram);
  const bytes = new Uint8Array(8);
  const view = new DataView(bytes.buffer);
  expect(device.read(0, 0, bytes, 0, 4)).toBe(4);
  const eventfd = createEventfd();
  const { dataEventfd, actionTrigger } = IrqSetFlags.mask;
  const vector = { index: PciIrq.msix, start: 1, count: 1, bytes, boolsAt: 0 };
  const request = { ...vector, data: dataEventfd, action: actionTrigger };
  expect(device.setIrqs({ ...request, fds: [duplicate(eventfd)] })).toBe(0);
  expect(ram.map(device, 0x1000, 0, 4096)).toBe(0);
  expect(ram.map(device, 0x8000, 4096, 4096, { shared: false })).toBe(0);
  ram.bytes.set([1, 2, 3, 4]);
  for (const [register, value] of [
    [0x10, 0x1000n],
    [0x18, 0x8000n],
    [0x20, 4n],
  ] as const) {
    view.setBigUint64(0, value, true);
    expect(device.write(0, register, bytes, 0, register === 0x20 ? 4 : 8)).toBeGreaterThan(0);
  }
  expect(device.post(0, 0x28, bytes, 0, 4)).toBe(4);
  const poll = new PollSet(3);
  poll.add(eventfd, POLLIN);
  for (const { fd } of device.watches) poll.add(fd, POLLIN);
  while (drainEventfd(eventfd) === 0) {
    poll.wait(1000);
    expect(connection.poll()).toBe(0);
  }
  expect(Array.from(ram.bytes.subarray(4096, 4100))).toEqual([1, 2, 3, 4]);
  expect(device.read(0, 4096, bytes, 0, 4)).toBeLessThan(0);
  expect(device.reset()).toBe(0);
  closeFd(eventfd);
  device.close();
  ram.close();
}

describe("ferry trace", () => {
  it("prints a session line by line, and the twin socket's messages too", async () => {
    const record = join(folder.path, "session.jsonl");
    const trace = await startTrace("--once", "--record", record);
    drive(tracePath, true);
    const { code, output, errors } = await trace.result;
    expect(code).toBe(0);
    expect(errors).toMatch(/^ferry: \d+ messages of 1 connections\n$/);
    await expect(timeless(output)).toMatchFileSnapshot("../golden/trace.txt");
    expect(existsSync(tracePath)).toBe(false);

    const again = await ferry("trace", "--replay", record);
    expect(again).toMatchObject({ code: 0, output });
    const raw = await ferry("trace", "--replay", record, "--json");
    expect(raw.output).toBe(readFileSync(record, "utf8"));
    const [head, first] = raw.output.split("\n").map((line) => line && JSON.parse(line));
    expect(head).toMatchObject({ format: "vfio-ferry-trace", version: 1 });
    expect(first).toMatchObject({ session: 1, event: "connected" });
  });

  it("goes on with the next client, and ends in order on a signal", async () => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) {
      const trace = await startTrace("--json");
      drive(tracePath, false);
      drive(tracePath, false);
      await trace.says(/("event":"closed"[\s\S]*){2}/);
      const { code, output } = await trace.stop(signal);
      expect(code).toBe(0);
      expect(existsSync(tracePath)).toBe(false);
      const lines = output.trimEnd().split("\n");
      for (const line of lines) expect(JSON.parse(line)).toBeTypeOf("object");
      const sockets = lines.map((line) => (JSON.parse(line) as { socket?: string }).socket);
      expect(sockets).not.toContain("twin");
    }
  });

  it("ends on a signal while a client is connected and much goes by", async () => {
    const trace = await startTrace("--json");
    const connection = connectWhenFree(tracePath);
    const device = new RemoteDevice(connection, "traced");
    const bytes = new Uint8Array(4);
    trace.child.kill("SIGTERM");
    let result = 4;
    while (result === 4) {
      result = device.read(0, 0, bytes, 0, 4);
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(connection.failure).toMatch(/closed/);
    expect((await trace.result).code).toBe(0);
    device.close();
  });

  it("sends a client away when there is no server, and stays", async () => {
    const trace = new Running(["trace", tracePath, join(folder.path, "nobody.sock")]);
    await until(() => isListening(tracePath), "the trace listens");
    expect(() => Connection.connect(tracePath)).toThrow(/closed the connection/);
    await trace.says(/1 sent away: cannot connect to .*nobody\.sock: ENOENT/);
    expect((await trace.stop()).code).toBe(0);
  });

  it("passes on what is no vfio-user at all", async () => {
    const echoPath = join(folder.path, "echo.sock");
    const echo = createServer((socket) => socket.pipe(socket)).listen(echoPath);
    const trace = new Running(["trace", tracePath, echoPath, "--once"]);
    await until(() => isListening(tracePath), "the trace listens");
    const socket = createConnection(tracePath);
    const sent = Buffer.from(Array.from({ length: 100_000 }, (_, i) => (i * 37) & 255));
    const back = readAll(socket, sent.length);
    socket.write(sent);
    expect((await back).equals(sent)).toBe(true);
    socket.destroy();
    const { code, output } = await trace.result;
    expect(code).toBe(0);
    expect(output.trimEnd().split("\n").at(-1)).toMatch(/1 closed$/);
    echo.close();
  });
});

async function readAll(socket: Socket, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let count = 0;
  for await (const part of socket as AsyncIterable<Buffer>) {
    parts.push(part);
    count += part.length;
    if (count >= length) break;
  }
  return Buffer.concat(parts);
}
