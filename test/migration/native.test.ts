import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { HelloDevice } from "../../src/devices/hello/hello.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { NativeDriver } from "../../src/migration/drivers/native.ts";
import { Migratable } from "../../src/migration/migratable.ts";
import {
  Feature,
  FeatureFlags,
  FeatureMigState,
  MigState,
  PciRegion,
} from "../../src/spec/vfio.ts";
import { load, move, save, TestClock } from "./operator.ts";

const scratchAt = 0x2c;

function hello(withMsix = true): Migratable {
  const device = new HelloDevice(false, withMsix);
  const planes = { guest: device, control: device, memory: new GuestMemory() };
  return new Migratable(planes, new NativeDriver(planes), new TestClock().now);
}

const write = (device: Migratable, value: number): number =>
  device.write(PciRegion.bar0, scratchAt, Uint8Array.of(value, 0, 0, 0), 0, 4);

function read(device: Migratable): number {
  const bytes = new Uint8Array(4);
  const result = device.read(PciRegion.bar0, scratchAt, bytes, 0, 4);
  return result < 0 ? result : (bytes[0] as number);
}

function setState(device: Migratable, deviceState: number): number {
  const bytes = new Uint8Array(FeatureMigState.size);
  FeatureMigState.set(new DataView(bytes.buffer), 0, { deviceState, dataFd: -1 });
  const flags = FeatureFlags.mask.set | Feature.migDeviceState;
  return device.feature(flags, bytes, 0, bytes.length, bytes.length);
}

describe("a device that has VFIO's migration itself", () => {
  it("moves from one process's device to another's, with its registers", () => {
    const [a, b] = [hello(), hello()];
    write(a, 77);
    expect(load(b, save(a), 1000).result).toBe(0);
    expect(move(b, MigState.running).result).toBe(0);
    expect(read(b)).toBe(77);
  });

  it("can be saved again and again, and goes on at the source", () => {
    const a = hello();
    write(a, 5);
    const first = save(a);
    expect(move(a, MigState.stop).result).toBe(0);
    const second = save(a);
    expect(second.length).toBe(first.length);
    expect(move(a, MigState.running).result).toBe(0);
    expect(read(a)).toBe(5);
    expect(write(a, 6)).toBe(0);
    expect(read(a)).toBe(6);
  });

  it("has its guest's plane closed while it stands still", () => {
    const a = hello();
    write(a, 5);
    save(a);
    expect(read(a)).toBe(-errno.EIO);
    expect(write(a, 6)).toBe(0);
    move(a, MigState.running);
    expect(read(a)).toBe(5);
  });

  it("refuses a damaged stream with a sentence and stays usable", () => {
    const [a, b] = [hello(), hello()];
    write(a, 9);
    const stream = save(a);
    const damaged = stream.slice();
    damaged[5000] = (damaged[5000] as number) ^ 1;
    expect(load(b, damaged).result).toBe(-errno.EINVAL);
    expect(b.refusal).toBe("section 0 (image) is damaged: its checksum does not fit");
    expect(b.migrationState).toBe(MigState.resuming);
    expect(load(b, stream).result).toBe(0);
    expect(move(b, MigState.running).result).toBe(0);
    expect(read(b)).toBe(9);
  });

  it("refuses the stream of a device of another shape, by its header", () => {
    const [a, b] = [hello(true), hello(false)];
    expect(load(b, save(a)).result).toBe(-errno.EINVAL);
    expect(b.refusal).toBe("the header is of a device that is configured in another way");
    expect(b.driver.judge(a.compatibility)).toContain("vectors");
  });

  it("goes back to RUNNING from RESUMING by a reset, clean", () => {
    const [a, b] = [hello(), hello()];
    write(a, 9);
    const stream = save(a);
    b.claim();
    move(b, MigState.resuming);
    b.writeStream(stream, 0, 4096);
    expect(b.reset()).toBe(0);
    expect(b.migrationState).toBe(MigState.running);
    expect(read(b)).toBe(0);
    expect(b.resets).toBe(1);
  });
});

describe("one master", () => {
  it("while the operator migrates a device its VMM's changes of state are refused", () => {
    const a = hello();
    expect(a.claim()).toBe(0);
    expect(setState(a, MigState.stop)).toBe(-errno.EBUSY);
    a.release();
    expect(setState(a, MigState.stop)).toBeGreaterThanOrEqual(0);
    expect(a.claim()).toBe(-errno.EBUSY);
    expect(setState(a, MigState.running)).toBeGreaterThanOrEqual(0);
    expect(a.claim()).toBe(0);
  });

  it("a reset that comes once the state may be another host's is only noted", () => {
    const a = hello();
    write(a, 3);
    save(a);
    expect(a.seal(true, a.resets)).toBe(true);
    expect(a.reset()).toBe(0);
    expect(a.migrationState).toBe(MigState.stopCopy);
    expect(a.seal(false, a.resets)).toBe(true);
    expect(a.migrationState).toBe(MigState.running);
    expect(read(a)).toBe(0);
  });

  it("nothing is sealed when a reset came before", () => {
    const a = hello();
    a.claim();
    const { resets } = a;
    a.reset();
    expect(a.seal(true, resets)).toBe(false);
  });
});
