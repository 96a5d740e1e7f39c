import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Host } from "../../src/host/host.ts";
import type { ServedDevice } from "../../src/host/served-device.ts";
import { Freeze } from "../../src/server/freeze.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import { Driver } from "../support/driver.ts";
import { temporaryFolder } from "../support/ferry.ts";

const scratch = 0x2c;
const counter = 0x04;
const doorbell = 0x08;
const vendorAndDevice = 0x0001_fe22;

const folder = temporaryFolder();
let host: Host;
let device: ServedDevice;
let driver: Driver;

beforeEach(async () => {
  const fatal = (message: string): never => {
    throw new Error(message);
  };
  host = new Host({ claimed() {}, released() {}, fatal });
  const socketPath = join(folder.path, "device.sock");
  const spec = { name: "hello", module: "vfio-ferry/devices/hello", options: {} };
  device = await host.add(spec, { socketPath });
  driver = await Driver.connect(socketPath);
});

afterEach(async () => {
  await driver.close();
  await host.stop();
});

/** What a promise has become after a while in which it could have settled. */
async function stateOf(promise: Promise<unknown>): Promise<"waiting" | "done"> {
  const later = new Promise<"waiting">((resolve) => setTimeout(() => resolve("waiting"), 100));
  return await Promise.race([promise.then(() => "done" as const), later]);
}

test("hold: region accesses wait, configuration answers, the thaw serves in order", async () => {
  await driver.write(PciRegion.bar0, scratch, 1);
  await device.freeze(Freeze.hold);
  const config = await driver.read(PciRegion.config, 0);
  expect(config).toBe(vendorAndDevice);
  const rung = driver.posts(PciRegion.bar0, doorbell, 1000);
  expect(await stateOf(rung)).toBe("waiting");
  expect((await device.report()).frozen).toBe(Freeze.hold);
  await device.freeze(Freeze.none);
  await rung;
  expect(await driver.read(PciRegion.bar0, counter)).toBe(1000);
  expect(await driver.read(PciRegion.bar0, scratch)).toBe(1);
});

test("hold: a reset is answered, and has reset the device after the thaw", async () => {
  await driver.write(PciRegion.bar0, scratch, 7);
  await device.freeze(Freeze.hold);
  expect(await driver.reset()).toBe(0);
  await device.freeze(Freeze.none);
  expect(await driver.read(PciRegion.bar0, scratch)).toBe(0);
});

test("drop: reads are all ones, writes vanish, configuration space is answered", async () => {
  await driver.write(PciRegion.bar0, scratch, 5);
  await device.freeze(Freeze.drop);
  expect(await driver.read(PciRegion.bar0, scratch)).toBe(0xffff_ffff);
  await driver.write(PciRegion.bar0, scratch, 6);
  expect(await driver.read(PciRegion.config, 0)).toBe(vendorAndDevice);
  await device.freeze(Freeze.none);
  expect(await driver.read(PciRegion.bar0, scratch)).toBe(5);
});

test("hold: more than the queue takes stops reading, and nothing is lost", async () => {
  await device.freeze(Freeze.hold);
  const rung = driver.posts(PciRegion.bar0, doorbell, 60_000);
  expect(await stateOf(rung)).toBe("waiting");
  await device.freeze(Freeze.none);
  await rung;
  expect(await driver.read(PciRegion.bar0, counter)).toBe(60_000);
});

test("freezing and thawing a saturated device a hundred times loses nothing", async () => {
  const rung = driver.posts(PciRegion.bar0, doorbell, 300_000);
  for (let i = 0; i < 100; i++) {
    await device.freeze(Freeze.hold);
    await device.freeze(Freeze.none);
  }
  await rung;
  expect(await driver.read(PciRegion.bar0, counter)).toBe(300_000);
});

test("parking and resuming in the same process keeps the client and its requests", async () => {
  const rung = driver.posts(PciRegion.bar0, doorbell, 200_000);
  for (let i = 0; i < 20; i++) {
    const parked = await device.park();
    await device.install(parked);
    await device.resume(parked);
  }
  await rung;
  expect(await driver.read(PciRegion.bar0, counter)).toBe(200_000);
});
