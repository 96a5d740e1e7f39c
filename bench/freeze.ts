/**
 * How long it takes to freeze a device, idle and saturated: from the call on the main thread until
 * the worker has stopped at a message boundary and said so.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { Host } from "../src/host/host.ts";
import type { ServedDevice } from "../src/host/served-device.ts";
import { Freeze } from "../src/server/freeze.ts";
import { Driver } from "../test/support/driver.ts";

const freezes = 1000;
/** The promise, in microseconds, for the median; the worst case is printed beside it. */
const promiseUs = 1000;
const doorbell = 0x08;
const bar0 = 0;

interface Freezing {
  readonly p50: number;
  readonly p99: number;
  readonly max: number;
}

async function freezeOften(device: ServedDevice): Promise<Freezing> {
  const times: number[] = [];
  for (let i = 0; i < freezes; i++) {
    const begun = performance.now();
    await device.freeze(Freeze.hold);
    times.push((performance.now() - begun) * 1000);
    await device.freeze(Freeze.none);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  times.sort((a, b) => a - b);
  const at = (part: number): number => times[Math.floor(part * (times.length - 1))] as number;
  return { p50: at(0.5), p99: at(0.99), max: at(1) };
}

function print(name: string, { p50, p99, max }: Freezing): boolean {
  const us = (time: number): string => time.toFixed(0).padStart(7);
  const kept = p50 < promiseUs;
  const verdict = kept ? "pass" : "MISSED";
  console.log(
    `${name.padEnd(10)} ${us(p50)} ${us(p99)} ${us(max)}   p50 < ${promiseUs} us  ${verdict}`,
  );
  return kept;
}

const folder = mkdtempSync(join(tmpdir(), "ferry-"));
const host = new Host({
  claimed() {},
  released() {},
  fatal(message) {
    throw new Error(message);
  },
});
const socketPath = join(folder, "device.sock");
const spec = { name: "hello", module: "vfio-ferry/devices/hello", options: {} };
const device = await host.add(spec, { socketPath });
const driver = await Driver.connect(socketPath);
console.log(`freeze          p50     p99     max us`);
let kept = print("idle", await freezeOften(device));
let busy = true;
const saturated = (async () => {
  while (busy) await driver.posts(bar0, doorbell, 100_000);
})();
kept = print("saturated", await freezeOften(device)) && kept;
busy = false;
await saturated;
await driver.close();
await host.stop();
rmSync(folder, { recursive: true, force: true });
process.exit(kept ? 0 : 1);
