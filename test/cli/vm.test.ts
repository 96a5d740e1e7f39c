/** What a command line of `ferry vm migrate` has to name. */
import { existsSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { VmWorld } from "../vm-move/world.ts";
import { ferry, Running } from "./run.ts";

const monitors = ["--qmp", "/nowhere/a.qmp", "--to-qmp", "/nowhere/b.qmp"];
const one = ["--server", "/a", "--to-server", "/b"];
const links = ["--link", "tls://bob:1", "--link", "tls://bob:2"];
const homes = ["--home", "tls://alice:1", "--home", "tls://alice:2"];
const hosts = ["--from", "alice", "--pki", "/p", "--to-pki", "/q", "--memory", "tcp:bob:3"];
const two = ["--device", "one=/a1,/b1", "--device", "two=/a2,/b2"];

describe("ferry vm migrate", () => {
  it.each([
    ["no servers", [], /name the servers/],
    ["one server", ["--server", "/a"], /name the servers/],
    ["servers twice", [...one, ...two], /name the servers/],
    ["an id without servers", ["--device", "one"], /--device one is no ID=FROM.sock,TO.sock/],
    ["one server of two", ["--device", "one=/a"], /--device one=\/a is no ID=FROM.sock,TO.sock/],
    ["one link for two devices", [...two, "--link", "unix:/l"], /--link once for each device/],
    ["two links and no home", [...two, ...links], /--home once for each device/],
    [
      "one home for two",
      [...two, ...links, ...homes.slice(0, 2), ...homes.slice(0, 2)],
      /another --home once for each device/,
    ],
    ["homes for one device", [...one, "--home", "unix:/a", "--home", "unix:/b"], /--home once for/],
    ["memory through a program", [...two, "--memory", "exec:cat"], /no unix:\/PATH and no tcp/],
  ])("refuses %s", async (_, args, sentence) => {
    const { code, errors } = await ferry("vm", "migrate", ...monitors, ...args);
    expect(errors).toMatch(sentence);
    expect(code).toBe(2);
  });

  it.each([
    ["the only device", one],
    ["the only device by its id", ["--device", "acc", ...one]],
    ["several devices", two],
    ["several devices for another host", [...two, ...links, ...homes, ...hosts]],
  ])("takes %s, and looks for the monitor", async (_, args) => {
    const { errors } = await ferry("vm", "migrate", ...monitors, ...args);
    expect(errors).toContain("no monitor answers at /nowhere/a.qmp");
  });
});

describe("a move under way", () => {
  let world: VmWorld;
  beforeEach(() => {
    world = new VmWorld();
  });
  afterEach(() => world.end());

  const way = (): string[] => [
    ...["vm", "migrate", "--qmp", world.monitors.source.path],
    ...["--to-qmp", world.monitors.target.path],
    ...["--server", world.first.path("source"), "--to-server", world.first.path("target")],
  ];

  it.each(["SIGINT", "SIGTERM", "SIGHUP"] as const)("is taken back by %s", async (signal) => {
    const moving = new Running(way());
    world.before = (what) => {
      if (what === "target getfd") moving.child.kill(signal);
    };
    const { code, output } = await moving.result;
    expect(output).toMatch(/The VM stays with \S+, where it is running: it was interrupted/);
    expect(code).toBe(1);
    expect(world.state.source).toBe("running");
  });

  it("is not begun when its page cannot be written", async () => {
    const page = "/nowhere/at/all/page.html";
    const { code, errors } = await ferry(...way(), "--report", page);
    expect(errors).toContain(`--report ${page}: ENOENT`);
    expect(code).toBe(2);
    expect(world.log).toEqual([]);
    expect(existsSync(page)).toBe(false);
  });
});
