/** `state`: what is in a file of a device's state, and Linux's form of it. */
import { readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import { ferry } from "./run.ts";

const folder = temporaryFolder();
const at = (name: string): string => join(folder.path, name);
let server: Ferry;

beforeAll(async () => {
  const socket = ["--socket-path", at("sec2.sock"), "--set", "queues=16"];
  server = await Ferry.start(["hisi-sec2", ...socket]);
});
afterAll(async () => {
  await server.stop();
  folder[Symbol.dispose]();
});

it("a state goes to Linux's form and back, and is loaded", async () => {
  const moved = await ferry("migrate", at("sec2.sock"), "--to", `file:${at("a.state")}`);
  expect(moved).toMatchObject({ code: 0, errors: "" });
  const shown = await ferry("state", "show", at("a.state"), "--out", at("a.acc"), "--json");
  expect(shown).toMatchObject({ code: 0, errors: "" });
  const { device, sections } = JSON.parse(shown.output) as {
    readonly device: string;
    readonly sections: ReadonlyArray<{ readonly name: string; readonly bytes: number }>;
  };
  expect(device).toBe("hisi-sec2");
  expect(sections.find(({ name }) => name === "acc-vf-data")?.bytes).toBe(40);
  expect(statSync(at("a.acc")).mode & 0o777).toBe(0o600);
  expect(readFileSync(at("a.acc")).readUInt16LE(12)).toBe(0xa256);

  const made = await ferry(
    ...["state", "make", at("b.state"), "--linux", at("a.acc"), "--for", at("sec2.sock")],
  );
  expect(made).toMatchObject({ code: 0, errors: "" });
  const loaded = await ferry("migrate", "load", at("sec2.sock"), "--from", `file:${at("b.state")}`);
  expect(loaded).toMatchObject({ code: 0, errors: "" });
});

it("what makes no sense is a sentence", async () => {
  writeFileSync(at("noise"), "noise");
  const no = await ferry("state", "show", at("noise"));
  expect([no.code, no.errors]).toEqual([1, expect.stringContaining("holds no device's state")]);
  const gone = await ferry(
    ...["state", "make", at("c"), "--linux", at("gone"), "--for", at("sec2.sock")],
  );
  expect([gone.code, gone.errors]).toEqual([2, expect.stringContaining("cannot be used")]);
  const other = await ferry(
    ...["state", "make", at("c"), "--linux", at("noise"), "--for", at("sec2.sock")],
  );
  expect([other.code, other.errors]).toEqual([1, expect.stringContaining("176 or 40")]);
});
