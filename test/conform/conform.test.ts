import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Offer } from "../../src/conform/offer.ts";
import { cases, runCase, surveyServer } from "../../src/conform/suite.ts";
import { Ferry, temporaryFolder } from "../support/ferry.ts";

const folder = temporaryFolder();
afterAll(() => folder[Symbol.dispose]());

/** Lets the server's log be read: cases block this thread, and a full pipe blocks the server. */
const turn = () => new Promise((resolve) => setImmediate(resolve));

/** Cases that a device cannot show, by pattern; every other one must be answered. */
const devices = [
  {
    device: "bench",
    options: ["--set", "stateMiB=1"],
    left: [
      /^dma-map\/(echo|file-io|mmap)$/,
      /^dma-access\/(echo|echo-twin|mapped|reply-before-dma)$/,
      /^set-irqs\/line-pending$/,
    ],
  },
  {
    device: "hello",
    options: [],
    left: [
      /^dma-map\/(device-|offset|read-only|unmapped|two-maps)/,
      /^dma-unmap\/device-loses-it$/,
      /^dma-access\/(?!echo|mapped|reply-before-dma)/,
      /^region-(read|write)\/largest$/,
      /^region-info\/(sparse|small-argsz)$/,
      /^dirty-log\/read-is-clean$/,
      /^region-io-fds\/(entries|small-argsz|doorbell)$/,
    ],
  },
  {
    device: "hello",
    options: ["--set", "mmap=trusted"],
    left: [
      /^dma-map\/(device-|offset|read-only|unmapped|two-maps)/,
      /^dma-unmap\/device-loses-it$/,
      /^dma-access\/(?!echo|mapped|reply-before-dma)/,
      /^region-(read|write)\/largest$/,
      /^region-info\/(sparse|small-argsz)$/,
      /^dirty-log\/read-is-clean$/,
      /^region-io-fds\/(entries|small-argsz|doorbell)$/,
    ],
  },
] as const;
const neither = [/^migration\/no-pre-copy$/];

describe.each(devices)("$device $options", ({ device, options, left }) => {
  const path = `${folder.path}/${device}${options.length}.sock`;
  let ferry: Ferry;
  let offer: Offer;

  beforeAll(async () => {
    ferry = await Ferry.start([device, "--socket-path", path, ...options]);
    offer = surveyServer(path);
  });
  afterAll(async () => await ferry[Symbol.asyncDispose]());

  it.each(cases.map((each) => [each.id, each.title, each] as const))(
    "%s: %s",
    async (id, _, each) => {
      await turn();
      const outcome = runCase(path, offer, each);
      const expected = [...left, ...neither].some((pattern) => pattern.test(id)) ? "skip" : "pass";
      expect(outcome).toMatchObject({ outcome: expected });
    },
  );

  it("leaves the server running", async () => {
    expect(ferry.alive).toBe(true);
    expect(ferry.noise).toBe("");
    expect(await ferry.stop()).toBe(0);
  });
});

describe("the suite itself", () => {
  const serverPath = `${folder.path}/faulty.sock`;
  let ferry: Ferry;
  let offer: Offer;

  beforeAll(async () => {
    ferry = await Ferry.start(["bench", "--socket-path", serverPath, "--set", "stateMiB=0"]);
    offer = surveyServer(serverPath);
  });
  afterAll(async () => await ferry[Symbol.asyncDispose]());

  /** Runs one case through a relay that makes one kind of mistake. */
  async function through(fault: string, id: string) {
    const path = `${folder.path}/${fault}.sock`;
    const script = new URL("./faulty-relay.mjs", import.meta.url);
    const relay = new Worker(script, { workerData: { path, serverPath, fault } });
    await new Promise((resolve) => relay.once("message", resolve));
    const each = cases.find((candidate) => candidate.id === id);
    if (each === undefined) throw new Error(`no case ${id}`);
    const outcome = runCase(path, offer, each, 500);
    await relay.terminate();
    return outcome;
  }

  it("every case has an id and a title of its own", () => {
    expect(new Set(cases.map(({ id }) => id)).size).toBe(cases.length);
    expect(new Set(cases.map(({ title, command }) => command + title)).size).toBe(cases.length);
  });

  it("passes through a relay that makes no mistake", async () => {
    for (const id of ["framing/id-echo", "framing/no-reply", "region-read/data"]) {
      expect(await through("none", id)).toEqual({ outcome: "pass" });
    }
  });

  it.each([
    ["wrong-id", "framing/id-echo", /^DEVICE_GET_INFO #0 reply$/],
    ["wrong-command", "device-get-info/info", /reply$/],
    ["wrong-type", "device-get-info/info", /command|reply/],
    ["error-with-payload", "device-get-info/short", /^size of an error reply 16/],
    ["errors-swallowed", "dma-map/overlap", /error EEXIST$/],
    ["errors-changed", "dma-unmap/not-mapped", /error ENOENT$/],
    ["error-field-set", "device-get-info/info", /^error of a good reply 0$/],
    ["replies-to-all", "framing/no-reply", /reply$/],
    ["reordered", "framing/pipelined", /reply$/],
    ["data-cut", "region-read/data", /^payload bytes of the REGION_READ reply/],
    ["data-changed", "region-write/data", /data with byte/],
    ["silent", "region-write/nothing", /REGION_WRITE #1 reply/],
  ])("finds a server that is %s by %s", async (fault, id, expected) => {
    const outcome = await through(fault, id);
    expect(outcome).toEqual({
      outcome: "fail",
      expected: expect.stringMatching(expected) as string,
      came: expect.any(String) as string,
    });
  });
});
