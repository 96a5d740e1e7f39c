/** Bytes of a TLS socket that was connected to are read to where they belong, and none is lost. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { type ConnectionOptions, connect as connectTls, type TLSSocket } from "node:tls";
import { afterAll, beforeAll, expect, it } from "vitest";
import { makeAuthority, makeHost } from "../../../src/cli/pki-files.ts";
import { frameHeader } from "../../../src/host/links/frame-reader.ts";
import { readInto } from "../../../src/host/links/read-into.ts";
import { StreamLink } from "../../../src/host/links/stream-link.ts";
import { acceptTls, readIdentity, type TlsListener } from "../../../src/host/links/tls.ts";
import { dataBytesMax } from "../../../src/migration/hosts/link-messages.ts";
import { temporaryFolder } from "../../support/ferry.ts";

const folder = temporaryFolder();
const pki = (host: string): string => join(folder.path, "pki", host);
const anywhere = { host: "127.0.0.1", port: 0 };
const dataType = 4;

beforeAll(async () => {
  const authority = await makeAuthority(folder.path.concat("/pki"));
  for (const host of ["alice", "bob"]) await makeHost(join(folder.path, "pki"), authority, host);
}, 120_000);
afterAll(() => folder[Symbol.dispose]());

/** A caller that does not wait for anything before it writes. */
function call({ address }: TlsListener): TLSSocket {
  const { port } = address as { readonly port: number };
  const checkServerIdentity = (): undefined => undefined;
  const options: ConnectionOptions = { ...readIdentity(pki("alice")), checkServerIdentity };
  return connectTls({ ...anywhere, port, ...options });
}

/** A frame of DATA as its bytes. */
function frameOf(bytes: number, fill: number): Buffer {
  const frame = { type: dataType, payload: new Uint8Array(bytes).fill(fill) } as const;
  return Buffer.concat([frameHeader(frame), frame.payload]);
}

async function expectFrames(link: StreamLink, lengths: readonly number[]): Promise<void> {
  for (const [at, length] of lengths.entries()) {
    const frame = await link.receive();
    expect(frame?.payload.length).toBe(length);
    expect(frame?.payload.every((byte) => byte === at)).toBe(true);
  }
}

it("by this node's own sockets", async () => {
  const bytes = new Uint8Array(300_000);
  let at = 0;
  let taken: boolean | null = null;
  const listener = await acceptTls(anywhere, readIdentity(pki("bob")), (_, socket) => {
    const buffer = (): Uint8Array => bytes.subarray(at, at + 7000);
    const callback = (count: number): boolean => {
      at += count;
      return true;
    };
    taken = readInto(socket, { buffer, callback });
    socket.on("data", () => expect.fail("it was read into a buffer of node's"));
  });
  const caller = call(listener);
  const sent = Buffer.from(bytes.map((_, i) => (i * 7) % 251));
  caller.write(sent);
  await expect.poll(() => at).toBe(sent.length);
  expect(taken).toBe(true);
  expect(sent.equals(bytes)).toBe(true);
  caller.destroy();
  listener.close();
});

it("also those that come with the handshake, and the end that comes with them", async () => {
  const links: StreamLink[] = [];
  const listener = await acceptTls(anywhere, readIdentity(pki("bob")), (names, socket) => {
    links.push(StreamLink.over(names, socket));
  });
  const lengths = [1, 0, 100_000, 3, dataBytesMax, 17, 0, 1];
  for (let round = 0; round < 20; round++) {
    const caller = call(listener);
    caller.on("error", () => {});
    for (const [at, length] of lengths.entries()) caller.write(frameOf(length, at));
    caller.end();
    await expect.poll(() => links.length).toBe(round + 1);
    const link = links[round] as StreamLink;
    await expectFrames(link, lengths);
    expect(await link.receive()).toBeNull();
    link.close();
  }
  listener.close();
});

it("or by node into buffers of its own, where it has no place for others", async () => {
  const lengths = [5, dataBytesMax, 0, dataBytesMax, 1];
  const stream = new PassThrough();
  const socket = stream as unknown as Socket;
  expect(readInto(socket, { buffer: () => new Uint8Array(1), callback: () => true })).toBe(false);
  const link = StreamLink.over(["alice"], socket);
  for (const [at, length] of lengths.entries()) stream.write(frameOf(length, at));
  await expectFrames(link, lengths);
  stream.destroy();
});

it("and no more than there is room for: who sends on and on waits", async () => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const caller = connect(port, "127.0.0.1");
  const [accepted] = (await once(server, "connection")) as [Socket];
  const link = StreamLink.over(["alice"], accepted);
  const many = 64;
  for (let at = 0; at < many; at++) caller.write(frameOf(dataBytesMax, at));
  await new Promise((resolve) => setTimeout(resolve, 100));
  expect(accepted.bytesRead).toBeLessThan(16 * dataBytesMax);
  await expectFrames(
    link,
    Array.from({ length: many }, () => dataBytesMax),
  );
  link.close();
  caller.destroy();
  server.close();
});
