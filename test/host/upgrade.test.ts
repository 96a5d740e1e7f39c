/** `ferry upgrade` under load: the device, its client and its version before and afterwards. */
import { type ChildProcess, spawn } from "node:child_process";
import { openSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Connection } from "../../src/client/connection.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { askControl } from "../../src/host/control-line.ts";
import { Window } from "../../src/sys/window.ts";
import { ferry } from "../cli/run.ts";
import { isAlive } from "../support/alive.ts";
import { failing, standsStill } from "../support/failing-versions.ts";
import { temporaryFolder, until } from "../support/ferry.ts";
import { isListening } from "../support/listening.ts";
import { Load } from "../support/load.ts";
import { installVersion, program } from "../support/next-version.ts";

/** How often a server is upgraded; twenty is the promise, a few show it here. */
const upgrades = Number(process.env["FERRY_UPGRADES"] ?? 4);
const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

interface Serving {
  readonly version: string;
  readonly pid: number;
}

const folder = temporaryFolder();
const path = join(folder.path, "hello.sock");
const control = `${path}.ctl`;
const logPath = join(folder.path, "log");
let first: ChildProcess;
let load: Load;

const serving = async (): Promise<Serving> =>
  (await askControl(control, { method: "manifest" })) as Serving;

const log = (): string => readFileSync(logPath, "utf8");

beforeAll(async () => {
  const args = ["serve", "hello", "--socket-path", path, "--json"];
  first = spawn(process.execPath, [main, ...args], {
    stdio: ["ignore", "ignore", openSync(logPath, "a")],
  });
  await until(() => log().includes('"serving"'), "the server serves");
  load = await Load.start(path);
});

afterAll(async () => {
  const { pid } = await serving();
  process.kill(pid, "SIGKILL");
  folder[Symbol.dispose]();
});

async function upgrade(...more: string[]) {
  return await ferry("upgrade", path, ...more);
}

test(`a server is upgraded ${upgrades} times, to the same version and to another`, {
  timeout: 30_000 + upgrades * 10_000,
}, async () => {
  const next = installVersion(folder.path, "9.0.0");
  const { version } = await serving();
  for (let i = 0; i < upgrades; i++) {
    const isNext = i % 2 === 0;
    const before = await serving();
    const done = await upgrade("--json", ...(isNext ? ["--with", next] : []));
    expect(done).toMatchObject({ code: 0, errors: "" });
    const told = JSON.parse(done.output) as { from: Serving; to: Serving; waitedMs: number };
    expect(told.from).toEqual({ version: before.version, pid: before.pid });
    expect(told.to.version).toBe(isNext ? "9.0.0" : version);
    expect(await serving()).toMatchObject(told.to);
    expect(told.waitedMs).toBeGreaterThan(0);
    await load.progress(3);
  }
  expect(first.exitCode).toBe(0);
});

describe("the old server goes on, and its client has lost nothing, when the successor", () => {
  const kept = async (before: Serving, done: Awaited<ReturnType<typeof upgrade>>) => {
    expect(done.code).toBe(1);
    expect(done.errors).toContain(
      `${path} is still served by version ${before.version} (process ${before.pid}). ` +
        "The successor failed: ",
    );
    expect(done.errors).not.toMatch(/\n\s+at /);
    expect(await serving()).toMatchObject({ pid: before.pid });
    await load.progress(3);
  };

  for (const [i, { what, edits, says }] of failing.entries()) {
    test(what, { timeout: 30_000 }, async () => {
      const next = installVersion(folder.path, `9.1.${i}`, ...edits);
      const before = await serving();
      const done = await upgrade("--with", next);
      expect(done.errors).toMatch(says);
      await kept(before, done);
    });
  }

  test("ends at once", async () => {
    const before = await serving();
    const done = await upgrade("--with", program(folder.path, "ends", "exit 3"));
    expect(done.errors).toContain("ended with exit code 3");
    await kept(before, done);
    const none = await upgrade("--with", join(folder.path, "not-there"));
    expect(none.errors).toContain("cannot be started");
    await kept(before, none);
  });

  test("says nothing", { timeout: 30_000 }, async () => {
    const pidFile = join(folder.path, "pid");
    const quiet = program(folder.path, "quiet", `sleep 600 & echo $! > ${pidFile}; wait`);
    const before = await serving();
    const done = await upgrade("--with", quiet, "--within", "1");
    expect(done.errors).toContain("it said nothing for 1 s, and was ended");
    await kept(before, done);
    const pid = Number(readFileSync(pidFile, "utf8"));
    await until(() => !isAlive(pid), "what it had started ends");
  });

  test(standsStill.what, { timeout: 30_000 }, async () => {
    const next = installVersion(folder.path, "9.2.0", ...standsStill.edits);
    const before = await serving();
    const done = await upgrade("--with", next, "--within", "6");
    expect(done.errors).toMatch(standsStill.says);
    await kept(before, done);
    expect(log()).toContain("not handed over: the successor did not get ready");
  });
});

test("a device that is being migrated stays, with a sentence, and goes afterwards", async () => {
  const { pid } = await serving();
  const to = `file:${join(folder.path, "state")}`;
  // Its source waits for as long as it takes to be refused.
  const wait = { pauseBefore: ["freeze"], pauseMs: 600_000 };
  let move: Promise<unknown> = Promise.resolve();
  await new Promise<void>((resolve) => {
    const hear = (event: unknown): void => {
      if ((event as { kind: string }).kind === "paused") resolve();
    };
    move = askControl(control, { method: "migrate", to, ...wait }, { hear });
  });
  let ended = "";
  move.then((end) => (ended = (end as { sentence: string }).sentence));
  const done = await upgrade();
  expect(done).toMatchObject({ code: 1, output: "" });
  expect(done.errors).toContain("does not hand over: hello is being migrated: end that first.");
  expect(await serving()).toMatchObject({ pid });
  expect(ended).toBe("");
  expect(await ferry("migrate", "abort", path)).toMatchObject({ code: 0, errors: "" });
  expect(await move).toMatchObject({ outcome: "kept" });
  await load.progress(3);
  expect(await upgrade()).toMatchObject({ code: 0, errors: "" });
});

test("a call that is none is refused", async () => {
  const to = join(folder.path, "nobody");
  const call = (request: object) => askControl(control, { method: "hand-over", ...request });
  await expect(call({ to })).rejects.toThrow(/an unknown version, hands over in format 0/);
  await expect(call({ format: 1, to: 7 })).rejects.toThrow(/says where it listens/);
  await expect(call({ format: 1, to })).rejects.toThrow(/no successor listens on/);
  await load.progress(3);
});

test("a device that is on offer stays", async () => {
  const { pid } = await serving();
  const listen = `unix:${join(folder.path, "link")}`;
  const offered = await ferry("migrate", "offer", path, "--from", "bob", "--listen", listen);
  expect(offered).toMatchObject({ code: 0 });
  const done = await upgrade();
  expect(done.errors).toContain("hello is on offer to another host: wait for its end.");
  expect(await serving()).toMatchObject({ pid });
});

test("what a client has mapped is the device's memory before and afterwards", async () => {
  const mappedPath = join(folder.path, "mapped.sock");
  const options = ["--socket-path", mappedPath, "--set", "mmap=trusted"];
  const logFd = openSync(join(folder.path, "mapped.log"), "a");
  spawn(process.execPath, [main, "serve", "hello", ...options], {
    stdio: ["ignore", "ignore", logFd],
  });
  await until(() => isListening(mappedPath), "the server serves");
  const connection = Connection.connect(mappedPath);
  const device = new RemoteDevice(connection, "hello");
  const [region, at] = [2, 0x8000];
  const offer = device.regions[region];
  const window = Window.reserve(offer?.size ?? 0);
  expect(window?.lay(offer?.mmap?.fd ?? -1, 0, offer?.size ?? 0, true)).toBe(0);
  const byte = new Uint8Array(1);
  const shown = () => [device.read(region, at, byte, 0, 1), ...byte, window?.bytes[at]];
  for (const value of [1, 2]) {
    window?.bytes.fill(value, at, at + 1);
    expect(shown()).toEqual([1, value, value]);
    expect(await ferry("upgrade", mappedPath)).toMatchObject({ code: 0, errors: "" });
    expect(shown()).toEqual([1, value, value]);
    byte[0] = value + 2;
    expect(device.write(region, at, byte, 0, 1)).toBe(1);
    expect(shown()).toEqual([1, value + 2, value + 2]);
  }
  connection.close();
  const { pid } = (await askControl(`${mappedPath}.ctl`, { method: "manifest" })) as Serving;
  process.kill(pid, "SIGKILL");
});

test("nothing was lost in any of that", async () => {
  const counts = await load.stop();
  expect(counts.interrupts).toBe(counts.doorbells);
  expect(counts.echoInterrupts).toBe(counts.echoes);
});
