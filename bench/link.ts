/**
 * How fast a device's state goes from one process to another, one core a side.
 *
 *     npm run bench:link [-- --gib N]
 */
import { type ChildProcess, fork } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { makeAuthority, makeHost } from "../src/cli/pki-files.ts";
import { type Address, formatAddress } from "../src/host/links/address.ts";
import { hostLinks } from "../src/host/links/link-factory.ts";
import type { Link } from "../src/migration/hosts/link.ts";
import { dataBytesMax, messages } from "../src/migration/hosts/link-messages.ts";
import { main } from "./operator-error.ts";

const promised = { tls: 1, unix: 3 } as const;
type Kind = keyof typeof promised;
const { data, end } = messages;
const rounds = 5;

/** Receives until END, and says how many bytes there were and how long the processor worked. */
async function swallow(link: Link): Promise<number> {
  let bytes = 0;
  for (;;) {
    const frame = await link.receive();
    if (frame === null || frame.type === end.type) return bytes;
    bytes += frame.payload.length;
  }
}

/** The receiving side, a process of its own. */
async function receive(kind: Kind, folder: string): Promise<void> {
  const address: Address =
    kind === "tls"
      ? { kind, host: "127.0.0.1", port: 0 }
      : { kind, path: join(folder, "link.sock") };
  const place = { address, pki: join(folder, "bob") };
  const listener = await hostLinks.listen(place, (link) => {
    const before = process.cpuUsage();
    void swallow(link).then((bytes) => {
      const { user, system } = process.cpuUsage(before);
      process.send?.({ bytes, cpuSeconds: (user + system) / 1e6 });
      link.close();
    });
  });
  process.send?.({ address: listener.address });
}

const heard = <T>(child: ChildProcess): Promise<T> =>
  new Promise((resolve) => child.once("message", (message) => resolve(message as T)));

interface Figure {
  readonly rate: number;
  readonly perCore: number;
}

async function send(child: ChildProcess, address: Address, folder: string, bytes: number) {
  const link = await hostLinks.dial({ address, pki: join(folder, "alice"), peer: "bob" });
  const payload = new Uint8Array(dataBytesMax).fill(7);
  const done = heard<{ bytes: number; cpuSeconds: number }>(child);
  const cpuBefore = process.cpuUsage();
  const before = performance.now();
  for (let sent = 0; sent < bytes; sent += payload.length) {
    await link.send({ type: data.type, payload });
  }
  await link.send({ type: end.type, payload: new Uint8Array(0) });
  const { bytes: arrived, cpuSeconds } = await done;
  const seconds = (performance.now() - before) / 1000;
  const { user, system } = process.cpuUsage(cpuBefore);
  const busiest = Math.max(cpuSeconds, (user + system) / 1e6);
  link.close();
  return { rate: arrived / seconds / 1e9, perCore: arrived / busiest / 1e9 } satisfies Figure;
}

const median = (values: number[]): number =>
  values.toSorted((a, b) => a - b)[Math.floor(values.length / 2)] ?? 0;

async function measure(kind: Kind, folder: string, gib: number): Promise<void> {
  const child = fork(fileURLToPath(import.meta.url), ["--receive", kind, folder]);
  const { address } = await heard<{ address: Address }>(child);
  const figures: Figure[] = [];
  for (let i = 0; i < rounds; i++) figures.push(await send(child, address, folder, gib * 2 ** 30));
  child.kill();
  const rate = median(figures.map((each) => each.rate));
  const perCore = median(figures.map((each) => each.perCore));
  const shown = `${formatAddress(address).split(":")[0]?.padEnd(5)} ${rate.toFixed(2)} GB/s`;
  console.log(`${shown}, ${perCore.toFixed(2)} GB for a second of the busier core`);
  console.log(`      aimed at: ${promised[kind]} GB/s on cores that do nothing else`);
}

const { values, positionals } = parseArgs({
  options: { gib: { type: "string", default: "2" }, receive: { type: "boolean" } },
  allowPositionals: true,
});
if (values.receive === true) {
  await receive(positionals[0] as Kind, positionals[1] as string);
} else {
  await main(async () => {
    const folder = mkdtempSync(join(tmpdir(), "ferry-link-"));
    try {
      const authority = await makeAuthority(folder);
      for (const host of ["alice", "bob"]) await makeHost(folder, authority, host);
      for (const kind of ["unix", "tls"] as const) await measure(kind, folder, Number(values.gib));
    } finally {
      rmSync(folder, { recursive: true });
    }
    return 0;
  });
}
