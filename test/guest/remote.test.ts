/** The drivers over vfio-user sockets: the device is in another process, as for a VMM. */
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { doWork, type Work } from "../../src/guest/work.ts";
import { openWorkload } from "../../src/guest/workloads.ts";
import { connectWhenFree } from "../client/connect-when-free.ts";
import { Ferry, temporaryFolder } from "../support/ferry.ts";

const engines = ["hisi-sec2", "hisi-zip", "hisi-hpre"] as const;
const folder = temporaryFolder();
const pathOf = (name: string): string => join(folder.path, name);
let servers: Ferry[] = [];

beforeAll(async () => {
  const start = (name: string) => Ferry.start([name, "--socket-path", pathOf(name)]);
  servers = await Promise.all(engines.map(start));
});
afterAll(async () => {
  for (const server of servers) await server.stop();
  folder[Symbol.dispose]();
});

const connect = (name: string): RemoteDevice =>
  new RemoteDevice(connectWhenFree(pathOf(name)), name);

describe.each(engines)("%s", (name) => {
  it("does all of its work right, with several requests under way", () => {
    const device = connect(name);
    const workload = openWorkload(device, { depth: 4 });
    expect(workload.device).toBe(name);
    expect(workload.works.length).toBeGreaterThan(6);
    for (const work of workload.works) {
      const result = doWork(workload.qm, work, { depth: 4, durationMs: 0 });
      expect(result).toMatchObject({ name: work.name, requests: 4, errors: 0, firstError: null });
    }
    workload.qm.close();
    device.close();
  });
});

describe("a driver over a socket", () => {
  const [key, iv] = [Buffer.alloc(16, 1), Buffer.alloc(16, 2)];

  it("works without interrupts, after a reset, and after another driver", () => {
    const device = connect("hisi-sec2");
    const polled = new Sec2Driver(device, { interrupts: false });
    const sealed = polled.aesCbc(key, iv, key, true);
    polled.qm.reset();
    expect(Buffer.compare(polled.aesCbc(key, iv, sealed, false), key)).toBe(0);
    polled.close();
    const interrupted = new Sec2Driver(device);
    expect(Buffer.compare(interrupted.aesCbc(key, iv, sealed, false), key)).toBe(0);
    interrupted.close();
    device.close();
  });

  it.each(engines)("serves the DMA of %s by messages while it waits", (name) => {
    const device = connect(name);
    const workload = openWorkload(device, { depth: 2, sharedMemory: false });
    for (const work of workload.works.slice(0, 4)) {
      const result = doWork(workload.qm, work, { depth: 2, durationMs: 0 });
      expect(result).toMatchObject({ requests: 2, errors: 0, firstError: null });
    }
    workload.qm.close();
    device.close();
  });

  it("counts wrong answers and refusals", () => {
    const device = connect("hisi-zip");
    const driver = openWorkload(device);
    const [good] = driver.works as [Work];
    const wrong = { ...good, start: () => ({ ...good.start(), correct: () => false }) };
    const result = doWork(driver.qm, wrong, { depth: 3, durationMs: 0 });
    expect(result).toMatchObject({
      requests: 3,
      errors: 3,
      firstError: "the device's answer is wrong.",
    });
    driver.qm.close();
    device.close();
  });

  it("tells that the server has gone", async () => {
    const path = pathOf("gone");
    await using server = await Ferry.start(["hisi-sec2", "--socket-path", path]);
    const device = new RemoteDevice(connectWhenFree(path), "gone");
    const driver = new Sec2Driver(device);
    const call = driver.submit({ algorithm: "cbc(aes)", encrypt: true, key, iv, data: iv });
    driver.qm.wait(call);
    server.process.kill("SIGKILL");
    await server.exited;
    const again = () => driver.aesCbc(key, iv, iv, true);
    expect(again).toThrow(/^gone: a write to 0x1000 failed: /);
    expect(() => driver.close()).toThrow(/^gone: /);
    device.close();
  });
});
