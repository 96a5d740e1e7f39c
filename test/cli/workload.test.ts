/** `ferry workload` as an operator and as a script use it. */
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { afterAll, describe, expect, it } from "vitest";
import { Ferry, temporaryFolder } from "../support/ferry.ts";
import { ferry } from "./run.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

const faulty = fileURLToPath(new URL("../guest/faulty-sec2.mjs", import.meta.url));

async function serve(device: string, name: string): Promise<[server: Ferry, path: string]> {
  const path = join(folder.path, name);
  return [await Ferry.start([device, "--socket-path", path]), path];
}

interface Summary {
  readonly device: string;
  readonly requests: number;
  readonly errors: number;
  readonly results: { readonly name: string; readonly requests: number; errors: number }[];
}

describe("ferry workload", () => {
  it.each([
    ["hisi-sec2", "cbc(aes) encrypt"],
    ["hisi-zip", "deflate text"],
    ["hisi-hpre", "ecdh prime256v1"],
  ])("goes through the table of %s, a line for each work", async (device, work) => {
    const [server, path] = await serve(device, device);
    await using _ = server;
    const args = ["--seconds", "0", "--depth", "2"];
    const { code, output, errors } = await ferry("workload", path, ...args);
    expect({ code, errors }).toEqual({ code: 0, errors: "" });
    const lines = output.trimEnd().split("\n");
    expect(lines[0]).toBe(`${device}: 256 queues, 2 requests under way`);
    const line = lines.find((each) => each.startsWith(work)) ?? "";
    expect(line.slice(work.length)).toMatch(/^( +[\d.]+){5} +0$/);
    expect(lines.at(-1)).toMatch(/^\d+ requests, 0 errors$/);
  });

  it("counts the errors of a device that computes wrong, and ends with 1", async () => {
    const [server, path] = await serve(faulty, "faulty");
    await using _ = server;
    const { code, output } = await ferry("workload", path, "--seconds", "0", "--json");
    expect(code).toBe(1);
    const summary = JSON.parse(output) as Summary;
    expect(summary.device).toBe("hisi-sec2");
    expect(summary.results.map(({ name }) => name)).toContain("cbc(aes) decrypt");
    expect(summary.requests).toBe(summary.results.length * 16);
    expect(summary.errors).toBe(Math.floor(summary.requests / 5));
    const text = await ferry("workload", path, "--seconds", "0");
    expect(text.code).toBe(1);
    expect(text.output).toMatch(/^ +the device's answer is wrong\.$/m);
  });

  it("says in a sentence that it has no driver for a device, and ends with 2", async () => {
    const [server, path] = await serve("hello", "hello");
    await using _ = server;
    const { code, output, errors } = await ferry("workload", path);
    expect({ code, output }).toEqual({ code: 2, output: "" });
    expect(errors).toMatch(/^ferry: there is no driver here for .*hello, a PCI device .*\.\n$/);
    const zero = await ferry("workload", path, "--depth", "0");
    expect(zero).toMatchObject({ code: 2, errors: "ferry: --depth 0 does no work.\n" });
  });
});
