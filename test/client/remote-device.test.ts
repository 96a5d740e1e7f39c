/** A remote device against a server that says what a test wants it to say. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { FerryError } from "../../src/base/errors.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import type { IrqRequest } from "../../src/device/vfio-device.ts";
import {
  DeviceFlags,
  FeatureFlags,
  IrqSetFlags,
  RegionFlags,
  RegionInfo,
} from "../../src/spec/vfio.ts";
import { Command, DmaMapFlags, DmaUnmapFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, createMemfd } from "../../src/sys/descriptors.ts";
import { defaultLimits, type Limits } from "../../src/wire/negotiate.ts";
import { FakeServer, joined, openFds, type Said, serverLimits, words } from "./fake-server.ts";

const { read, write, mmap, caps } = RegionFlags.mask;
const none: Uint8Array = new Uint8Array(0);

/** A region info: argsz flags index capOffset, then size and offset. */
function regionInfo(index: number, flags: number, size: number, argsz = 32, capOffset = 0) {
  return joined(words(4, argsz, flags, index, capOffset), words(8, size, 0x8000));
}

/** A sparse mmap capability: id version next, areas, reserved, then the areas. */
const sparse = (count: number, ...areas: number[]): Uint8Array =>
  joined(words(2, 1, 1), words(4, 0, count, 0), words(8, ...areas));

/** A device with one region of 4 KiB and one irq of 32 vectors, and the next free message id. */
function simpleDevice(limits: Limits = serverLimits): [FakeServer, RemoteDevice, number] {
  const server = new FakeServer().agree(limits);
  server.reply(2, Command.deviceGetInfo, words(4, 16, DeviceFlags.mask.reset, 1, 1));
  server.reply(3, Command.deviceGetRegionInfo, regionInfo(0, read | write, 4096));
  server.reply(4, Command.deviceGetIrqInfo, words(4, 16, 1, 0, 32));
  const device = new RemoteDevice(server.connect(), "simple");
  server.heard();
  return [server, device, 5];
}

/** Opens a device whose region 0 is described by these answers. */
function openRegion(...answers: Array<[payload: Uint8Array, fds?: number[]]>) {
  const server = new FakeServer().agree();
  server.reply(2, Command.deviceGetInfo, words(4, 16, 0, 1, 0));
  for (const [i, [payload, fds]] of answers.entries()) {
    server.reply(3 + i, Command.deviceGetRegionInfo, payload, fds ?? []);
  }
  const connection = server.connect();
  server.heard();
  try {
    const device = new RemoteDevice(connection, "a server");
    return { device, heard: server.heard(), end: () => [device.close(), server.close()] };
  } catch (thrown) {
    connection.close();
    server.close();
    if (thrown instanceof FerryError) return { error: thrown };
    throw thrown;
  }
}

describe("what a device says about itself", () => {
  it("is asked for once, region by region and irq by irq", () => {
    const [server, device] = simpleDevice();
    expect(device.flags).toBe(DeviceFlags.mask.reset);
    expect(device.regions).toEqual([{ size: 4096, readable: true, writable: true, mmap: null }]);
    expect(device.irqs).toEqual([{ flags: 1, count: 32 }]);
    device.close();
    server.close();
  });

  it("a region with sparse areas is asked for again with room for them", () => {
    const memfd = createMemfd("region", 65_536);
    const before = openFds();
    const flags = read | write | mmap;
    const { device, heard, end } = openRegion(
      [regionInfo(0, flags, 0x8000, 80, 32)],
      [
        joined(regionInfo(0, flags | caps, 0x8000, 80, 32), sparse(2, 0, 4096, 0x2000, 0x6000)),
        [memfd],
      ],
    );
    const mapped = device?.regions[0]?.mmap;
    expect(mapped?.offset).toBe(0x8000);
    expect(mapped?.areas).toEqual([
      { offset: 0, size: 4096 },
      { offset: 0x2000, size: 0x6000 },
    ]);
    expect(mapped?.fd).toBeGreaterThan(2);
    const asked = heard?.map(({ payload }) => new DataView(payload.buffer).getUint32(0, true));
    expect(asked?.slice(1)).toEqual([RegionInfo.size, 80]);
    end?.();
    expect(openFds()).toBe(before);
    closeFd(memfd);
  });

  it("more descriptors than a region has, or one that it does not want, are closed", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const flags = read | write;
    const first = openRegion([regionInfo(0, flags | mmap, 4096), [eventfd, eventfd, eventfd]]);
    const second = openRegion([regionInfo(0, flags, 4096), [eventfd]]);
    expect(first.device?.regions[0]?.mmap).toMatchObject({ offset: 0x8000, areas: null });
    expect(second.device?.regions[0]?.mmap).toBeNull();
    first.end?.();
    second.end?.();
    expect(openFds()).toBe(before);
    closeFd(eventfd);
  });

  it("a region that says mmap and sends no descriptor cannot be mapped", () => {
    const { device, end } = openRegion([regionInfo(0, read | mmap, 4096)]);
    expect(device?.regions[0]).toEqual({
      size: 4096,
      readable: true,
      writable: false,
      mmap: null,
    });
    end?.();
  });

  const flags = read | mmap | caps;
  const broken: ReadonlyArray<[what: string, payload: Uint8Array]> = [
    ["is too short", words(4, 32, read)],
    ["is of another region", regionInfo(1, read, 4096)],
    ["needs no room at all", regionInfo(0, read, 4096, 8)],
    ["needs more room than any", regionInfo(0, read, 4096, 0xffff_ffff)],
    ["has a size beyond 2^53", joined(words(4, 32, read, 0, 0), words(4, 0, 0xffff_ffff, 0, 0))],
    ["has its capabilities outside", regionInfo(0, flags, 4096, 32, 4096)],
    ["has its capabilities in its head", regionInfo(0, flags, 4096, 32, 8)],
  ];
  for (const [what, payload] of broken) {
    it(`a region info that ${what} is refused`, () => {
      const before = openFds();
      expect(openRegion([payload]).error?.code).toBe("device-unusable");
      expect(openFds()).toBe(before);
    });
  }

  const brokenAreas: ReadonlyArray<[what: string, capability: Uint8Array]> = [
    ["more areas than there are bytes", sparse(0xffff_ffff, 0, 4096)],
    ["an area past the region's end", sparse(1, 0x1000, 0x8000)],
    ["an area whose end overflows", sparse(1, 2 ** 52, 0x1000)],
    ["a chain that goes in a circle", joined(words(2, 9, 1), words(4, 32, 0, 0), words(8, 0, 0))],
  ];
  for (const [what, capability] of brokenAreas) {
    it(`a region with ${what} is refused`, () => {
      const argsz = RegionInfo.size + capability.length;
      const info = regionInfo(0, flags, 0x8000, argsz, RegionInfo.size);
      const result = openRegion(
        [regionInfo(0, read | mmap, 0x8000, argsz)],
        [joined(info, capability)],
      );
      expect(result.error?.message).toMatch(/EPROTO/);
    });
  }

  it("a device with more regions than any is refused before one is asked for", () => {
    const server = new FakeServer().agree();
    server.reply(2, Command.deviceGetInfo, words(4, 16, 0, 0xffff_ffff, 0xffff_ffff));
    const connection = server.connect();
    expect(() => new RemoteDevice(connection, "a server")).toThrow(/cannot be used/);
    connection.close();
    server.close();
  });
});

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

describe("mappings", () => {
  const mapping = (fd: number) => ({
    iova: 0x4000,
    size: 8192,
    readable: true,
    writable: false,
    fd,
    offset: 4096,
    mayMap: true,
  });

  it("go with their file, and go away again", () => {
    const before = openFds();
    const [server, device] = simpleDevice();
    server.reply(5, Command.dmaMap);
    server.reply(6, Command.dmaUnmap, joined(words(4, 24, 0), words(8, 0x4000, 8192)));
    expect(device.mapDma(mapping(createMemfd("ram", 16_384)))).toBe(0);
    expect(device.unmapDma(0x4000, 8192)).toBe(0);
    const [map, unmap] = server.heard();
    expect(map?.payload).toEqual(
      joined(words(4, 32, DmaMapFlags.mask.read), words(8, 4096, 0x4000, 8192)),
    );
    expect(map?.fds).toHaveLength(1);
    for (const fd of map?.fds ?? []) closeFd(fd);
    expect(unmap?.payload).toEqual(joined(words(4, 24, 0), words(8, 0x4000, 8192)));
    device.close();
    server.close();
    expect(openFds()).toBe(before);
  });

  it("that may not be mapped say so", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.dmaMap);
    expect(device.mapDma({ ...mapping(createMemfd("ram", 16_384)), mayMap: false })).toBe(0);
    const [map] = server.heard();
    const { fileIo, read: reads } = DmaMapFlags.mask;
    expect(new DataView((map?.payload ?? none).buffer).getUint32(4, true)).toBe(fileIo | reads);
    for (const fd of map?.fds ?? []) closeFd(fd);
    device.close();
    server.close();
  });

  it("that the server refuses leave the file with the caller", () => {
    const [server, device] = simpleDevice();
    server.fail(5, Command.dmaMap, errno.EINVAL);
    const fd = createMemfd("ram", 16_384);
    const before = openFds();
    expect(device.mapDma(mapping(fd))).toBe(-errno.EINVAL);
    expect(openFds()).toBe(before);
    closeFd(fd);
    for (const said of server.heard()) for (const each of said.fds) closeFd(each);
    device.close();
    server.close();
  });

  it("that the memory here cannot hold are taken back from the server", () => {
    const [server, device] = simpleDevice();
    for (const id of [5, 6]) server.reply(id, Command.dmaMap);
    server.reply(7, Command.dmaUnmap);
    expect(device.mapDma(mapping(-1))).toBe(0);
    expect(device.mapDma({ ...mapping(-1), iova: 0x5000 })).toBe(-errno.EEXIST);
    expect(server.heard().at(-1)).toMatchObject({ command: Command.dmaUnmap });
    device.close();
    server.close();
  });

  it("all go with one message, or one by one where the server does not know it", () => {
    const [server, device] = simpleDevice();
    for (const id of [5, 6]) server.reply(id, Command.dmaMap);
    server.fail(7, Command.dmaUnmap, errno.EINVAL);
    for (const id of [8, 9]) server.reply(id, Command.dmaUnmap);
    server.reply(10, Command.dmaUnmap);
    expect(device.mapDma(mapping(-1))).toBe(0);
    expect(device.mapDma({ ...mapping(-1), iova: 0x10_0000 })).toBe(0);
    server.heard();
    expect(device.unmapAllDma()).toBe(0);
    const { all } = DmaUnmapFlags.mask;
    const flags = server
      .heard()
      .map(({ payload }) => new DataView(payload.buffer).getUint32(4, true));
    expect(flags).toEqual([all, 0, 0]);
    expect(device.unmapAllDma()).toBe(0);
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

describe("ioeventfds", () => {
  /** offset size, fdIndex type flags padding, datamatch. */
  const entry = (offset: number, fdIndex: number, type = 0, flags = 0, datamatch = 0) =>
    joined(words(8, offset, 4), words(4, fdIndex, type, flags, 0), words(8, datamatch));

  it("come with their descriptors, one each; other kinds are left out", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const [server, device] = simpleDevice();
    const head = (count: number) => words(4, 16 + 40 * count, 0, 0, count);
    server.reply(5, Command.deviceGetRegionIoFds, head(4));
    const entries = [entry(0, 0), entry(8, 0, 0, 1, 7), entry(16, 0, 1), entry(24, 9)];
    server.reply(6, Command.deviceGetRegionIoFds, joined(head(4), ...entries), [eventfd]);
    const found = device.ioEventfds(0);
    expect(found).toMatchObject([
      { offset: 0, size: 4, datamatch: null },
      { offset: 8, size: 4, datamatch: 7n },
      { offset: 24, size: 4, fd: -1 },
    ]);
    expect(found[0]?.fd).not.toBe(found[1]?.fd);
    for (const { fd } of found) closeFd(fd);
    device.close();
    server.close();
    expect(openFds()).toBe(before);
    closeFd(eventfd);
  });

  it("of a server that promises more than any are none", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.deviceGetRegionIoFds, words(4, 16, 0, 0, 0xffff_ffff));
    server.fail(6, Command.deviceGetRegionIoFds, errno.EINVAL);
    expect(device.ioEventfds(0)).toEqual([]);
    expect(device.ioEventfds(0)).toEqual([]);
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
