import { join } from "node:path";
import { expect, test } from "vitest";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import { Load, type LoadCounts } from "../support/load.ts";

/**
 * How often a process is succeeded by another one; a thousand is the promise, a few show it here.
 */
const successions = Number(process.env["FERRY_SUCCESSIONS"] ?? 8);

function nothingLost(counts: LoadCounts): void {
  expect(counts.interrupts).toBe(counts.doorbells);
  expect(counts.echoInterrupts).toBe(counts.echoes);
}

async function succeed(times: number, twin: boolean): Promise<LoadCounts> {
  using folder = temporaryFolder();
  const path = join(folder.path, "device.sock");
  let ferry = await Ferry.start(["hello", "--socket-path", path]);
  const load = await Load.start(path, { twin });
  for (let i = 0; i < times; i++) {
    const successor = await Ferry.start(["--take-over", `${path}.ctl`]);
    expect(await ferry.exited).toBe(0);
    ferry = successor;
    await load.progress(3);
  }
  const counts = await load.stop();
  expect(await ferry.stop()).toBe(0);
  return counts;
}

test(`under load, handed from process to process ${successions} times, nothing is lost`, {
  timeout: 30_000 + successions * 5_000,
}, async () => {
  nothingLost(await succeed(successions, false));
});

test("the same with a twin socket", async () => {
  nothingLost(await succeed(Math.min(successions, 8), true));
});
