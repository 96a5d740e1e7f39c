import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import type { RemoteDevice } from "../client/remote-device.ts";
import { doWork, type WorkResult } from "../guest/work.ts";
import { openWorkload } from "../guest/workloads.ts";
import { parseCount, type ServerOptions, verb, withDevice, withTimeout } from "./arguments.ts";
import { ExitCode, print, printJson } from "./output.ts";

interface WorkloadOptions extends ServerOptions {
  readonly seconds: number;
  readonly depth: number;
}

const secondsDefault = 5;
const secondsMax = 7 * 24 * 3600;
const depthDefault = 16;
const depthMax = 64;
/** How long one line of the table is worked on at most, so that a long run keeps telling. */
const sliceMsMax = 1000;

/** The table that is printed as it comes about. */
const columns: ReadonlyArray<readonly [title: string, width: number]> = [
  ["requests/s", 11],
  ["MB/s", 8],
  ["median µs", 10],
  ["99 % µs", 10],
  ["errors", 7],
];
const nameColumns = 40;
const bytesColumns = 6;

const header = [
  "work".padEnd(nameColumns),
  "bytes".padStart(bytesColumns),
  ...columns.map(([title, width]) => title.padStart(width)),
].join(" ");

function render(result: WorkResult): string {
  const { name, bytes, requests, errors, firstError, elapsedMs, medianMs, p99Ms } = result;
  const perSecond = (requests * 1000) / Math.max(elapsedMs, Number.MIN_VALUE);
  const cells = [
    perSecond.toFixed(0),
    ((perSecond * bytes) / 1e6).toFixed(1),
    (medianMs * 1000).toFixed(0),
    (p99Ms * 1000).toFixed(0),
    String(errors),
  ].map((cell, i) => cell.padStart(columns[i]?.[1] ?? 0));
  const line = [name.padEnd(nameColumns), String(bytes).padStart(bytesColumns), ...cells].join(" ");
  return firstError === null ? line : `${line}\n    ${firstError}`;
}

/** Goes through the whole table, and again while there is time. */
function run(device: RemoteDevice, { seconds, depth, json }: WorkloadOptions): ExitCode {
  const startMs = performance.now();
  const { device: name, qm, works } = openWorkload(device, { depth });
  if (!json) print(`${name}: ${qm.traits.queues} queues, ${depth} requests under way\n\n${header}`);
  const results: WorkResult[] = [];
  const durationMs = Math.min((seconds * 1000) / works.length, sliceMsMax);
  const endMs = performance.now() + seconds * 1000;
  do {
    for (const work of works) {
      const result = doWork(qm, work, { depth, durationMs });
      results.push(result);
      if (!json) print(render(result));
    }
  } while (performance.now() < endMs - durationMs);
  qm.close();
  const sum = (of: (result: WorkResult) => number): number =>
    results.reduce((total, result) => total + of(result), 0);
  const [requests, errors] = [sum((each) => each.requests), sum((each) => each.errors)];
  const elapsedMs = performance.now() - startMs;
  if (json) printJson({ device: name, depth, elapsedMs, requests, errors, results });
  else print(`\n${requests} requests, ${errors} errors`);
  return errors === 0 ? ExitCode.ok : ExitCode.failed;
}

/** `ferry workload`: plays the VM whose driver uses the device, and verifies what comes of it. */
export function addWorkload(program: Command): void {
  const command = verb(
    program,
    "workload <socket>",
    "drive an accelerator as a VM would, verify every answer and measure",
    ["workload /run/sec2.sock", "workload /run/zip.sock --seconds 60 --depth 4 --json"],
  );
  const count = (name: string, max: number) => (text: string) => parseCount(text, name, max);
  withTimeout(command)
    .option(
      ...(["--seconds <n>", "about how long; the table is gone through at least once"] as const),
      count("--seconds", secondsMax),
      secondsDefault,
    )
    .option(
      ...(["--depth <n>", "requests under way at once, 1 to 64"] as const),
      count("--depth", depthMax),
      depthDefault,
    )
    .action((socketPath: string, options: WorkloadOptions) => {
      if (options.depth === 0) throw new FerryError("bad-argument", "--depth 0 does no work.");
      process.exitCode = withDevice(socketPath, options, (device) => run(device, options));
    });
}
