/**
 * What node itself moves between two processes, with nothing around it: the same bytes again and
 * again into a socket, and out of it into memory that is there already, as directly as node can. No
 * migration can be faster.
 */
import { fork } from "node:child_process";
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { connect as connectTls, createServer as createTlsServer } from "node:tls";
import { fileURLToPath } from "node:url";
import { readIdentity } from "../../src/host/links/tls.ts";
import { Arena } from "../../src/sys/arena.ts";

export type LinkKind = "unix" | "tls";

const pieceBytes = 1 << 20;
const minVersion = "TLSv1.3";

/** Bytes, and how long it took by the clock and by the processor of the side that worked more. */
export interface Moved {
  readonly bytes: number;
  readonly elapsedMs: number;
  readonly busiestMs: number;
}

const workedMs = (since: NodeJS.CpuUsage): number => {
  const { user, system } = process.cpuUsage(since);
  return (user + system) / 1000;
};

/** The receiving side, a process of its own: says that it is ready, and then what it worked. */
function receive(kind: LinkKind, total: number, path: string, port: number, pki: string): void {
  // Some more: an end is read into what is left.
  const arena = new Arena(total + pieceBytes);
  arena.useHugePages();
  arena.populate();
  let at = 0;
  const onread = {
    buffer: () => arena.bytes.subarray(at, at + pieceBytes),
    callback: (bytes: number) => {
      at += bytes;
      return true;
    },
  };
  const place = { host: "127.0.0.1", port, ...readIdentity(pki), minVersion } as const;
  const socket: Socket =
    kind === "unix"
      ? connect({ path, onread } as never)
      : connectTls({ ...place, onread, checkServerIdentity: () => undefined } as never);
  let before = process.cpuUsage();
  socket.once(kind === "unix" ? "connect" : "secureConnect", () => {
    before = process.cpuUsage();
    socket.write("!");
  });
  socket.on("close", () => process.send?.({ bytes: at, workedMs: workedMs(before) }));
}

/** Listens for the receiver; done when it is there and ready. */
function accept(kind: LinkKind, path: string, pki: string) {
  const identity = { ...readIdentity(pki), minVersion } as const;
  const server = kind === "unix" ? createServer() : createTlsServer(identity);
  const ready = new Promise<Socket>((resolve) => {
    server.on(kind === "unix" ? "connection" : "secureConnection", (socket: Socket) => {
      server.close();
      socket.once("data", () => resolve(socket));
    });
  });
  const listening = new Promise<number>((resolve) => {
    if (kind === "unix") server.listen(path, () => resolve(0));
    else server.listen(0, "127.0.0.1", () => resolve((server.address() as AddressInfo).port));
  });
  return { listening, ready };
}

/** Moves so many bytes; `path` is for a socket, the folders are those of two hosts. */
export async function moveBare(
  kind: LinkKind,
  bytes: number,
  path: string,
  [from, to]: readonly [string, string],
): Promise<Moved> {
  const { listening, ready } = accept(kind, path, from);
  const args = [kind, `${bytes}`, path, `${await listening}`, to];
  const child = fork(fileURLToPath(import.meta.url), args);
  const done = once(child, "message");
  try {
    const socket = await ready;
    const piece = new Uint8Array(pieceBytes).fill(7);
    const [before, begun] = [process.cpuUsage(), performance.now()];
    for (let sent = 0; sent < bytes; sent += pieceBytes) {
      await new Promise<void>((resolve) => socket.write(piece, () => resolve()));
    }
    socket.end();
    const [theirs] = (await done) as [{ readonly bytes: number; readonly workedMs: number }];
    const elapsedMs = performance.now() - begun;
    if (theirs.bytes !== bytes) throw new Error(`${theirs.bytes} bytes have come`);
    return { bytes, elapsedMs, busiestMs: Math.max(theirs.workedMs, workedMs(before)) };
  } finally {
    child.kill();
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [kind = "", total = "", path = "", port = "", pki = ""] = process.argv.slice(2);
  receive(kind as LinkKind, Number(total), path, Number(port), pki);
}
