/**
 * How long a register read takes while the longest requests are queued, over a vfio-user socket:
 * the whole of it, and what of it the device's thread was at work. The server and its computations
 * share one CPU, this client has another where there is one.
 *
 *     tsx bench/accelerators/latency.ts [--seconds N]
 */
import { generateKeyPairSync, randomBytes } from "node:crypto";
import { join } from "node:path";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import type { Call } from "../../src/guest/call.ts";
import { HpreDriver } from "../../src/guest/hpre-driver.ts";
import type { QmDriver } from "../../src/guest/qm-driver.ts";
import { Sec2Driver } from "../../src/guest/sec2-driver.ts";
import { ZipDriver } from "../../src/guest/zip-driver.ts";
import { Qm, qmBar } from "../../src/spec/hisi-qm.ts";
import { connectWhenFree } from "../../test/client/connect-when-free.ts";
import { main } from "../operator-error.ts";
import { allowedCpus, socketFolder, startServer, stopServers } from "../servers.ts";
import { median, quantile } from "../statistics.ts";
import { pin } from "./pin.ts";
import { ServerThread } from "./server-thread.ts";
import { logLines } from "./zip.ts";

/**
 * The promise: how long the device's thread is at work at most before it has answered. What else a
 * machine does can only make that longer, and what the device does comes in every round: the
 * longest of the quietest round counts, and that of the noisiest stands beside it.
 */
const workMsMax = 5;
const rounds = 7;
const readsBetweenPolls = 16;
const mebibyte = 1 << 20;
const memoryBytes = 512 * mebibyte;
const polled = { interrupts: false, batches: true, memoryBytes } as const;

/** Long requests of one device. */
interface Load {
  readonly name: string;
  readonly server: string;
  /** Requests that are queued at any time. */
  readonly depth: number;
  open(device: VfioDevice): { readonly qm: QmDriver; submit(): Call<unknown> };
}

const rsa4096: Load = {
  ...{ name: "rsa-4096 private", server: "hisi-hpre", depth: 32 },
  open(device) {
    const driver = new HpreDriver(device, { ...polled, depth: 32 });
    const { privateKey } = generateKeyPairSync("rsa", { modulusLength: 4096 });
    const { n = "", d = "" } = privateKey.export({ format: "jwk" });
    const [modulus, secret] = [Buffer.from(n, "base64url"), Buffer.from(d, "base64url")];
    const message = randomBytes(modulus.length - 1);
    return { qm: driver.qm, submit: () => driver.submitRsa(modulus, secret, message) };
  },
};

function deflate(bytes: number, depth: number): Load {
  return {
    ...{ name: `deflate ${bytes / mebibyte} MiB`, server: "hisi-zip", depth },
    open(device) {
      const driver = new ZipDriver(device, { ...polled, depth, dataBytesMax: bytes });
      const [data, output] = [logLines(bytes), new Uint8Array(bytes)];
      return { qm: driver.qm, submit: () => driver.submitDeflate(data, output) };
    },
  };
}

const cbc16MiB: Load = {
  ...{ name: "cbc(aes) 16 MiB", server: "hisi-sec2", depth: 4 },
  open(device) {
    const bytes = 16 * mebibyte - 16;
    const driver = new Sec2Driver(device, { ...polled, depth: 4, dataBytesMax: bytes });
    const [data, output] = [randomBytes(bytes), new Uint8Array(bytes)];
    const [key, iv] = [randomBytes(16), randomBytes(16)];
    const request = { algorithm: "cbc(aes)", encrypt: true, key, iv, data, output } as const;
    return { qm: driver.qm, submit: () => driver.submit(request) };
  },
};

const loads = [rsa4096, deflate(4 * mebibyte, 8), deflate(8 * mebibyte, 4), cbc16MiB];

interface Reads {
  readonly medianMs: number;
  readonly p999Ms: number;
  readonly longestMs: number;
  /** Processor time of the device's thread in the read that took most of it. */
  readonly workMs: number;
  readonly completed: number;
}

/** Reads a register again and again while `depth` requests are queued. */
function readDuring(
  { qm, submit }: ReturnType<Load["open"]>,
  thread: ServerThread,
  depth: number,
  durationMs: number,
): Reads {
  const times: number[] = [];
  let workMs = 0;
  let calls: Call<unknown>[] = [];
  let completed = 0;
  for (const endMs = performance.now() + durationMs; performance.now() < endMs; ) {
    while (calls.length < depth) calls.push(submit());
    qm.poll();
    for (let i = 0; i < readsBetweenPolls; i++) {
      const workedMs = thread.processorMs;
      const begunMs = performance.now();
      qm.function.read(qmBar, Qm.at.VF_STATE);
      times.push(performance.now() - begunMs);
      workMs = Math.max(workMs, thread.processorMs - workedMs);
    }
    completed += calls.filter(({ done }) => done).length;
    calls = calls.filter(({ done }) => !done);
  }
  for (const call of calls) qm.wait(call);
  times.sort((a, b) => a - b);
  return {
    medianMs: quantile(times, 0.5),
    p999Ms: quantile(times, 0.999),
    longestMs: times.at(-1) ?? 0,
    workMs,
    completed,
  };
}

const title = "queued".padEnd(20);
const columns = ["median", "99.9 %", "longest", "noisy", "longest work", "noisy", "requests"];
const cell = (text: string): string => text.padStart(14);

/** One line; false when the promise is missed. */
function print(name: string, found: readonly Reads[]): boolean {
  const of = (value: (reads: Reads) => number): number[] => found.map(value);
  const ms = (value: number): string => cell(`${value.toFixed(3)} ms`);
  const work = of((reads) => reads.workMs);
  const workMs = Math.min(...work);
  const longest = of(({ longestMs }) => longestMs);
  const kept = workMs <= workMsMax;
  const cells = [
    ms(median(of(({ medianMs }) => medianMs))),
    ms(median(of(({ p999Ms }) => p999Ms))),
    ms(Math.min(...longest)),
    ms(Math.max(...longest)),
    ms(workMs),
    ms(Math.max(...work)),
    cell(`${of(({ completed }) => completed).reduce((sum, count) => sum + count, 0)}`),
  ].join("");
  const verdict = kept ? "pass" : "MISSED";
  process.stdout.write(`${name.padEnd(20)}${cells}   work <= ${workMsMax} ms ${verdict}\n`);
  return kept;
}

async function measure(load: Load, cpu: number, roundMs: number): Promise<boolean> {
  const command = `node dist/cli/main.js serve ${load.server} --socket-path {socket}`;
  const path = join(socketFolder(), load.server);
  const server = await startServer(command, path, { cpu });
  const device = new RemoteDevice(connectWhenFree(server.socketPath), load.server);
  const opened = load.open(device);
  const { function: pci } = opened.qm;
  const thread = ServerThread.busiest(server.pid, () => {
    for (let i = 0; i < 5000; i++) pci.read(qmBar, Qm.at.VF_STATE);
  });
  readDuring(opened, thread, load.depth, roundMs);
  const found = Array.from({ length: rounds }, () =>
    readDuring(opened, thread, load.depth, roundMs),
  );
  const kept = print(load.name, found);
  opened.qm.close();
  device.close();
  await stopServers();
  return kept;
}

await main(async () => {
  const { values } = parseArgs({ options: { seconds: { type: "string", default: "3" } } });
  const cpus = allowedCpus();
  pin(cpus[0] ?? 0);
  process.stdout.write(`${title}${columns.map(cell).join("")}\n`);
  let kept = true;
  try {
    for (const load of loads) {
      kept = (await measure(load, cpus.at(-1) ?? 0, 1000 * Number(values.seconds))) && kept;
    }
    return kept ? 0 : 1;
  } finally {
    await stopServers();
  }
});
