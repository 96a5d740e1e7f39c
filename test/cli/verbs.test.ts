/** `probe`, `read`, `write`, `demo` and what they have in common, against a real server. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Connection } from "../../src/client/connection.ts";
import { connectWhenFree } from "../client/connect-when-free.ts";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import { ferry, Running } from "./run.ts";

const folder = temporaryFolder();
const helloPath = join(folder.path, "hello.sock");
const benchPath = join(folder.path, "bench.sock");
let hello: Ferry;
let bench: Ferry;

beforeAll(async () => {
  hello = await Ferry.start(["hello", "--socket-path", helloPath]);
  bench = await Ferry.start(["bench", "--socket-path", benchPath, "--set", "stateMiB=1"]);
});

afterAll(async () => {
  await hello.stop();
  await bench.stop();
  folder[Symbol.dispose]();
});

/** A connection that is closed however a test ends. */
const closing = (connection: Connection): Connection & Disposable =>
  Object.assign(connection, { [Symbol.dispose]: () => connection.close() });

const json = (text: string): Record<string, never> => JSON.parse(text) as Record<string, never>;

describe("ferry probe", () => {
  it("shows a device as lspci would", async () => {
    for (const [name, path] of [
      ["hello", helloPath],
      ["bench", benchPath],
    ] as const) {
      const { code, output, errors } = await ferry("probe", path);
      expect({ code, errors }).toEqual({ code: 0, errors: "" });
      const shown = output.replaceAll(folder.path, "FOLDER");
      await expect(shown).toMatchFileSnapshot(`../golden/probe-${name}.txt`);
    }
  });

  it("says the same as JSON, in one line", async () => {
    const { code, output } = await ferry("probe", helloPath, "--json");
    expect(code).toBe(0);
    expect(output.trimEnd().split("\n")).toHaveLength(1);
    const found = json(output);
    expect(found).toMatchObject({
      flags: ["reset", "pci"],
      negotiation: { version: "0.1", maxDataXferSize: 1_048_576 },
      migration: { flags: ["stopCopy", "preCopy"], state: "RUNNING" },
      ioEventfds: [],
    });
    expect(found["regions"]).toContainEqual({
      index: 0,
      name: "bar0",
      size: 4096,
      flags: ["read", "write"],
      mmapAreas: [],
    });
  });

  it("asks the control socket while somebody else is the device's client", async () => {
    using connection = closing(connectWhenFree(helloPath));
    expect(connection.failure).toBeNull();
    const { code, output } = await ferry("probe", helloPath, "--json");
    expect(code).toBe(0);
    const found = json(output);
    expect(found).toMatchObject({ name: "hello", negotiation: null, ioEventfds: null });
    const text = await ferry("probe", helloPath, "--control", `${helloPath}.ctl`);
    expect(text.output).toMatch(/in use by another client/);
    const lost = await ferry("probe", helloPath, "--control", `${helloPath}.not-there`);
    expect(lost.code).toBe(2);
    expect(lost.errors).toMatch(/^ferry: the control socket .* cannot be used: /);
  });
});

describe("ferry read and write", () => {
  it("reach a register, in hexadecimal for people and as JSON for scripts", async () => {
    const magic = await ferry("read", helloPath, "bar0", "0");
    expect(magic).toMatchObject({ code: 0, errors: "" });
    expect(magic.output).toMatch(/^00000000 {2}68 65 6c 6f +\|helo\|\n$/);
    const write = await ferry("write", helloPath, "bar2", "0x10", "0x44332211", "5");
    expect(write.output).toBe("2 × 4 bytes written to bar2+0x10\n");
    const back = await ferry("read", helloPath, "bar2", "0x10", "8", "--json");
    expect(json(back.output)).toEqual({
      region: "bar2",
      offset: 16,
      length: 8,
      hex: "1122334405000000",
    });
  });

  it("use accesses of a width", async () => {
    const write = await ferry("write", helloPath, "bar2", "0", "1", "2", "3", "--width", "1");
    expect(write.code).toBe(0);
    const wide = await ferry("write", helloPath, "bar2", "8", "0xffffffffffffffff", "--width", "8");
    expect(wide.code).toBe(0);
    const args = ["bar2", "0", "18", "--width", "2"];
    const { output } = await ferry("read", helloPath, ...args);
    expect(output.split("\n")).toEqual([
      "00000000  01 02 03 00 00 00 00 00  ff ff ff ff ff ff ff ff  |................|",
      expect.stringMatching(/^00000010 {2}.. .. /),
      "",
    ]);
  });

  it("read configuration space, and a region's number is as good as its name", async () => {
    const byName = await ferry("read", helloPath, "config", "0", "4", "--json");
    const byNumber = await ferry("read", helloPath, "7", "0", "4", "--json");
    expect(json(byName.output)["hex"]).toBe("22fe0100");
    expect(json(byNumber.output)["hex"]).toBe("22fe0100");
  });
});

describe("the exit code", () => {
  const cases: ReadonlyArray<[code: number, why: RegExp, ...args: string[]]> = [
    [2, /unknown command 'sing'/, "sing"],
    [2, /missing required argument/, "read"],
    [2, /unknown option/, "probe", helloPath, "--loudly"],
    [2, /OFFSET "-1" is no whole number/, "read", helloPath, "bar0", "--", "-1"],
    [2, /LENGTH "1e9" is no whole number/, "read", helloPath, "bar0", "0", "1e9"],
    [2, /has no region bar1; it has bar0, bar2, bar4, config/, "read", helloPath, "bar1", "0"],
    [2, /end behind bar0, which has 4096/, "read", helloPath, "bar0", "4093"],
    [2, /VALUE "256" is no number of 1 bytes/, "write", helloPath, "bar2", "0", "256", "--width=1"],
    [2, /--width "3" is none of 1, 2, 4, 8/, "write", helloPath, "bar2", "0", "2", "--width", "3"],
    [2, /say where to listen/, "trace", helloPath],
    [1, /cannot connect to .*: ENOENT/, "probe", join(folder.path, "nobody.sock")],
    [1, /cannot read .*: ENOENT/, "trace", "--replay", join(folder.path, "nothing.jsonl")],
  ];
  for (const [code, why, ...args] of cases) {
    const said = args.join(" ").replaceAll(folder.path, "");
    it(`${code} and one sentence for: ferry ${said}`, async () => {
      const result = await ferry(...args);
      expect(result.code).toBe(code);
      expect(result.errors).toMatch(why);
      expect(result.errors).not.toMatch(/\n {4}at /);
      expect(result.output).toBe("");
    });
  }

  it("0 for a read as large as a message", async () => {
    const { code, output } = await ferry("read", benchPath, "bar0", "0", "0x100000");
    expect(code).toBe(0);
    expect(output.trimEnd().split("\n")).toHaveLength(65_536);
  });

  it("0 for help, with examples and the exit codes", async () => {
    const help = await ferry("--help");
    expect(help.code).toBe(0);
    expect(help.output).toMatch(/Exit codes: 0 .*; 1 .*; 2 /);
    for (const verb of ["probe", "read", "write", "trace", "demo", "serve"]) {
      expect(help.output).toMatch(new RegExp(`^ {2}${verb} `, "m"));
      const { code, output } = await ferry(verb, "--help");
      expect(code).toBe(0);
      expect(output).toMatch(new RegExp(`Examples:\n {2}\\$ ferry ${verb}`));
      expect(output).toMatch(/--json/);
    }
  });

  it("0 for help of which nobody reads the rest", async () => {
    const help = new Running(["--help"]);
    help.child.stdout?.destroy();
    expect(await help.result).toMatchObject({ code: 0, errors: "" });
  });

  it("0 for the version, which is package.json's", async () => {
    const { code, output } = await ferry("--version");
    const wanted = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
    expect({ code, version: output.trim() }).toEqual({ code: 0, version: json(wanted)["version"] });
  });

  it("with --json, an error is JSON too", async () => {
    const { code, errors } = await ferry("read", helloPath, "bar9", "0", "--json");
    expect(code).toBe(2);
    expect(json(errors)["error"]).toMatchObject({ code: "unknown-region" });
  });
});

describe("ferry demo", () => {
  it("moves a guest with its work and loses nothing, while every attack is refused", async () => {
    const { code, output, errors } = await ferry("demo", "--moves", "2");
    expect({ code, errors }).toEqual({ code: 0, errors: "" });
    expect(output).toMatch(/^ {2}2 {2}bob → alice +hisi-zip /m);
    expect(output).toMatch(/^operations [1-9]\d*, lost 0, wrong 0, run twice 0, attacks refused /m);
  });

  it("says the same as JSON", async () => {
    const { code, output } = await ferry("demo", "--moves", "1", "--json");
    expect(code).toBe(0);
    const told = json(output);
    expect(told).toMatchObject({ ok: true, lost: 0, wrong: 0, twice: 0 });
    expect(told["moves"]).toHaveLength(1);
  });
});

describe("ferry trace --replay", () => {
  const broken: ReadonlyArray<[what: string, content: string, why: RegExp]> = [
    ["nothing", "", /is empty/],
    ["another format", '{"format":"other"}\n', /no recorded trace/],
    ["no JSON", '{"format":"vfio-ferry-trace","version":1}\nnoise\n', /:2 is not JSON/],
    ["no record", '{"format":"vfio-ferry-trace","version":1}\n{"t":-1}\n', /:2 is no trace record/],
    ["a line that just fits", `${"x".repeat(16_384)}\n`, /:1 is not JSON/],
    ["a line that is too long", `${"x".repeat(16_385)}\n`, /has a line without end/],
  ];
  for (const [what, content, why] of broken) {
    it(`of a file with ${what} is exit code 1 and a sentence`, async () => {
      const path = join(folder.path, "broken.jsonl");
      writeFileSync(path, content);
      const { code, errors } = await ferry("trace", "--replay", path);
      expect(code).toBe(1);
      expect(errors).toMatch(why);
    });
  }
});
