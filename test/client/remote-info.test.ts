/** What a server says about its device: asked for, believed only as far as it holds together. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { FerryError } from "../../src/base/errors.ts";
import { regionInfoBytesMax } from "../../src/client/region-info.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { ioEventfdsMax, irqsMax, regionsMax } from "../../src/client/remote-info.ts";
import { DeviceFlags, RegionFlags, RegionInfo } from "../../src/spec/vfio.ts";
import { Command } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, createMemfd } from "../../src/sys/descriptors.ts";
import { FakeServer, joined, openFds, words } from "./fake-server.ts";
import { regionInfo, simpleDevice } from "./simple-device.ts";

const { read, write, mmap, caps } = RegionFlags.mask;

/** A sparse mmap capability: id version next, areas, reserved, then the areas. */
const sparse = (count: number, ...areas: number[]): Uint8Array =>
  joined(words(2, 1, 1), words(4, 0, count, 0), words(8, ...areas));

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

/** A server whose device has so many regions and interrupt indices, each of which it tells. */
function openMany(regions: number, irqs: number): RemoteDevice {
  const server = new FakeServer().agree();
  server.reply(2, Command.deviceGetInfo, words(4, 16, 0, regions, irqs));
  for (let i = 0; i < regions; i++) {
    server.reply(3 + i, Command.deviceGetRegionInfo, regionInfo(i, read, 4096));
  }
  for (let i = 0; i < irqs; i++) {
    server.reply(3 + regions + i, Command.deviceGetIrqInfo, words(4, 16, 1, i, 1));
  }
  const connection = server.connect();
  try {
    return new RemoteDevice(connection, "a server");
  } finally {
    server.close();
  }
}

describe("what a device may say about itself at most", () => {
  it(`is ${regionsMax} regions and ${irqsMax} interrupt indices`, () => {
    const device = openMany(regionsMax, irqsMax);
    expect([device.regions.length, device.irqs.length]).toEqual([128, 64]);
    device.close();
    expect(() => openMany(regionsMax + 1, irqsMax)).toThrow("129 regions) with EPROTO");
    expect(() => openMany(regionsMax, irqsMax + 1)).toThrow("EPROTO");
  });

  it(`is ${regionInfoBytesMax} bytes of a region`, () => {
    const cut = (argsz: number) => openRegion([regionInfo(0, read, 4096, argsz)]);
    const whole = regionInfo(0, read, 4096, regionInfoBytesMax);
    const { device, end } = openRegion([whole], [joined(whole, new Uint8Array(16_352))]);
    expect(device?.regions[0]?.size).toBe(4096);
    end?.();
    expect(cut(regionInfoBytesMax + 1).error?.message).toContain("EPROTO");
  });

  it(`is ${ioEventfdsMax} ioeventfds of a region`, () => {
    const [server, device] = simpleDevice();
    const head = (count: number) => words(4, 16 + 40 * count, 0, 0, count);
    const all = Array.from({ length: ioEventfdsMax }, () => words(8, 0, 4, 0, 0, 0));
    server.reply(5, Command.deviceGetRegionIoFds, head(ioEventfdsMax));
    server.reply(6, Command.deviceGetRegionIoFds, joined(head(ioEventfdsMax), ...all));
    server.reply(7, Command.deviceGetRegionIoFds, head(ioEventfdsMax + 1));
    expect(device.ioEventfds(0)).toHaveLength(512);
    expect(device.ioEventfds(0)).toEqual([]);
    expect(server.heard()).toHaveLength(3);
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
