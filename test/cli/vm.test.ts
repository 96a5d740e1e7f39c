/** What a command line of `ferry vm migrate` has to name. */
import { describe, expect, it } from "vitest";
import { ferry } from "./run.ts";

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
