/** A device that another host serves, used here through `ferry relay`, over mutual TLS. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import { runSuite } from "../../src/conform/suite.ts";
import { doWork } from "../../src/guest/work.ts";
import { openWorkload } from "../../src/guest/workloads.ts";
import { connectWhenFree } from "../client/connect-when-free.ts";
import { Load, type LoadCounts } from "../support/load.ts";
import { movingDevices } from "../support/moving-guest.ts";
import { swap } from "../support/swap-peers.ts";
import { TwoHosts } from "../support/two-hosts.ts";
import { Voyage } from "../support/voyage.ts";

/** A case that maps 65535 pieces waits for as many answers of the other host. */
const caseMs = 60_000;
const swaps = 6;

const hosts = new TwoHosts();
beforeAll(async () => await hosts.prepare(), 60_000);
afterEach(async () => await hosts.rest());
afterAll(async () => await hosts.end());

function nothingLost(counts: LoadCounts): void {
  expect(counts.doorbells).toBeGreaterThan(0);
  expect(counts.interrupts).toBe(counts.doorbells);
  expect(counts.echoInterrupts).toBe(counts.echoes);
}

describe("the conformance suite, through a relay", () => {
  const left = [/only for the (hello|bench) device/, /^no region /, /^the device has PRE_COPY/];

  it.each([["hello"], ["bench", "--set", "stateMiB=1"]])(
    "is passed by %s, but for what needs another device or descriptors",
    async (...device) => {
      const { here, there } = await hosts.relayed(...device);
      const failed: string[] = [];
      let passed = 0;
      for (const { case: each, outcome } of runSuite(here.socket, null, caseMs, true)) {
        if (outcome.outcome === "fail") failed.push(`${each.id}: ${JSON.stringify(outcome)}`);
        if (outcome.outcome === "pass") passed += 1;
        const why = outcome.outcome === "skip" ? outcome.why : "";
        if (outcome.outcome === "skip")
          expect(
            left.some((each) => each.test(why)),
            why,
          ).toBe(true);
        await new Promise((resolve) => setImmediate(resolve));
      }
      expect(failed).toEqual([]);
      expect(passed).toBeGreaterThan(200);
      expect(here.ferry.noise + there.ferry.noise).toBe("");
      expect(await here.ferry.stop()).toBe(0);
      expect(await there.ferry.stop()).toBe(0);
    },
    300_000,
  );
});

describe("a guest whose device is on another host", () => {
  it.each(["hisi-sec2", "hisi-zip", "hisi-hpre"])(
    "has every answer of %s right",
    async (name) => {
      const { here } = await hosts.relayed(name);
      const device = new RemoteDevice(connectWhenFree(here.socket), name);
      const workload = openWorkload(device, { depth: 4 });
      for (const work of workload.works) {
        const result = doWork(workload.qm, work, { depth: 4, durationMs: 0 });
        expect(result).toMatchObject({ name: work.name, requests: 4, errors: 0, firstError: null });
      }
      workload.qm.close();
      device.close();
    },
    120_000,
  );

  it("gets each interrupt once; its memory is read and written, by file or message", async () => {
    const { here } = await hosts.relayed("hello");
    const load = await Load.start(here.socket);
    await load.progress(6);
    nothingLost(await load.stop());
  }, 120_000);
});

describe("a VMM that works without a pause", () => {
  it(`loses nothing in ${swaps} swaps between this host and another`, async () => {
    const { here } = await hosts.relayed("hello");
    const own = await hosts.local("own", "hello");
    const load = await Load.start(own.socket, { twin: true });
    for (let i = 0; i < swaps; i++) {
      const [from, to] = i % 2 === 0 ? [own, here] : [here, own];
      const report = await swap(from.socket, { device: from.socket, to: to.socket });
      expect(report).toMatchObject({ connected: true, trouble: "" });
      await load.progress(3);
    }
    nothingLost(await load.stop());
  }, 120_000);
});

describe.each(movingDevices)("$device.0 under a guest that verifies every answer", (each) => {
  it("goes to another host and back while its VMM stays connected", async () => {
    const { here } = await hosts.relayed(...each.device);
    const own = await hosts.local("own", ...each.device);
    const voyage = new Voyage(each.boot(own.socket));
    try {
      for (let i = 0; i < 4; i++) {
        await voyage.works();
        const [from, to] = i % 2 === 0 ? [own, here] : [here, own];
        const report = await swap(from.socket, { to: to.socket });
        expect(report).toMatchObject({ connected: true, trouble: "" });
      }
      await voyage.works();
      expect(voyage.guest.wrong).toBe(0);
    } finally {
      voyage.end();
    }
  }, 120_000);
});
