/** A device that is parked in the middle of what messages do. */
import { once } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Host } from "../../src/host/host.ts";
import type { ServedDevice } from "../../src/host/served-device.ts";
import { temporaryFolder, until } from "../support/ferry.ts";

const parkings = 40;

const folder = temporaryFolder();
const stop = new Int32Array(new SharedArrayBuffer(8));
let host: Host;
let device: ServedDevice;
let guest: Worker;

beforeEach(async () => {
  const fatal = (message: string): never => {
    throw new Error(message);
  };
  host = new Host({ claimed() {}, released() {}, fatal });
  const path = join(folder.path, "device.sock");
  const spec = { name: "hisi-sec2", module: "vfio-ferry/devices/hisi-sec2", options: {} };
  device = await host.add(spec, { socketPath: path });
  const entry = new URL("../support/accelerator-thread.mjs", import.meta.url);
  guest = new Worker(entry, { workerData: { path, stop, depth: 12, queues: 4 } });
  await once(guest, "message");
});

afterEach(async () => {
  await guest.terminate();
  await host.stop();
});

test("a guest whose memory messages reach notices nothing when its device is parked", async () => {
  for (let i = 1; i <= parkings; i++) {
    await until(() => Atomics.load(stop, 1) >= 10 * i, "the guest works");
    const parked = await device.park();
    await device.install(parked);
    await device.resume(parked);
  }
  const counts = once(guest, "message");
  Atomics.store(stop, 0, 1);
  const [{ firstError, wrong, operations }] = await counts;
  expect(firstError).toBe("");
  expect(wrong).toBe(0);
  expect(operations).toBeGreaterThan(10 * parkings);
});
