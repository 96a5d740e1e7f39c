/** A remote device against a server that says what a test wants it to say. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { IrqRequest } from "../../src/device/vfio-device.ts";
import { FeatureFlags, IrqSetFlags } from "../../src/spec/vfio.ts";
import { Command, OwnFeature } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, createMemfd } from "../../src/sys/descriptors.ts";
import { defaultLimits } from "../../src/wire/negotiate.ts";
import { joined, openFds, type Said, serverLimits, words } from "./fake-server.ts";
import { simpleDevice } from "./simple-device.ts";

const none: Uint8Array = new Uint8Array(0);

describe("regions", () => {
  it("are read and written with one message, and the answer's length is checked", () => {
    const [server, device] = simpleDevice();
    const bytes = Uint8Array.of(0, 0, 9, 8, 7, 6, 0);
    server.reply(5, Command.regionRead, joined(words(8, 16), words(4, 0, 4), words(4, 0x04030201)));
    server.reply(6, Command.regionWrite, joined(words(8, 16), words(4, 0, 4)));
    server.reply(7, Command.regionRead, joined(words(8, 16), words(4, 0, 2), words(2, 5)));
    server.fail(8, Command.regionRead, errno.EIO, words(8, 1, 2, 3));
    expect(device.write.length).toBe(5);
    const target = new Uint8Array(8);
    expect(device.read(0, 16, target, 2, 4)).toBe(4);
    expect(Array.from(target)).toEqual([0, 0, 1, 2, 3, 4, 0, 0]);
    expect(device.write(0, 16, bytes, 2, 4)).toBe(4);
    expect(device.read(0, 16, target, 0, 4)).toBe(-errno.EPROTO);
    expect(device.read(0, 16, target, 0, 4)).toBe(-errno.EIO);
    const [first, second] = server.heard();
    expect(first?.payload).toEqual(joined(words(8, 16), words(4, 0, 4)));
    expect(second?.payload).toEqual(
      joined(words(8, 16), words(4, 0, 4), Uint8Array.of(9, 8, 7, 6)),
    );
    device.close();
    server.close();
  });

  it("longer than a message are read and written in pieces", () => {
    const [server, device] = simpleDevice({ ...serverLimits, maxDataXferSize: 8 });
    const piece = (at: number, count: number) => joined(words(8, at), words(4, 0, count));
    server.reply(5, Command.regionRead, joined(piece(0, 8), words(4, 1, 2)));
    server.reply(6, Command.regionRead, joined(piece(8, 4), words(4, 3)));
    server.reply(7, Command.regionWrite, piece(0, 8));
    server.reply(8, Command.regionWrite, piece(8, 4));
    const bytes = new Uint8Array(12);
    expect(device.read(0, 0, bytes, 0, 12)).toBe(12);
    expect(bytes).toEqual(words(4, 1, 2, 3));
    expect(device.write(0, 0, bytes, 0, 12)).toBe(12);
    expect(device.post(0, 0, bytes, 0, 12)).toBe(-errno.E2BIG);
    expect(server.heard().map(({ payload }) => payload.length)).toEqual([16, 16, 24, 20]);
    device.close();
    server.close();
  });

  it("take many small writes in one message, if the server does", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.regionWriteMulti, words(8, 2));
    const writes = [
      { region: 0, offset: 8, count: 4, data: 1n },
      { region: 0, offset: 16, count: 8, data: 2n },
    ];
    expect(device.writeMultiple(writes)).toBe(2);
    expect(server.heard()[0]?.payload).toEqual(
      joined(words(8, 2, 8), words(4, 0, 4), words(8, 1, 16), words(4, 0, 8), words(8, 2)),
    );
    device.close();
    server.close();
    const [plainServer, plain] = simpleDevice(defaultLimits);
    expect(plain.writeMultiple(writes)).toBe(-errno.EOPNOTSUPP);
    plain.close();
    plainServer.close();
  });
});

const eventfdRequest = (start: number, fds: readonly number[]): IrqRequest => ({
  index: 0,
  start,
  count: fds.length,
  data: IrqSetFlags.mask.dataEventfd,
  action: IrqSetFlags.mask.actionTrigger,
  bytes: none,
  boolsAt: 0,
  fds,
});

/** start and count of what was asked, and with how many descriptors. */
const shapeOf = ({ payload, fds }: Said): number[] => {
  const view = new DataView(payload.buffer);
  for (const fd of fds) closeFd(fd);
  return [view.getUint32(12, true), view.getUint32(16, true), fds.length];
};

describe("interrupts", () => {
  it("are wired in pieces of as many eventfds as the server takes; ours are closed", () => {
    const before = openFds();
    const [server, device] = simpleDevice();
    for (let id = 5; id < 8; id++) server.reply(id, Command.deviceSetIrqs);
    const fds = Array.from({ length: 20 }, () => createEventfd());
    expect(device.setIrqs(eventfdRequest(3, fds))).toBe(0);
    expect(server.heard().map(shapeOf)).toEqual([
      [3, 8, 8],
      [11, 8, 8],
      [19, 4, 4],
    ]);
    device.close();
    server.close();
    expect(openFds()).toBe(before);
  });

  it("a piece that is refused ends it, and nothing of ours stays open", () => {
    const before = openFds();
    const [server, device] = simpleDevice();
    server.reply(5, Command.deviceSetIrqs);
    server.fail(6, Command.deviceSetIrqs, errno.EINVAL);
    const fds = Array.from({ length: 17 }, () => createEventfd());
    expect(device.setIrqs(eventfdRequest(0, fds))).toBe(-errno.EINVAL);
    expect(server.heard().map(shapeOf)).toHaveLength(2);
    device.close();
    server.close();
    expect(openFds()).toBe(before);
  });

  it("a server that takes no descriptors cannot wire any", () => {
    const [server, device] = simpleDevice({ ...serverLimits, maxMsgFds: 0 });
    expect(device.setIrqs(eventfdRequest(0, [createEventfd()]))).toBe(-errno.EOPNOTSUPP);
    expect(server.heard()).toEqual([]);
    device.close();
    server.close();
  });

  it("are triggered and masked with their bytes behind the head", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.deviceSetIrqs);
    const { dataBool, actionMask } = IrqSetFlags.mask;
    const request = { ...eventfdRequest(1, []), count: 3, data: dataBool, action: actionMask };
    expect(device.setIrqs({ ...request, bytes: Uint8Array.of(9, 1, 0, 1), boolsAt: 1 })).toBe(0);
    expect(server.heard()[0]?.payload).toEqual(
      joined(words(4, 23, dataBool | actionMask, 0, 1, 3), Uint8Array.of(1, 0, 1)),
    );
    device.close();
    server.close();
  });
});

describe("features and migration data", () => {
  it("a feature's answer is written to its place, never past its room", () => {
    const [server, device] = simpleDevice();
    const flags = FeatureFlags.mask.get | 1;
    server.reply(5, Command.deviceFeature, joined(words(4, 16, flags), words(8, 5)));
    server.reply(6, Command.deviceFeature, joined(words(4, 32, flags), words(8, 5, 6, 7)));
    server.reply(7, Command.deviceFeature, words(4, 8));
    const bytes = new Uint8Array(16).fill(0xee);
    expect(device.feature(flags, bytes, 0, 0, 8)).toBe(8);
    expect(bytes.subarray(0, 9)).toEqual(joined(words(8, 5), Uint8Array.of(0xee)));
    expect(device.feature(flags, bytes, 0, 0, 8)).toBe(-errno.EPROTO);
    expect(device.feature(flags, bytes, 0, 0, 8)).toBe(-errno.EPROTO);
    expect(bytes[8]).toBe(0xee);
    expect(server.heard()[0]?.payload).toEqual(words(4, 16, flags));
    device.close();
    server.close();
  });

  it("what PRE_COPY has to send is told where both sides have agreed on it", () => {
    const limits = { ...serverLimits, precopyInfo: true };
    const options = { precopyInfo: true };
    const [server, device] = simpleDevice(limits, options);
    const flags = FeatureFlags.mask.get | OwnFeature.precopyInfo;
    const info = joined(words(4, 24, 0), words(8, 70_000, 12));
    server.reply(5, Command.deviceFeature, joined(words(4, 32, flags), info));
    server.fail(6, Command.deviceFeature, errno.EINVAL);
    server.reply(7, Command.deviceFeature, joined(words(4, 24, flags), info.subarray(0, 16)));
    expect(device.precopyInfo()).toEqual({ initialBytes: 70_000, dirtyBytes: 12 });
    expect(device.precopyInfo(), "not in PRE_COPY").toBe(-errno.EINVAL);
    expect(device.precopyInfo(), "half of an answer").toBe(-errno.EPROTO);
    expect(server.heard()[0]?.payload).toEqual(words(4, 32, flags));
    device.close();
    server.close();
  });

  it.each([
    ["nobody asked for it", { ...serverLimits, precopyInfo: true }, {}],
    ["the server does not know it", serverLimits, { precopyInfo: true }],
  ])("what PRE_COPY has to send is not asked for when %s", (_, limits, options) => {
    const [server, device] = simpleDevice(limits, options);
    const flags = FeatureFlags.mask.get | OwnFeature.precopyInfo;
    expect(device.precopyInfo()).toBeNull();
    expect(device.feature(flags, new Uint8Array(24), 0, 0, 24)).toBe(-errno.ENOTTY);
    expect(server.heard()).toEqual([]);
    device.close();
    server.close();
  });

  it("migration data is read until it ends; padding does not count", () => {
    const [server, device] = simpleDevice({ ...serverLimits, maxDataXferSize: 4 });
    const part = (size: number, data: Uint8Array) => joined(words(4, 12, size), data);
    server.reply(5, Command.migDataRead, part(4, Uint8Array.of(1, 2, 3, 4)));
    server.reply(6, Command.migDataRead, part(1, Uint8Array.of(5, 0, 0, 0)));
    server.reply(7, Command.migDataRead, part(5, Uint8Array.of(1, 2, 3, 4)));
    server.reply(8, Command.migDataRead, part(3, Uint8Array.of(1)));
    const sink = { bytes: new Uint8Array(12), at: 1, lend: () => expect.fail("nothing to lend") };
    expect(device.readMigration(sink, 10)).toBe(5);
    expect(Array.from(sink.bytes)).toEqual([0, 1, 2, 3, 4, 5, 0, 0, 0, 0, 0, 0]);
    expect(device.readMigration(sink, 4)).toBe(-errno.EPROTO);
    expect(device.readMigration(sink, 4)).toBe(-errno.EPROTO);
    device.close();
    server.close();
  });

  it("migration data is written in pieces until one is refused", () => {
    const [server, device] = simpleDevice({ ...serverLimits, maxDataXferSize: 4 });
    server.reply(5, Command.migDataWrite);
    server.fail(6, Command.migDataWrite, errno.EINVAL);
    expect(device.writeMigration(Uint8Array.of(1, 2, 3, 4, 5, 6), 0, 6)).toBe(-errno.EINVAL);
    expect(server.heard().map(({ payload }) => Array.from(payload))).toEqual([
      [12, 0, 0, 0, 4, 0, 0, 0, 1, 2, 3, 4],
      [10, 0, 0, 0, 2, 0, 0, 0, 5, 6],
    ]);
    device.close();
    server.close();
  });
});

describe("a device that is left", () => {
  it("has its interrupts and mappings taken away", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.dmaMap);
    server.reply(6, Command.deviceSetIrqs);
    server.reply(7, Command.dmaUnmap);
    const page = { iova: 0, size: 4096, readable: true, writable: true, offset: 0 };
    device.mapDma({ ...page, fd: createMemfd("ram", 4096), mayMap: true });
    for (const { fds } of server.heard()) for (const fd of fds) closeFd(fd);
    device.detach();
    const [irqs, unmap] = server.heard();
    const { dataNone, actionTrigger } = IrqSetFlags.mask;
    expect(irqs?.payload).toEqual(words(4, 20, dataNone | actionTrigger, 0, 0, 0));
    expect(unmap).toMatchObject({ command: Command.dmaUnmap });
    device.close();
    server.close();
  });

  it("answers ENOTCONN to everything once the server has gone", () => {
    const [server, device] = simpleDevice();
    server.close();
    const bytes = new Uint8Array(4);
    expect(device.read(0, 0, bytes, 0, 4)).toBe(-errno.ENOTCONN);
    expect(device.write(0, 0, bytes, 0, 4)).toBe(-errno.ENOTCONN);
    expect(device.reset()).toBe(-errno.ENOTCONN);
    expect(device.unmapAllDma()).toBe(-errno.ENOTCONN);
    device.detach();
    device.close();
  });
});
