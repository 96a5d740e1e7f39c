/** A device on another host, whose server says what a test wants it to say. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { Connection } from "../../src/client/connection.ts";
import { RelayDevice } from "../../src/client/relay-device.ts";
import type { DmaMapping, IrqRequest } from "../../src/device/vfio-device.ts";
import {
  DeviceFlags,
  Feature,
  FeatureFlags,
  IrqSetFlags,
  RegionFlags,
} from "../../src/spec/vfio.ts";
import { Command, interruptEntriesMax, OwnCommand } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../../src/sys/descriptors.ts";
import { defaultLimits } from "../../src/wire/negotiate.ts";
import { FakeServer, joined, openFds, type Said, words } from "./fake-server.ts";
import { regionInfo } from "./simple-device.ts";

const [msix, err] = [2, 3];
const { dataEventfd, dataNone, actionTrigger, actionMask, actionUnmask } = IrqSetFlags.mask;
const limits = { ...defaultLimits, irqMessages: true, maxMsgFds: 8 };
const none: Uint8Array = new Uint8Array(0);
const remote = { remote: true, timeoutMs: 200 } as const;
const readReply = joined(words(8, 0), words(4, 0, 4, 0x1234));

/** Vectors by index; the next message id is 10. */
const usual = [1, 0, 4, 1, 1] as const;

function scripted(
  compatibility: Uint8Array | null = null,
  vectors: readonly number[] = usual,
): [FakeServer, Connection] {
  const server = new FakeServer().agree(limits);
  const { read, write } = RegionFlags.mask;
  server.reply(2, Command.deviceGetInfo, words(4, 16, DeviceFlags.mask.reset, 1, vectors.length));
  server.reply(3, Command.deviceGetRegionInfo, regionInfo(0, read | write, 4096));
  for (const [index, count] of vectors.entries()) {
    server.reply(4 + index, Command.deviceGetIrqInfo, words(4, 16, 1, index, count));
  }
  if (compatibility === null) server.fail(9, Command.deviceFeature, errno.ENOTTY);
  else server.reply(9, Command.deviceFeature, joined(words(4, 8, 0), compatibility));
  return [server, server.connect(remote)];
}

const deviceOf = (link: Connection): RelayDevice => new RelayDevice(link, "the other host's");

const wire = (index: number, start: number, fds: readonly number[], count = fds.length) => ({
  ...{ index, start, count, fds, data: dataEventfd, action: actionTrigger },
  ...{ bytes: none, boolsAt: 0 },
});

const mapping = (iova: number): DmaMapping => ({
  ...{ iova, size: 4096, readable: true, writable: true, fd: -1, offset: 0, mayMap: false },
});

const look = (device: RelayDevice): void => device.watches[0]?.ready();

let server: FakeServer;
let device: RelayDevice;
let connection: Connection;
let hungUp: boolean;
let before: number;
const eventfds: number[] = [];

function eventfd(): number {
  const fd = createEventfd();
  eventfds.push(fd);
  return fd;
}

/** Wires a vector and tells the eventfd: the request has the next id. */
function wired(id: number, index: number, vector: number): number {
  const fd = eventfd();
  server.reply(id, Command.deviceSetIrqs, none);
  expect(device.setIrqs(wire(index, vector, [duplicate(fd)]))).toBe(0);
  return fd;
}

beforeEach(() => {
  before = openFds();
  [server, connection] = scripted();
  device = deviceOf(connection);
  server.heard();
  hungUp = false;
});

afterEach(() => {
  device.detach();
  connection.close();
  if (!hungUp) server.close();
  for (const fd of eventfds.splice(0)) closeFd(fd);
  expect(openFds()).toBe(before);
});

const bytes = new Uint8Array(16);
const readRegister = (): number => device.read(0, 0, bytes, 0, 4);

/** The device has failed: nothing is waited for any more, and a VMM is not stopped by errors. */
function isLost(): void {
  server.heard();
  expect(readRegister()).toBe(-errno.EIO);
  expect(device.write(0, 0, bytes, 0, 4)).toBe(0);
  expect(device.reset()).toBe(-errno.EIO);
  expect(device.mapDma(mapping(0x9000))).toBe(-errno.EIO);
  const get = FeatureFlags.mask.get | Feature.migration;
  expect(device.feature(get, bytes, 0, 8, 8)).toBe(-errno.EIO);
  expect(device.setIrqs(wire(msix, 0, [createEventfd()]))).toBe(-errno.EIO);
  expect(device.unmapAllDma()).toBe(0);
  expect(device.watches).toEqual([]);
  expect(device.busy).toBe(false);
  expect(server.heard()).toEqual([]);
}

describe("a server that serves no relay", () => {
  it.each([
    ["has no interrupts by messages", { ...limits, irqMessages: false }],
    ["takes little in a message", { ...limits, maxDataXferSize: 4096 }],
  ])("%s, and is left", (_, offered) => {
    const other = new FakeServer().agree(offered);
    expect(() => other.connect(remote)).toThrow(/^the server serves no device to another host\.$/);
    other.close();
  });
});

it("a device with more vectors than any function has is not believed", () => {
  const [other, link] = scripted(null, [1, 0, 2 ** 32 - 1, 1, 1]);
  expect(() => deviceOf(link)).toThrow(/has 4294967295 interrupts of one kind\.$/);
  link.close();
  other.close();
});

describe("what a server says of its device's state", () => {
  const text = (of: unknown): Uint8Array => new TextEncoder().encode(JSON.stringify(of));
  const facts = { queues: 256 };
  const said = { driver: "d", version: 1, oldestVersion: 1, vendor: 1, device: 2, revision: 3 };

  it("is what a swap compares", () => {
    const [other, link] = scripted(text({ ...said, facts }));
    expect(deviceOf(link).compatibility).toEqual({ ...said, facts });
    expect(device.compatibility).toBeNull();
    link.close();
    other.close();
  });

  it.each([
    [65_536, true],
    [65_537, false],
  ])("is read when it has %i bytes: %s", (length, isRead) => {
    const bytesSaid = new Uint8Array(length).fill(0x20);
    bytesSaid.set(text({ ...said, facts }));
    const [other, link] = scripted(bytesSaid);
    expect(deviceOf(link).compatibility !== null).toBe(isRead);
    link.close();
    other.close();
  });

  it.each([
    ["no JSON", text(said).subarray(1)],
    ["without facts", text(said)],
    ["with a number that is none", text({ ...said, facts, vendor: -1 })],
  ])("is not believed when it is %s", (_, bytesSaid) => {
    const [other, link] = scripted(bytesSaid);
    expect(() => deviceOf(link)).toThrow(/does not say what its device's state is\.$/);
    link.close();
    other.close();
  });
});

describe("what is made of descriptors", () => {
  const sent = (id: number): Said[] => {
    server.reply(id, Command.dmaMap, none);
    return server.heard();
  };

  it("stays here: a mapping goes without its file, an eventfd as a byte", () => {
    sent(10);
    const { memory } = device;
    expect(device.mapDma({ ...mapping(0x1000), fd: createEventfd() })).toBe(0);
    const [map] = server.heard();
    expect(map).toMatchObject({ command: Command.dmaMap, fds: [] });
    expect(map?.payload).toEqual(joined(words(4, 32, 3), words(8, 0, 0x1000, 4096)));
    expect(memory.mapCount).toBe(1);
    server.reply(11, Command.deviceSetIrqs, none);
    expect(device.setIrqs(wire(msix, 1, [createEventfd(), createEventfd()]))).toBe(0);
    const [set] = server.heard();
    const head = words(4, 22, dataEventfd | actionTrigger, msix, 1, 2);
    expect(set).toMatchObject({ command: Command.deviceSetIrqs, fds: [] });
    expect(set?.payload).toEqual(joined(head, Uint8Array.of(1, 1)));
    server.reply(12, Command.deviceSetIrqs, none);
    expect(device.setIrqs(wire(msix, 2, [], 1))).toBe(0);
    expect(server.heard()[0]?.payload).toEqual(
      words(4, 20, dataEventfd | actionTrigger, msix, 2, 1),
    );
    expect(device.wiring()?.irqs.map(({ vector }) => vector)).toEqual([1]);
  });

  it("is only eventfds, and an eventfd that is refused over there leaves the one before it", () => {
    const [notOne] = [duplicate(0)];
    expect(device.setIrqs(wire(msix, 0, [notOne as number]))).toBe(-errno.EINVAL);
    const first = wired(10, msix, 0);
    server.fail(11, Command.deviceSetIrqs, errno.ENOSPC);
    expect(device.setIrqs(wire(msix, 0, [createEventfd()]))).toBe(-errno.ENOSPC);
    server.command(0, OwnCommand.interrupt, words(4, msix, 0, 2));
    look(device);
    expect(drainEventfd(first)).toBe(2);
  });
});

describe("an interrupt by message", () => {
  it("signals its eventfd as often as it was raised, also ahead of a reply", () => {
    const [first, second] = [wired(10, msix, 0), wired(11, msix, 3)];
    server.command(0, OwnCommand.interrupt, words(4, msix, 0, 7, msix, 3, 1));
    look(device);
    expect([drainEventfd(first), drainEventfd(second)]).toEqual([7, 1]);
    server.command(0, OwnCommand.interrupt, words(4, msix, 3, 0xffff_ffff));
    server.reply(12, Command.regionRead, readReply);
    expect(readRegister()).toBe(4);
    expect(drainEventfd(second)).toBe(0xffff_ffff);
  });

  it("of a vector without an eventfd is nobody's", () => {
    server.command(0, OwnCommand.interrupt, words(4, msix, 2, 1));
    server.reply(10, Command.regionRead, readReply);
    expect(readRegister()).toBe(4);
  });

  it("of a line that is held waits until it is let be", () => {
    const line = wired(10, 0, 0);
    expect(device.holdLine(true)).toEqual({ up: false, quiet: null });
    server.command(0, OwnCommand.interrupt, words(4, 0, 0, 1));
    look(device);
    expect(drainEventfd(line)).toBe(0);
    expect(device.holdLine(true).up).toBe(false);
    expect(device.holdLine(false).up).toBe(true);
    expect(drainEventfd(line)).toBe(1);
    device.holdLine(false);
    expect(drainEventfd(line), "once").toBe(0);
  });

  it("of the line masks it, as the server has; the unmask eventfd is passed on", () => {
    const line = wired(10, 0, 0);
    const unmask = eventfd();
    const request: IrqRequest = { ...wire(0, 0, [duplicate(unmask)]), action: actionUnmask };
    expect(device.setIrqs(request)).toBe(0);
    server.command(0, OwnCommand.interrupt, words(4, 0, 0, 1));
    look(device);
    expect(drainEventfd(line)).toBe(1);
    expect(device.wiring()?.irqs[0]).toMatchObject({ index: 0, masked: true });
    server.heard();
    server.reply(11, Command.deviceSetIrqs, none);
    drainEventfd(unmask);
    expect(device.watches).toHaveLength(2);
    device.setIrqs({ ...wire(0, 0, [], 1), data: dataNone, action: actionUnmask });
    expect(server.heard()[0]?.payload).toEqual(words(4, 20, dataNone | actionUnmask, 0, 0, 1));
    expect(device.wiring()?.irqs[0]).toMatchObject({ masked: false });
    server.reply(12, Command.deviceSetIrqs, none);
    device.setIrqs({ ...wire(0, 0, [], 1), data: dataNone, action: actionMask });
    expect(device.wiring()?.irqs[0]).toMatchObject({ masked: true });
    server.reply(13, Command.deviceSetIrqs, none);
    server.reply(14, Command.dmaUnmap, words(4, 24, 2, 0, 0, 0, 0));
  });

  it.each([
    ["an index that is not there", words(4, 5, 0, 1)],
    ["an index without vectors", words(4, 1, 0, 1)],
    ["a vector beyond the last", words(4, msix, 4, 1)],
    ["nothing raised", words(4, msix, 0, 0)],
    ["half an entry", words(4, msix, 0)],
    ["no entry", none],
    ["more entries than can be", words(4, ...Array(3 * (interruptEntriesMax + 1)).fill(0))],
  ])("with %s ends the link, and the VMM is told", (_, payload) => {
    const notice = wired(10, err, 0);
    server.command(0, OwnCommand.interrupt, payload);
    look(device);
    expect(drainEventfd(notice)).toBe(1);
    isLost();
  });
});

describe("a server that makes no sense", () => {
  it("answers a read with too little: the device has failed", () => {
    server.reply(10, Command.regionRead, words(8, 0));
    expect(readRegister()).toBe(-errno.EIO);
    isLost();
  });

  it("says nothing: it is waited for once", () => {
    const notice = wired(10, err, 0);
    expect(readRegister()).toBe(-errno.EIO);
    expect(drainEventfd(notice)).toBe(1);
    isLost();
  });

  it("hangs up", () => {
    server.close();
    hungUp = true;
    look(device);
    expect(readRegister()).toBe(-errno.EIO);
    expect(device.watches).toEqual([]);
  });

  it("keeps memory that the VMM takes away: it is gone here, and so is the link", () => {
    server.reply(10, Command.dmaMap, none);
    expect(device.mapDma(mapping(0x1000))).toBe(0);
    server.fail(11, Command.dmaUnmap, errno.EBUSY);
    expect(device.unmapDma(0x1000, 4096)).toBe(0);
    expect(device.memory.mapCount).toBe(0);
    isLost();
  });

  it("refuses to let go of all memory at once: likewise", () => {
    server.reply(10, Command.dmaMap, none);
    expect(device.mapDma(mapping(0x1000))).toBe(0);
    server.fail(11, Command.dmaUnmap, errno.EINVAL);
    expect(device.unmapAllDma()).toBe(0);
    expect(device.memory.mapCount).toBe(0);
    isLost();
  });

  it("may refuse what a VMM asks wrongly, and all goes on", () => {
    server.fail(10, Command.dmaUnmap, errno.ENOENT);
    expect(device.unmapDma(0x1000, 4096)).toBe(-errno.ENOENT);
    server.fail(11, Command.dmaMap, errno.EEXIST);
    expect(device.mapDma(mapping(0x1000))).toBe(-errno.EEXIST);
    server.reply(12, Command.regionRead, readReply);
    expect(readRegister()).toBe(4);
  });
});

describe("a device that changes its server", () => {
  it("takes no client that rings by eventfds, or has mapped what it cannot have", () => {
    const fds = [createEventfd(), createEventfd(), createEventfd()] as const;
    const irq = { index: msix, vector: 0, trigger: fds[0], unmask: -1, masked: false };
    const bell = { region: 0, offset: 0, size: 4, fd: fds[1], datamatch: null };
    const mappings = [{ ...mapping(0x1000), fd: fds[2] }];
    const wiring = { mappings, irqs: [irq], ioEventfds: [bell], files: [] };
    expect(device.wire(wiring)).toBe(-errno.EOPNOTSUPP);
    const file = { region: 0, fd: createEventfd() };
    const another = { mappings: [], irqs: [], ioEventfds: [], files: [file] };
    expect(device.wire(another)).toBe(-errno.EOPNOTSUPP);
  });

  it("closes what does not fit", () => {
    const fd = createEventfd();
    const irq = { index: msix, vector: 9, trigger: fd, unmask: -1, masked: false };
    const mappings = [{ ...mapping(0x1000), fd: createEventfd() }];
    const wiring = { mappings, irqs: [irq], ioEventfds: [], files: [] };
    expect(device.wire(wiring)).toBe(-errno.EINVAL);
  });
});
