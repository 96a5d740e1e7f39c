/** The client against `ferry serve bench`: what a driver does, over one socket and over two. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Connection } from "../../src/client/connection.ts";
import { GuestRam } from "../../src/client/guest-ram.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import type { MigrationSink } from "../../src/device/vfio-device.ts";
import {
  Feature,
  FeatureFlags,
  IrqSetFlags,
  MigState,
  PciIrq,
  PciRegion,
} from "../../src/spec/vfio.ts";
import { Command, OwnFeature } from "../../src/spec/vfio-user.ts";
import { POLLIN } from "../../src/sys/constants.ts";
import {
  closeFd,
  createEventfd,
  drainEventfd,
  duplicate,
  signalEventfd,
} from "../../src/sys/descriptors.ts";
import { PollSet } from "../../src/sys/poll.ts";
import { Window } from "../../src/sys/window.ts";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import { connectWhenFree } from "./connect-when-free.ts";
import { openFds } from "./fake-server.ts";

/** The bench device's registers in BAR0. */
const Register = { doorbell: 0x80, iova: 0x100, command: 0x110, status: 0x114, seen: 0x120 };
const Dma = { mappedRead: 1, mappedFill: 2, readMessages: 3, writeMessages: 4 };
const fillByte = 0x5a;
const mebi = 1024 * 1024;

const folder = temporaryFolder();
const path = join(folder.path, "bench.sock");
let server: Ferry;

beforeAll(async () => {
  server = await Ferry.start(["bench", "--socket-path", path, "--set", "stateMiB=2"]);
});
afterAll(async () => {
  await server.stop();
  folder[Symbol.dispose]();
});

/** A driver of the bench device. */
class Driver {
  readonly device: RemoteDevice;
  readonly bytes = new Uint8Array(4 * mebi);
  readonly view = new DataView(this.bytes.buffer);

  constructor(twinSocket: boolean) {
    const connection = connectWhenFree(path, { twinSocket });
    this.device = new RemoteDevice(connection, "bench");
    expect(connection.twinFd >= 0).toBe(twinSocket);
  }

  read(offset: number): number {
    expect(this.device.read(0, offset, this.bytes, 0, 4)).toBe(4);
    return this.view.getUint32(0, true);
  }

  write(offset: number, value: number): void {
    this.view.setUint32(0, value, true);
    expect(this.device.write(0, offset, this.bytes, 0, 4)).toBe(4);
  }

  /** One DMA command of the device; serves its messages until it has ended. */
  dma(command: number, iova: number, length: number): number {
    this.view.setBigUint64(0, BigInt(iova), true);
    this.view.setUint32(8, length, true);
    this.view.setUint32(12, 1, true);
    expect(this.device.write(0, Register.iova, this.bytes, 0, 16)).toBe(16);
    this.write(Register.command, command);
    const poll = new PollSet(2);
    for (const { fd } of this.device.watches) poll.add(fd, POLLIN);
    for (;;) {
      const status = this.read(Register.status) | 0;
      if (status !== -errno.EINPROGRESS && status !== errno.EINPROGRESS) return status;
      poll.wait(10);
      expect(this.device.connection.poll()).toBe(0);
    }
  }

  close(): void {
    this.device.close();
  }
}

const kinds = [
  ["one socket", false],
  ["a twin socket", true],
] as const;

for (const [sockets, twin] of kinds) {
  describe(`a driver over ${sockets}`, () => {
    it("reads and writes regions of any length", () => {
      const driver = new Driver(twin);
      const { device, bytes } = driver;
      const length = mebi - 0x1000;
      for (let i = 0; i < length; i++) bytes[i] = (i * 13) & 255;
      const wanted = Buffer.from(bytes.subarray(0, length));
      expect(device.write(0, 0x1000, bytes, 0, length)).toBe(length);
      bytes.fill(0);
      expect(device.read(0, 0x1000, bytes, 1, length)).toBe(length);
      expect(wanted.equals(bytes.subarray(1, 1 + length))).toBe(true);
      const writes = [1, 2, 3].map((n) => ({
        region: 0,
        offset: 0x2000 + 8 * n,
        count: 8,
        data: BigInt(n),
      }));
      expect(device.writeMultiple(writes)).toBe(3);
      expect([driver.read(0x2008), driver.read(0x2010), driver.read(0x2018)]).toEqual([1, 2, 3]);
      expect(device.read(0, mebi, bytes, 0, 4)).toBe(-errno.EINVAL);
      expect(device.read(PciRegion.rom, 0, bytes, 0, 4)).toBe(-errno.EINVAL);
      driver.close();
    });

    it("pipelines requests and takes their replies in any order", () => {
      const driver = new Driver(twin);
      const { connection } = driver.device;
      const ids: number[] = [];
      for (let i = 0; i < 64; i++) {
        driver.write(0x1000 + 4 * i, 1000 + i);
      }
      for (let i = 0; i < 64; i++) {
        expect(connection.prepare(16)).toBe(0);
        connection.requestView.setBigUint64(16, BigInt(0x1000 + 4 * i), true);
        connection.requestView.setUint32(24, 0, true);
        connection.requestView.setUint32(28, 4, true);
        ids.push(connection.send(9, 16, 20));
      }
      const order = ids.map((_, i) => (i * 37) % 64);
      for (const i of order) {
        expect(connection.wait(ids[i] as number)).toBe(20);
        expect(connection.replyView.getUint32(connection.replyAt + 16, true)).toBe(1000 + i);
      }
      expect(connection.outstanding).toBe(0);
      driver.close();
    });

    it("is interrupted on every vector, and not after the wiring is gone", () => {
      const driver = new Driver(twin);
      const eventfds = Array.from({ length: 32 }, () => createEventfd());
      const { dataEventfd, dataNone, actionTrigger } = IrqSetFlags.mask;
      const vectors = { index: PciIrq.msix, start: 0, bytes: driver.bytes, boolsAt: 0 };
      const wire = { ...vectors, count: 32, data: dataEventfd, action: actionTrigger };
      expect(driver.device.setIrqs({ ...wire, fds: eventfds.map(duplicate) })).toBe(0);
      for (let vector = 0; vector < 32; vector++) driver.write(Register.doorbell, vector);
      expect(eventfds.map(drainEventfd)).toEqual(eventfds.map(() => 1));
      const disable = { ...vectors, count: 0, data: dataNone, action: actionTrigger, fds: [] };
      expect(driver.device.setIrqs(disable)).toBe(0);
      driver.write(Register.doorbell, 3);
      expect(drainEventfd(eventfds[3] as number)).toBe(0);
      for (const eventfd of eventfds) closeFd(eventfd);
      driver.close();
    });

    it("rings a doorbell without a message, by its ioeventfds", () => {
      const driver = new Driver(twin);
      const eventfd = createEventfd();
      const { dataEventfd, actionTrigger } = IrqSetFlags.mask;
      const vector = { index: PciIrq.msix, start: 2, count: 1, bytes: driver.bytes, boolsAt: 0 };
      const wire = { ...vector, data: dataEventfd, action: actionTrigger };
      expect(driver.device.setIrqs({ ...wire, fds: [duplicate(eventfd)] })).toBe(0);
      const bells = driver.device.ioEventfds(0);
      const place = { offset: Register.doorbell, size: 4 };
      expect(bells).toMatchObject([0n, 1n, 2n, 3n].map((datamatch) => ({ ...place, datamatch })));
      const bell = bells.find(({ datamatch }) => datamatch === 2n);
      expect(signalEventfd(bell?.fd ?? -1)).toBe(8);
      const poll = new PollSet(1);
      poll.add(eventfd, POLLIN);
      expect(poll.wait(20_000)).toBe(1);
      expect(drainEventfd(eventfd)).toBe(1);
      for (const fd of [eventfd, ...bells.map((each) => each.fd)]) closeFd(fd);
      driver.close();
    });

    it("has its memory read and written, mapped and by messages", () => {
      const driver = new Driver(twin);
      const { device } = driver;
      const ram = new GuestRam(4 * mebi);
      device.attach(ram);
      const length = 3 * mebi;
      expect(ram.map(device, 0x10_0000)).toBe(0);
      ram.bytes[0] = 0x5c;
      expect(driver.dma(Dma.mappedRead, 0x10_0000, length)).toBe(0);
      expect(driver.read(Register.seen)).toBe(0x5c);
      expect(driver.dma(Dma.mappedFill, 0x10_0000, length)).toBe(0);
      expect(ram.bytes.subarray(0, length).every((byte) => byte === fillByte)).toBe(true);
      expect(ram.bytes[length]).toBe(0);
      expect(ram.unmap(device, 0x10_0000)).toBe(0);

      const served = device.connection.commandsServed;
      expect(ram.map(device, 0x8000_0000, 0, 4 * mebi, { shared: false })).toBe(0);
      ram.bytes.fill(0);
      ram.bytes[0] = 0x3b;
      expect(driver.dma(Dma.readMessages, 0x8000_0000, length)).toBe(0);
      expect(driver.read(Register.seen)).toBe(0x3b);
      expect(driver.dma(Dma.writeMessages, 0x8000_0000, length)).toBe(0);
      expect(ram.bytes.subarray(0, length).every((byte) => byte === fillByte)).toBe(true);
      expect(ram.bytes[length]).toBe(0);
      expect(device.connection.commandsServed - served).toBe(6);
      expect(driver.dma(Dma.readMessages, 0x9000_0000, 4096)).not.toBe(0);
      expect(device.unmapAllDma()).toBe(0);
      expect(device.unmapDma(0x8000_0000, 4 * mebi)).toBe(-errno.ENOENT);
      driver.close();
      ram.close();
    });

    it("sees a mapped region and the messages' side of it as one", () => {
      const driver = new Driver(twin);
      const { device, bytes } = driver;
      const offer = device.regions[1]?.mmap;
      const [area] = offer?.areas ?? [];
      expect(area).toEqual({ offset: 0x1000, size: 0x4000 });
      const window = Window.reserve(0x4000) as Window;
      expect(window.lay(offer?.fd ?? -1, (offer?.offset ?? 0) + 0x1000, 0x4000, true)).toBe(0);
      window.view.setUint32(0x10, 0xfeed_beef, true);
      expect(device.read(1, 0x1010, bytes, 0, 4)).toBe(4);
      expect(driver.view.getUint32(0, true)).toBe(0xfeed_beef);
      driver.view.setUint32(0, 77, true);
      expect(device.write(1, 0x1020, bytes, 0, 4)).toBe(4);
      expect(window.view.getUint32(0x20, true)).toBe(77);
      window.blank();
      driver.close();
    });

    it("takes a device's state out, puts it back in, and finds it there", () => {
      const driver = new Driver(twin);
      const { device, bytes, view } = driver;
      const setState = (state: MigState): number => {
        view.setUint32(0, state, true);
        return device.feature(FeatureFlags.mask.set | Feature.migDeviceState, bytes, 0, 8, 8);
      };
      driver.write(0x3000, 0xcafe);
      expect(setState(MigState.stopCopy)).toBeGreaterThanOrEqual(0);
      const parts: Buffer[] = [];
      const sink: MigrationSink = { bytes, at: 0, lend: () => expect.fail("nothing is lent") };
      for (;;) {
        const got = device.readMigration(sink, 300_000);
        expect(got).toBeGreaterThanOrEqual(0);
        parts.push(Buffer.from(bytes.subarray(0, got)));
        if (got < 300_000) break;
      }
      const state = Buffer.concat(parts);
      expect(state.length).toBeGreaterThanOrEqual(2 * mebi);
      expect(setState(MigState.stop)).toBeGreaterThanOrEqual(0);
      expect(setState(MigState.running)).toBeGreaterThanOrEqual(0);
      driver.write(0x3000, 0);
      expect(setState(MigState.resuming)).toBeGreaterThanOrEqual(0);
      expect(device.writeMigration(state, 0, state.length)).toBe(state.length);
      expect(setState(MigState.running)).toBeGreaterThanOrEqual(0);
      expect(driver.read(0x3000)).toBe(0xcafe);
      expect(device.reset()).toBe(0);
      driver.close();
    });

    it("leaves nothing open behind it", () => {
      new Driver(twin).close();
      const before = openFds();
      for (let i = 0; i < 3; i++) {
        const driver = new Driver(twin);
        const ram = new GuestRam(mebi);
        expect(ram.map(driver.device, 0)).toBe(0);
        driver.device.detach();
        driver.close();
        ram.close();
      }
      expect(openFds()).toBe(before);
    });
  });
}

describe("what PRE_COPY has still to send", () => {
  it("is told to a client that asked for it in VERSION", () => {
    const connection = connectWhenFree(path, { precopyInfo: true, twinSocket: true });
    expect(connection.server).toMatchObject({ precopyInfo: true, twinSocket: true });
    const device = new RemoteDevice(connection, "bench");
    const setState = (state: MigState): number => {
      const word = Uint8Array.of(state, 0, 0, 0, 0, 0, 0, 0);
      return device.feature(FeatureFlags.mask.set | Feature.migDeviceState, word, 0, 8, 8);
    };
    expect(device.reset()).toBe(0);
    expect(device.precopyInfo()).toBe(-errno.EINVAL);
    expect(setState(MigState.preCopy)).toBe(8);
    const before = device.precopyInfo() as { initialBytes: number };
    expect(before.initialBytes).toBeGreaterThan(2 * mebi);
    const bytes = new Uint8Array(mebi);
    const sink: MigrationSink = { bytes, at: 0, lend: () => expect.fail("nothing is lent") };
    expect(device.readMigration(sink, mebi)).toBe(mebi);
    const after = { initialBytes: before.initialBytes - mebi, dirtyBytes: 0 };
    expect(device.precopyInfo()).toEqual(after);
    expect(setState(MigState.running)).toBe(8);
    device.close();
  });

  it("is ENOTTY for one that did not, even if it knows the number", () => {
    const client = connectWhenFree(path);
    const prepared = client.prepare(8);
    expect(prepared).toBe(0);
    const flags = FeatureFlags.mask.get | OwnFeature.precopyInfo;
    client.requestView.setUint32(client.requestAt, 32, true);
    client.requestView.setUint32(client.requestAt + 4, flags, true);
    expect(client.call(Command.deviceFeature, 8, 32)).toBe(-errno.ENOTTY);
    client.close();
  });
});

describe("a server that is killed", () => {
  it("is ENOTCONN for its client, which can then be closed", async () => {
    const killedPath = join(folder.path, "killed.sock");
    await using killed = await Ferry.start(["bench", "--socket-path", killedPath]);
    const connection = Connection.connect(killedPath, { timeoutMs: 20_000 });
    const device = new RemoteDevice(connection, "bench");
    killed.process.kill("SIGKILL");
    await killed.exited;
    expect(device.read(0, 0, new Uint8Array(4), 0, 4)).toBe(-errno.ENOTCONN);
    expect(connection.failure).toMatch(/closed the connection/);
    device.detach();
    device.close();
  });
});
