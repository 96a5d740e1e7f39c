/**
 * How long a VMM is held when its device changes its server: by the server's own count, and as a
 * vCPU sees it that reads one register without a pause. `npm run bench:swap -- 500` for more.
 */
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { PciRegion } from "../src/spec/vfio.ts";
import { Ferry, temporaryFolder } from "../test/support/ferry.ts";
import { swap } from "../test/support/swap-peers.ts";
import { quantile } from "./statistics.ts";

const swaps = Number(process.argv[2] ?? 200);
/** The promise, for the 99th percentile of what a vCPU waits. */
const promiseMs = 50;
/** Between two swaps, so that the reader is at its speed again. */
const pauseMs = 20;
/** With the region that is read. */
const devices: ReadonlyArray<readonly [name: string, region: number]> = [
  ["hello", PciRegion.bar0],
  ["hisi-sec2", PciRegion.bar2],
];

const row = (name: string, cells: readonly string[]): string =>
  name.padEnd(36) + cells.map((cell) => cell.padStart(9)).join("");
const cellsOf = (times: readonly number[]): string[] =>
  [0.5, 0.99, 1].map((part) => quantile(times, part).toFixed(1));

/** Swaps a device there and back; what each swap took. */
async function measure(
  device: string,
  region: number,
): Promise<{ held: number[]; seen: number[] }> {
  using folder = temporaryFolder();
  const pair = ["a", "b"].map((name) => join(folder.path, `${name}.sock`));
  await using first = await Ferry.start([device, "--socket-path", pair[0] as string]);
  await using second = await Ferry.start([device, "--socket-path", pair[1] as string]);
  const stop = new Int32Array(new SharedArrayBuffer(4));
  const longest = new Float64Array(new SharedArrayBuffer(8));
  const workerData = { path: pair[0], region, stop, longest };
  const reader = new Worker(new URL("./swap-reader.mjs", import.meta.url), { workerData });
  const over = new Promise((resolve) => reader.once("exit", resolve));
  await new Promise((resolve) => reader.once("message", resolve));
  const [held, seen]: [number[], number[]] = [[], []];
  for (let i = 0; i < swaps; i++) {
    longest[0] = 0;
    const report = await swap(pair[i % 2] as string, { to: pair[(i + 1) % 2] });
    await new Promise((resolve) => setTimeout(resolve, pauseMs));
    held.push(report.heldMs);
    seen.push(longest[0] as number);
  }
  Atomics.store(stop, 0, 1);
  await over;
  for (const server of [first, second]) await server.stop();
  return { held, seen };
}

console.log(row(`${swaps} swaps between two processes, ms`, ["p50", "p99", "max"]));
for (const [device, region] of devices) {
  const { held, seen } = await measure(device, region);
  console.log(row(`${device}: held, by the server`, cellsOf(held)));
  const kept = quantile(seen, 0.99) <= promiseMs;
  const verdict = `   p99 <= ${promiseMs} ms  ${kept ? "pass" : "MISSED"}`;
  console.log(row(`${device}: a register read`, cellsOf(seen)) + verdict);
  if (!kept) process.exitCode = 1;
}
