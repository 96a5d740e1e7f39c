/** `ferry migrate` as an operator uses it, with two hosts whose devices are fakes. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { ControlSocket } from "../../src/host/control-socket.ts";
import { migrationMethods } from "../../src/host/migration-methods.ts";
import { isVerdict, TestHost } from "../migration/host/control.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { ferry, Running } from "./run.ts";

const folder = temporaryFolder();
const open: Array<{ close(): void }> = [];
let round = 0;
let alice: TestHost;
let bob: TestHost;
const at = (name: string): string => join(folder.path, `${round}-${name}`);

beforeEach(async () => {
  round += 1;
  alice = new TestHost([1, 2, 3, 4, 5]);
  bob = new TestHost([]);
  for (const [name, host] of [
    ["alice.sock", alice],
    ["bob.sock", bob],
  ] as const) {
    const methods = migrationMethods(() => host.control);
    open.push(await ControlSocket.listen(`${at(name)}.ctl`, methods));
    open.push({ close: () => host.control.halt() });
  }
});
afterAll(() => {
  for (const each of open) each.close();
  folder[Symbol.dispose]();
});

async function offered(): Promise<string[]> {
  const { output, code } = await ferry("migrate", "offer", at("bob.sock"), "--from", "local");
  expect(code).toBe(0);
  const [token = "", hint = ""] = output.split("\n");
  expect(token).toMatch(/^[0-9a-f]{32}$/);
  expect(hint).toContain(`--to unix:${at("bob.sock")}.mig --token ${token}`);
  return ["--to", `unix:${at("bob.sock")}.mig`, "--token", token];
}

describe("ferry migrate", () => {
  it("moves nothing when its page cannot be written", async () => {
    const to = await offered();
    const page = "/nowhere/at/all/page.html";
    const done = await ferry("migrate", at("alice.sock"), ...to, "--report", page);
    expect(done.errors).toContain(`--report ${page}: ENOENT`);
    expect(done.code).toBe(2);
    expect(alice.port.acts).toBe(true);
  });

  it("moves a device, says how it goes, and writes a page", async () => {
    const to = await offered();
    const asked = await ferry("migrate", "precheck", at("alice.sock"), ...to);
    expect(asked).toMatchObject({ code: 0, output: "local would take it.\n" });
    const page = at("report.html");
    const done = await ferry("migrate", at("alice.sock"), ...to, "--report", page);
    expect(done).toMatchObject({ code: 0, errors: "" });
    expect(done.output).toContain("fake to local: moved");
    expect(done.output).toMatch(/ms {2}hand over\n/);
    expect(readFileSync(page, "utf8")).toContain("<!doctype html>");
    await bob.hears(isVerdict);
    expect([...bob.port.state]).toEqual([1, 2, 3, 4, 5]);
    const status = await ferry("migrate", "status", at("bob.sock"));
    expect(status.output).toContain("fake from local: moved");
  });

  it("waits where it is told to, and goes on when it is told to", async () => {
    const to = await offered();
    const points = ["--pause-before", "freeze,transfer"];
    const moving = new Running(["migrate", at("alice.sock"), ...to, ...points, "--json"]);
    await moving.says(/"paused","before":"freeze"/);
    const status = await ferry("migrate", "status", at("alice.sock"));
    expect(status.output).toContain("paused before freeze");
    await ferry("migrate", "continue", at("alice.sock"));
    await moving.says(/"paused","before":"transfer"/);
    await ferry("migrate", "continue", at("alice.sock"));
    const { code, output } = await moving.result;
    expect(code).toBe(0);
    const lines = output.trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ outcome: "moved" });
  });

  it("ends by abort, with the device where it was, and says so by its exit code", async () => {
    const to = await offered();
    const moving = new Running(["migrate", at("alice.sock"), ...to, "--pause-before", "freeze"]);
    await moving.says(/paused before freeze: stop the vCPUs/);
    expect((await ferry("migrate", "abort", at("alice.sock"))).code).toBe(0);
    const { code, output } = await moving.result;
    expect(code).toBe(1);
    expect(output).toContain("The device stays here: an operator has ended it.");
    expect(alice.port.acts).toBe(true);
  });

  it("keeps a device in a file, and takes it out again", async () => {
    const file = `file:${at("state")}`;
    expect((await ferry("migrate", at("alice.sock"), "--to", file)).code).toBe(0);
    expect(existsSync(at("state"))).toBe(true);
    const loaded = await ferry("migrate", "load", at("bob.sock"), "--from", file);
    expect(loaded).toMatchObject({ code: 0, errors: "" });
    expect(bob.port.acts).toBe(true);
    const again = await ferry("migrate", "load", at("bob.sock"), "--from", file);
    expect(again.code).toBe(1);
    expect(again.errors).toContain("was loaded by a host before");
  });

  it("loads before a VMM is there, and thaws when it is", async () => {
    const file = `file:${at("state")}`;
    await ferry("migrate", at("alice.sock"), "--to", file);
    bob.port.connected = false;
    const loaded = await ferry(
      "migrate",
      "load",
      at("bob.sock"),
      "--from",
      file,
      "--wait-for-thaw",
    );
    expect(loaded.output).toContain("It is loaded and stands still");
    expect(bob.port.acts).toBe(false);
    expect((await ferry("migrate", "thaw", at("bob.sock"))).code).toBe(0);
    expect(bob.port.acts).toBe(true);
  });

  it.each([
    [["S"], 2, ""],
    [["S", "--to", "bob"], 2, "write tls://HOST:PORT, unix:PATH or file:PATH"],
    [["S", "--to", "tls://bob:1"], 2, "--token"],
    [
      ["S", "--to", "unix:/x", "--pause-before", "lunch"],
      2,
      "there are freeze, transfer, hand over",
    ],
    [["S", "--to", "unix:/x", "--bandwidth", "fast"], 2, "write 800M or 1G"],
    [["continue", "S"], 1, "is not being migrated"],
    [["thaw", "S"], 1, "no device waits here"],
    [["resolve", "S", "--owner", "nobody"], 2, ""],
    [["status", "/nowhere.sock"], 2, "the control socket /nowhere.sock cannot be used"],
  ])("%j is a mistake with a sentence", async (args, code, sentence) => {
    const done = await ferry(
      "migrate",
      ...args.map((arg) => (arg === "S" ? at("alice.sock") : arg)),
    );
    expect(done.code).toBe(code);
    expect(done.errors).toContain(sentence);
  });
});
