/** Streams that no client would send: cut anywhere, endless, or never read. */
import { describe, expect, it } from "vitest";
import {
  cut,
  deviceGetInfo,
  deviceReset,
  dmaMap,
  dmaUnmap,
  irqInfo,
  joined,
  loggingStart,
  message,
  migDataRead,
  type RawRequest,
  regionInfo,
  regionRead,
  regionWrite,
  setIrqs,
  setMigState,
} from "../../src/client/raw-requests.ts";
import { readBytes } from "../../src/conform/actions.ts";
import type { Peer } from "../../src/conform/peer.ts";
import { IrqSetFlags, PciIrq, PciRegion } from "../../src/spec/vfio.ts";
import { Command, HeaderFlags, RegionAccess } from "../../src/spec/vfio-user.ts";
import { anyRequest, patienceMs, survivor } from "./victim.ts";

const mib = 1024 * 1024;
const { noReply } = HeaderFlags.mask;
const server = survivor("bench", ["--set", "stateMiB=1"], 2);

const pattern = (length: number, salt: number): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 11 + (i >>> 8) * 3 + salt) & 0xff);

describe("requests that are cut anywhere", () => {
  const { actionTrigger, dataEventfd } = IrqSetFlags.mask;
  const requests: ReadonlyArray<readonly [string, RawRequest, number]> = [
    ["DMA_MAP", dmaMap({ address: 0x4000, size: 4096 }), 1],
    [
      "DEVICE_SET_IRQS",
      setIrqs({ flags: actionTrigger | dataEventfd, index: PciIrq.msix, count: 2 }),
      2,
    ],
    ["REGION_WRITE", regionWrite(0, 0x1000, pattern(24, 1)), 0],
    ["DEVICE_FEATURE", setMigState(2), 0],
    ["DEVICE_GET_REGION_INFO", regionInfo(1, 256), 0],
    ["MIG_DATA_READ", migDataRead(16), 0],
  ];

  it.each(requests)(
    "%s in two pieces at every byte is served as a whole",
    (_, request, fdCount) => {
      const context = server.victim.context();
      const peer = context.open();
      if (request.command === Command.migDataRead) peer.done(setMigState(3));
      const guest = context.guest();
      const eventfds = [context.eventfd(), context.eventfd()];
      const fds = request.command === Command.dmaMap ? [guest.fd] : eventfds.slice(0, fdCount);
      const bytes = message(request, { messageId: 4 });
      const whole = peer.done(request, undefined, fds);
      for (let at = 1; at < bytes.length; at++) {
        if (request.command === Command.dmaMap) {
          peer.done(dmaUnmap({ address: 0x4000, size: 4096 }));
        }
        peer.client.sendPieces([bytes.subarray(0, at), bytes.subarray(at)], fds);
        const reply = peer.doneAs(request.command, 4, whole.payload.length);
        expect(reply.fds.length, `cut at ${at}`).toBe(whole.fds.length);
      }
    },
  );

  it.each(requests)("%s byte by byte, with its descriptors on the first byte", (_, request, n) => {
    const context = server.victim.context();
    const peer = context.open();
    if (request.command === Command.migDataRead) peer.done(setMigState(3));
    const guest = context.guest();
    const fds =
      request.command === Command.dmaMap ? [guest.fd] : [1, 2].map(() => context.eventfd());
    const pieces = [...message(request, { messageId: 4 })].map((byte) => Uint8Array.of(byte));
    peer.client.sendPieces(pieces, fds.slice(0, n));
    peer.doneAs(request.command, 4);
  });
});

describe("large requests", () => {
  it("of the largest size are taken, and one byte more is refused and skipped", () => {
    const peer = server.victim.context().open();
    const data = pattern(mib, 5);
    peer.done(regionWrite(0, 0, data), RegionAccess.size);
    peer.refused(cut(regionWrite(0, 0, data), RegionAccess.size + mib + 1));
    peer.usable();
    peer.refused(regionWrite(0, 0, new Uint8Array(2 * mib)));
    peer.usable();
  });

  it("of 1 MiB, pipelined with their replies unread, are all served", () => {
    const peer = server.victim.context().open();
    const ids: number[] = [];
    for (let salt = 0; salt < 12; salt++) {
      ids.push(peer.post(regionWrite(0, 0x1000, pattern(mib - 0x1000, salt))));
    }
    for (const id of ids) peer.doneAs(Command.regionWrite, id, RegionAccess.size);
    expect(readBytes(peer, 0, 0x1000, 4096)).toEqual(pattern(4096, 11));
  });

  it("for 1 MiB each way, pipelined, are all served", () => {
    const peer = server.victim.context().open();
    for (let round = 0; round < 4; round++) {
      const write = peer.post(regionWrite(0, 0x1000, pattern(mib - 0x1000, round)));
      const read = peer.post(regionRead(0, 0, mib));
      peer.doneAs(Command.regionWrite, write, RegionAccess.size);
      const reply = peer.doneAs(Command.regionRead, read, RegionAccess.size + mib);
      expect(reply.payload.subarray(16 + 0x1000, 16 + 0x2000)).toEqual(pattern(4096, round));
    }
  });

  it("that announce 4 GiB are refused at once, however often", () => {
    const peer = server.victim.context().open();
    const header = { command: Command.regionWrite, payload: new Uint8Array(0) };
    const id = peer.post(header, [], { messageSize: 0xffff_ffff });
    peer.refusedAs(Command.regionWrite, id);
    for (let i = 0; i < 32; i++) peer.sendBytes(new Uint8Array(mib));
    expect(peer.receive(20)).toBe("silence");
  });
});

describe("floods", () => {
  /** One of each kind of request, right and wrong. */
  const everything: readonly RawRequest[] = [
    deviceGetInfo(),
    deviceGetInfo(1),
    regionInfo(1, 256),
    regionInfo(77),
    irqInfo(2),
    regionRead(0, 0, 64),
    regionWrite(0, 0x1000, new Uint8Array(64)),
    regionWrite(0, 2 ** 40, new Uint8Array(8)),
    dmaMap({ address: 0, size: 4096 }),
    dmaUnmap({ address: 0, size: 4096 }),
    dmaUnmap({ flags: 2 }),
    loggingStart(4096),
    deviceReset(),
    setMigState(1),
    setMigState(2),
    migDataRead(16),
    { command: 999, payload: new Uint8Array(5) },
    { command: 0xffff, payload: new Uint8Array(0) },
  ];

  it("of every kind without replies are silent and leave the connection in step", () => {
    const peer = server.victim.context().open();
    const flood = joined(...everything.map((request) => message(request, { flags: noReply })));
    for (let i = 0; i < 200; i++) peer.sendBytes(flood);
    peer.usable();
    expect(peer.receive(20)).toBe("silence");
  });

  it("of every kind with replies, read as they come, are all answered in order", () => {
    const peer = server.victim.context().open();
    for (let round = 0; round < 50; round++) {
      const flood = everything.map((request, i) => message(request, { messageId: i }));
      peer.sendBytes(joined(...flood));
      for (const [i, { command }] of everything.entries()) peer.reply(command, i);
    }
  });

  it("with one id for all are answered in order", () => {
    const peer = server.victim.context().open();
    const flood = everything.map((request) => message(request, { messageId: 42 }));
    peer.sendBytes(joined(...flood, ...flood));
    for (const { command } of [...everything, ...everything]) peer.reply(command, 42);
  });

  it("of impossible headers are answered one by one", () => {
    const peer = server.victim.context().open();
    const header = message({ command: 4, payload: new Uint8Array(0) }, { messageSize: 7 });
    peer.sendBytes(joined(...Array<Uint8Array>(2000).fill(header)));
    for (let i = 0; i < 2000; i++) peer.refusedAs(4, 0);
    peer.usable();
  });

  /** Sends until the server takes no more, because nobody reads its replies. */
  function fill(peer: Peer, request: RawRequest): number {
    const bytes = message(request);
    let total = 0;
    for (let i = 0; i < 200_000; i++) {
      const sent = peer.client.send(bytes, [], 100);
      total += Math.max(0, sent);
      if (sent !== bytes.length) break;
    }
    return total;
  }

  it("whose replies are never read stop at a bound, and other devices are served", () => {
    const peer = server.victim.context().open();
    for (const request of [regionRead(0, 0, mib), deviceGetInfo()]) {
      expect(fill(peer, request)).toBeLessThan(64 * mib);
    }
    server.victim.use(1);
  });

  it("whose replies are read after all are answered to the last", () => {
    const peer = server.victim.context().open();
    const bytes = message(regionRead(0, 0, 32_768), { messageId: 8 });
    const count = Math.floor(fill(peer, regionRead(0, 0, 32_768)) / bytes.length);
    expect(count).toBeGreaterThan(10);
    for (let i = 0; i < count; i++) peer.receive();
    peer.client.close();
  });
});

describe("silence", () => {
  it("after a header, or in the middle of a body, holds nobody else up", () => {
    const context = server.victim.context();
    const peer = context.open();
    const bytes = message(regionWrite(0, 0x1000, new Uint8Array(4096)));
    peer.sendBytes(bytes.subarray(0, 16));
    server.victim.use(1);
    peer.sendBytes(bytes.subarray(16, 2000));
    server.victim.use(1);
    const second = context.connect();
    second.send(message(anyRequest()));
    expect(second.receive(patienceMs)).toBeTypeOf("object");
    peer.sendBytes(bytes.subarray(2000));
    peer.doneAs(Command.regionWrite, 0, RegionAccess.size);
  });

  it("of a peer that only shuts its sending side ends the connection", () => {
    const context = server.victim.context();
    const peer = context.open();
    const bytes = message(regionRead(PciRegion.config, 0, 4));
    peer.sendBytes(bytes.subarray(0, 20));
    peer.client.shutdown();
  });
});
