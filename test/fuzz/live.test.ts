/** A running server against clients that send anything. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { RawClient } from "../../src/client/raw-client.ts";
import {
  deviceFeature,
  deviceGetInfo,
  deviceReset,
  dmaAccess,
  dmaMap,
  dmaUnmap,
  getMigState,
  irqInfo,
  joined,
  loggingReport,
  loggingStart,
  loggingStop,
  message,
  migDataRead,
  migDataWrite,
  proposal,
  type RawRequest,
  regionInfo,
  regionIoFds,
  regionRead,
  regionWrite,
  regionWriteMulti,
  setIrqs,
  setMigState,
  version,
} from "../../src/client/raw-requests.ts";
import { type Context, ourCapabilities, pause } from "../../src/conform/context.ts";
import { Command, MessageType } from "../../src/spec/vfio-user.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { patienceMs, survivor } from "../hostile/victim.ts";
import { fuzzInTurns, type Random, runs, seed } from "./random.ts";

const page = 4096;
const timeoutMs = 60_000;

/** A valid request of any kind, with numbers that are often at an edge. */
function anyRequest(random: Random): RawRequest {
  const small = () => random.below(10);
  const bytes = () => random.bytes(random.below(200));
  const place = () => random.pick([0, 0x80, 0x100, 0x108, 0x10c, 0x110, 0x1000, random.number32()]);
  const iova = () => random.below(64) * page;
  const makers: ReadonlyArray<() => RawRequest> = [
    () => proposal({ ...ourCapabilities }),
    () => dmaMap({ address: iova(), size: random.between(1, 16) * page, flags: random.below(16) }),
    () =>
      dmaMap({ address: random.number32(), size: random.number32(), offset: random.number32() }),
    () => dmaUnmap({ address: iova(), size: random.between(1, 16) * page }),
    () => dmaUnmap({ flags: random.below(4) }, bytes()),
    () => deviceGetInfo(random.number32()),
    () => regionInfo(small(), random.number32()),
    () => regionIoFds({ argsz: random.number32(), index: small(), flags: random.below(2) }),
    () => irqInfo(small(), random.number32()),
    () => setIrqs({ flags: random.below(64), index: small(), count: small(), start: small() }),
    () => setIrqs({ flags: random.u32(), count: random.number32(), start: random.number32() }, [1]),
    () => regionRead(small(), place(), random.oneIn(3) ? random.number32() : random.below(300)),
    () => regionWrite(small(), place(), bytes()),
    () => regionWriteMulti([{ region: small(), offset: place(), count: random.below(10) }]),
    () => regionWriteMulti([], random.number32()),
    () => deviceReset(),
    () => deviceFeature(random.u32() & 0x7_001f, bytes(), random.number32()),
    () => getMigState(),
    () => setMigState(random.below(9)),
    () => loggingStart(random.pick([page, 2048, random.number32()]), [], random.below(3)),
    () => loggingStop(),
    () => loggingReport(iova(), random.number32(), random.pick([page, random.number32()])),
    () => migDataRead(random.number32(), random.number32()),
    () => migDataWrite(bytes(), random.oneIn(3) ? random.number32() : undefined),
    () => dmaAccess(random.pick([Command.dmaRead, Command.dmaWrite]), iova(), 64, bytes()),
    () => ({ command: random.u32() & 0xffff, payload: bytes() }),
  ];
  return random.pick(makers)();
}

/** How often, once in so many messages, the stream gets out of step; most bodies are only wrong. */
const outOfStep = 80;

/** A request as it is, or with some of its bits, its header or its end wrong. */
function anyMessage(random: Random): Uint8Array {
  const flags = random.pick([0, 0, 0, 0, 0x10, MessageType.reply, random.u32()]);
  const bytes = message(anyRequest(random), { messageId: random.below(4), flags });
  if (random.oneIn(3) && bytes.length > 16) {
    const at = random.between(16, bytes.length - 1);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  }
  if (random.oneIn(outOfStep)) {
    const at = random.below(6);
    bytes[at] = (bytes[at] as number) ^ (1 << random.below(8));
  }
  return random.oneIn(outOfStep) ? bytes.subarray(0, random.below(bytes.length)) : bytes;
}

/**
 * Takes what the server says and counts its good replies; commands of it are answered, wrongly now
 * and then.
 */
function listen(random: Random, socket: RawClient): number {
  let good = 0;
  for (let i = 0; i < 64; i++) {
    const received = socket.receive(random.oneIn(8) ? 5 : 0);
    if (typeof received === "string") break;
    for (const fd of received.fds) closeFd(fd);
    const { command, messageId, flags } = received;
    if (flags === MessageType.reply) good += 1;
    if ((flags & 0xf) !== MessageType.command || random.oneIn(4)) continue;
    const data = random.bytes(random.oneIn(3) ? random.below(200) : 64);
    const answer = message(dmaAccess(command, 0, data.length, data), { messageId, flags: 1 });
    socket.send(answer, [], 100);
  }
  return good;
}

function anyFds(random: Random, context: Context, files: readonly number[]): number[] {
  if (!random.oneIn(4)) return [];
  const count = random.pick([1, 1, 1, 2, 3, 16, 17, 40]);
  return Array.from({ length: count }, () => random.pick([...files, context.eventfd()]));
}

/** Connects, again and again while the client before is still being let go. */
function greet(context: Context, first: Uint8Array): { client: RawClient; sockets: RawClient[] } {
  for (;;) {
    const client = context.connect();
    client.send(first);
    const hello = client.receive(patienceMs);
    if (typeof hello === "string") return { client, sockets: [client] };
    if (hello.error !== errno.EBUSY) {
      return { client, sockets: [client, ...hello.fds.map((fd) => context.adopt(fd))] };
    }
    client.close();
    pause(1);
  }
}

/** One connection with many messages, split anywhere; the number of good replies that were read. */
function anyConnection(random: Random, context: Context): number {
  const guest = context.guest(16 * page, 0);
  const twin = random.oneIn(3) ? { twin_socket: { supported: true } } : {};
  const first = random.oneIn(10)
    ? version(random.below(2), 0, random.bytes(random.below(40)))
    : proposal({ ...ourCapabilities, ...twin, max_data_xfer_size: random.pick([16, 1_048_576]) });
  const { client, sockets } = greet(context, message(first));
  let good = 0;
  for (let i = random.between(1, 120); i > 0; i--) {
    const bytes = random.oneIn(5)
      ? joined(anyMessage(random), anyMessage(random))
      : anyMessage(random);
    const cut = random.oneIn(4) ? random.below(bytes.length + 1) : bytes.length;
    const sent = client.send(bytes.subarray(0, cut), anyFds(random, context, [guest.fd]), 200);
    if (sent < 0 || client.send(bytes.subarray(cut), [], 200) < 0) break;
    if (random.oneIn(3)) for (const socket of sockets) good += listen(random, socket);
  }
  return good;
}

describe.each(["bench", "hello"])(`%s with FUZZ_SEED=${seed}`, (device) => {
  const server = survivor(device, device === "bench" ? ["--set", "stateMiB=1"] : []);

  it.each([0, 1, 2, 3])(
    "survives connections that send anything (round %i)",
    async (round) => {
      const { victim } = server;
      let good = 0;
      const once = (random: Random) => {
        const context = victim.context();
        good += anyConnection(random, context);
        context.end();
      };
      await fuzzInTurns(runs(30), once, seed + round * 1000);
      expect(good, "good replies that were read").toBeGreaterThan(runs(30));
      expect(victim.residentMib()).toBeLessThan(1024);
    },
    timeoutMs,
  );
});
