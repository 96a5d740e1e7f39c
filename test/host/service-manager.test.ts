/** A server under a service manager: socket activation, what it is told, and its units. */
import { spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";
import { createProgram } from "../../src/cli/program.ts";
import { askControl } from "../../src/host/control-line.ts";
import { tellManager } from "../../src/host/service-manager.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import { listenUnix, setNonBlocking } from "../../src/sys/unix.ts";
import { ferry } from "../cli/run.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";
import { Load } from "../support/load.ts";
import { NotifySocket } from "../support/notify-socket.ts";

const built = new URL("../../dist/cli/main.js", import.meta.url).pathname;

const pidOf = async (control: string): Promise<number> =>
  ((await askControl(control, { method: "manifest" })) as { pid: number }).pid;

/** Ends when `ferry upgrade` ends, run as a service manager would: with its socket's name. */
async function reload(control: string, notify: string): Promise<number | null> {
  const child = spawn(process.execPath, [built, "upgrade", control], {
    stdio: "ignore",
    env: { ...process.env, NOTIFY_SOCKET: notify },
  });
  return await new Promise((resolve) => child.once("exit", resolve));
}

test("the service manager follows a socket-activated server through an upgrade", async () => {
  using folder = temporaryFolder();
  const notify = join(folder.path, "notify");
  using manager = new NotifySocket(notify);
  const path = join(folder.path, "hello.sock");
  const control = `${path}.ctl`;
  const listener = listenUnix(path, 4);
  // As systemd makes it.
  setNonBlocking(listener, false);
  const environment = { NOTIFY_SOCKET: notify, LISTEN_FDS: "1" };
  await using server = await Ferry.start(["hello", "--control", control], environment, [listener]);
  closeFd(listener);
  await until(() => manager.told.length === 1, "the manager hears of it");
  expect(manager.told).toEqual(["READY=1\nSTATUS=serving hello"]);
  const load = await Load.start(path);

  // By hand it would leave the unit: refused.
  const byHand = await ferry("upgrade", control);
  expect(byHand).toMatchObject({ code: 1, output: "" });
  expect(byHand.errors).toContain("let it do it, systemctl reload UNIT.");
  expect(await pidOf(control)).toBe(server.pid);

  expect(await reload(control, notify)).toBe(0);
  const successor = await pidOf(control);
  expect(successor).not.toBe(server.pid);
  await until(() => manager.told.length === 3, "the manager hears of the successor");
  const [, follow, ready] = manager.told;
  expect(follow).toBe(`MAINPID=${successor}`);
  expect(ready).toBe("READY=1\nSTATUS=serving hello");
  await load.progress(3);
  const counts = await load.stop();
  expect(counts.interrupts).toBe(counts.doorbells);
  process.kill(successor, "SIGTERM");
  expect(await server.exited).toBe(0);
  await until(() => manager.told.at(-1) === "STOPPING=1", "the manager hears of the end");
});

test("an abstract name is one too, and a manager that does not listen holds up nobody", () => {
  const name = `@ferry-test-${process.pid}`;
  using manager = new NotifySocket(name);
  process.env["NOTIFY_SOCKET"] = name;
  try {
    tellManager("READY=1", "STATUS=here");
    expect(manager.told).toEqual(["READY=1\nSTATUS=here"]);
    process.env["NOTIFY_SOCKET"] = "/nobody/listens";
    tellManager("READY=1");
  } finally {
    delete process.env["NOTIFY_SOCKET"];
  }
});

test("the units that are shipped use verbs and options that are there", async () => {
  const folder = new URL("../../systemd/", import.meta.url);
  const { commands } = await createProgram();
  const lines = readdirSync(folder)
    .flatMap((name) => readFileSync(new URL(name, folder), "utf8").split("\n"))
    .filter((line) => /^Exec\w+=/.test(line));
  expect(lines.map((line) => line.split("=")[0])).toEqual(["ExecStart", "ExecReload"]);
  for (const line of lines) {
    const [, program, verb, ...words] = line.split(/[= ]/);
    const command = commands.find((each) => each.name() === verb);
    const known = command?.options.map(({ long }) => long);
    expect(program).toBe("/usr/bin/ferry");
    for (const word of words.filter((each) => each.startsWith("--"))) {
      expect(known, line).toContain(word);
    }
  }
});
