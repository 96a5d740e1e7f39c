/** Devices move between two `ferry serve` under a guest that works and verifies every answer. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { askControl } from "../../src/host/control-line.ts";
import { Feature, FeatureFlags, FeatureMigState, MigState } from "../../src/spec/vfio.ts";
import { ferry } from "../cli/run.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { LinkRelay } from "../support/link-relay.ts";
import { MigratingHost } from "../support/migrating-host.ts";
import { HelloGuest, type MovingGuest, movingDevices, ramIova } from "../support/moving-guest.ts";
import { type Route, Voyage } from "../support/voyage.ts";

const folder = temporaryFolder();
const pki = (host: string): string => join(folder.path, "pki", host);
let files = 0;
const freshPath = (kind: string): string => join(folder.path, `${files++}.${kind}`);

/** Of hello's registers, which can be read without effect. */
const firstWord = { bar: 0, offset: 0 };

const guestAddress = new RegExp(`${ramIova}|${ramIova.toString(16)}`, "i");

/** What a VMM says that migrates a device by itself: a negated errno when it may not. */
function setState(device: VfioDevice, deviceState: MigState): number {
  const { size } = FeatureMigState;
  const data = new Uint8Array(size);
  FeatureMigState.set(new DataView(data.buffer), 0, { deviceState, dataFd: -1 });
  return device.feature(FeatureFlags.mask.set | Feature.migDeviceState, data, 0, size, size);
}

beforeAll(async () => {
  const hosts = ["alice", "bob", "mallory"].flatMap((name) => ["--host", name]);
  const made = await ferry("pki", join(folder.path, "pki"), ...hosts);
  expect(made).toMatchObject({ code: 0, errors: "" });
}, 120_000);
afterAll(() => folder[Symbol.dispose]());

const routes = {
  unix: (): Route => ({
    offer: { from: "local", listen: `unix:${freshPath("sock")}` },
    destination: {},
  }),
  tls: (from: string, to: string): Route => ({
    offer: { from, listen: "tls://127.0.0.1:0", pki: pki(to) },
    destination: { pki: pki(from), peer: to },
  }),
  file: (): Route => ({ offer: null, destination: { to: `file:${freshPath("state")}` } }),
};

describe.each(movingDevices)("$device.0 under a guest at work", ({ device, boot }) => {
  let hosts: MigratingHost[] = [];
  let voyage: Voyage<MovingGuest>;

  beforeAll(async () => {
    const start = (name: string) =>
      MigratingHost.start(`${name}-${device[0]}`, folder.path, device);
    hosts = await Promise.all(["alice", "bob"].map(start));
    voyage = new Voyage(boot(hosts[0]?.socket ?? ""));
  }, 60_000);
  afterAll(async () => {
    voyage.end();
    for (const host of hosts) expect(await host.ferry.stop()).toBe(0);
    for (const {
      ferry: { noise },
    } of hosts)
      expect(noise).toBe("");
  }, 60_000);

  it.each(["unix", "tls", "file"] as const)(
    "moves over %s with pauses, and back without",
    async (link) => {
      const [alice, bob] = hosts as [MigratingHost, MigratingHost];
      await voyage.works();
      const there = await voyage.move(alice, bob, routes[link]("alice", "bob"), true);
      expect(there.state).toBe("RUNNING");
      await voyage.works();
      await voyage.move(bob, alice, routes[link]("bob", "alice"), false);
      await voyage.works();
      expect(voyage.guest.wrong).toBe(0);
    },
    120_000,
  );
});

describe("two hosts with a hello device", () => {
  let alice: MigratingHost;
  let bob: MigratingHost;
  let voyage: Voyage<HelloGuest>;

  beforeEach(async () => {
    const start = (name: string) =>
      MigratingHost.start(`${files++}-${name}`, folder.path, ["hello"]);
    [alice, bob] = await Promise.all([start("alice"), start("bob")]);
    voyage = new Voyage(new HelloGuest(alice.socket));
    await voyage.works(2);
  }, 60_000);
  afterEach(async () => {
    voyage.end();
    for (const host of [alice, bob]) {
      expect(host.ferry.noise).toBe("");
      expect(JSON.stringify(host.lines)).not.toMatch(guestAddress);
      await host[Symbol.asyncDispose]();
    }
  }, 60_000);

  /** A place at Bob's, as a source names it. */
  async function offered(request: object = {}): Promise<{ to: string; token: string }> {
    const listen = `unix:${freshPath("sock")}`;
    const { address, token } = await bob.offer({ from: "local", listen, ...request });
    return { to: address, token };
  }

  const overTls = { from: "alice", listen: "tls://127.0.0.1:0" } as const;
  const refusals: ReadonlyArray<
    readonly [what: string, ask: () => Promise<Record<string, string>>, sentence: string]
  > = [
    [
      "another token",
      async () => ({ ...(await offered()), token: "0".repeat(32) }),
      "no device is on offer here for this host and token",
    ],
    [
      "a host that it was not made for",
      async () => ({
        ...(await offered({ ...overTls, pki: pki("bob") })),
        ...{ pki: pki("mallory"), peer: "bob" },
      }),
      "no device is on offer here for this host and token",
    ],
    [
      "a target with another name",
      async () => ({
        ...(await offered({ ...overTls, pki: pki("bob") })),
        ...{ pki: pki("alice"), peer: "carol" },
      }),
      "it is bob, and carol was asked for",
    ],
    [
      "no certificate",
      async () => ({ ...(await offered({ ...overTls, pki: pki("bob") })), peer: "bob" }),
      "needs this host's certificate: --pki FOLDER, which ferry pki makes",
    ],
    [
      "an offer that has ended",
      async () => {
        const place = await offered({ lastsMs: 1 });
        await bob.becomes(({ offers }) => offers === 0, "without an offer");
        return place;
      },
      "no device is on offer here for this host and token",
    ],
  ];
  it.each(refusals)(
    "%s is refused with a sentence",
    async (_, ask, sentence) => {
      const place = await ask();
      const options = Object.entries(place).flatMap(([name, value]) => [`--${name}`, value]);
      const done = await ferry("migrate", alice.socket, ...options);
      expect(done).toMatchObject({ code: 1, errors: "" });
      expect(done.output).toContain("The device stays here: ");
      expect(done.output).toContain(sentence);
      const asked = await ferry("migrate", "precheck", alice.socket, ...options, "--json");
      expect(asked.code).toBeGreaterThan(0);
      expect((JSON.parse(asked.errors) as { error: object }).error).toMatchObject({
        message: expect.stringContaining(sentence),
      });
      await voyage.works(2);
    },
    60_000,
  );

  it.each(["freeze", "transfer"])(
    "abort before %s, and the guest goes on",
    async (before) => {
      voyage.guest.prepare(bob.socket);
      const moving = alice.migrate({ ...(await offered()), pauseBefore: ["freeze", "transfer"] });
      await alice.pauses("freeze");
      await voyage.works(2);
      if (before === "transfer") {
        voyage.stand();
        await alice.ask("migrate-continue");
        await alice.pauses("transfer");
      }
      const aborted = await ferry("migrate", "abort", alice.socket);
      expect(aborted).toEqual({ code: 0, errors: "", output: "" });
      expect(await moving).toMatchObject({ outcome: "kept", state: "RUNNING" });
      voyage.guest.stay();
      voyage.goOn();
      await voyage.works();
      await bob.idle();
    },
    60_000,
  );

  it.each(["accept", "data", "freeze", "end", "validated"] as const)(
    "a reset of the guest's ends a migration at %s, and the device runs",
    async (at) => {
      const { to, token } = await offered();
      using relay = await LinkRelay.listen(freshPath("relay"), to.slice("unix:".length));
      await voyage.drain();
      const { guest } = voyage;
      let resets = 0;
      const reset = (): void => {
        if (resets++ === 0) guest.reset();
      };
      relay.hear = (said, step) => {
        if (said === at && step === "arrives") reset();
      };
      const pauses = at === "freeze" ? ["freeze"] : [];
      const request = { to: relay.address, token, pauseBefore: pauses, vcpusStopped: true };
      const moving = alice.migrate(request);
      if (at === "freeze") {
        await alice.pauses(at);
        reset();
        await alice.ask("migrate-continue");
      }
      const end = await moving;
      expect(end).toMatchObject({ outcome: "kept", state: "RUNNING" });
      expect(end.sentence).toContain("the guest has reset hello; it runs on. Start again.");
      voyage.goOn();
      await voyage.works();
      const { port } = await bob.idle();
      expect(port).toMatchObject({ state: MigState.running, frozen: "none" });
    },
    60_000,
  );

  it("has one master: either the operator or the VMM", async () => {
    const { device } = voyage.guest;
    const moving = alice.migrate({ ...(await offered()), pauseBefore: ["freeze"] });
    await alice.pauses("freeze");
    expect(setState(device, MigState.stop)).toBe(-errno.EBUSY);
    expect(await alice.ask("hold-line")).toEqual({ line: { up: false, quiet: firstWord } });
    await alice.ask("migrate-abort");
    await moving;
    voyage.stand();
    expect(setState(device, MigState.stop)).toBeGreaterThanOrEqual(0);
    const end = await alice.migrate(await offered());
    expect(end).toMatchObject({ outcome: "kept", state: "STOP" });
    expect(end.sentence).toContain("its VMM migrates it");
    expect(setState(device, MigState.running)).toBeGreaterThanOrEqual(0);
    await expect(alice.ask("hold-line")).rejects.toThrow("hello is not being migrated");
    voyage.goOn();
    await voyage.works();
  }, 60_000);

  it("keeps a guest's secrets in a file that is loaded once, and waits for its VMM", async () => {
    const path = freshPath("state");
    const { guest } = voyage;
    await voyage.drain();
    const saved = await ferry("migrate", alice.socket, "--to", `file:${path}`, "--vcpus-stopped");
    expect(saved).toMatchObject({ code: 0, errors: "" });
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(readFileSync(path, "latin1").split("{")[0]).toContain("It holds a guest's secrets");
    const load = ["migrate", "load", bob.socket, "--from", `file:${path}`, "--wait-for-thaw"];
    const loaded = await ferry(...load, "--json");
    expect(loaded).toMatchObject({ code: 0, errors: "" });
    const lines = loaded.output.trim().split("\n");
    expect(JSON.parse(lines.at(-1) ?? "")).toMatchObject({ outcome: "moved", state: "STOP" });
    expect([existsSync(path), existsSync(`${path}.taken`)]).toEqual([false, true]);
    const again = await ferry(...load);
    expect(again.code).toBe(1);
    expect(again.errors).toMatch(/^ferry: .* was loaded by a host before: .*\n$/);
    const status = await ferry("migrate", "status", bob.socket);
    expect(status.output).toContain("loaded, and waits for ferry migrate thaw");
    guest.prepare(bob.socket);
    guest.copyMemory();
    expect(await ferry("migrate", "thaw", bob.socket)).toMatchObject({ code: 0, errors: "" });
    guest.arrive();
    voyage.goOn();
    await voyage.works();
  }, 120_000);

  it("tells how it goes to whoever listens, on both sides", async () => {
    const heard = new Map<MigratingHost, string[]>([
      [alice, []],
      [bob, []],
    ]);
    const enough = new AbortController();
    const listening = [...heard].map(([{ control }, phases]) => {
      const hear = (event: unknown): void => {
        const { kind, phase, step } = event as { kind: string; phase: string; step: string };
        if (kind === "phase" && step === "ends") phases.push(phase);
      };
      return askControl(control, { method: "migrate-events" }, { hear, enough: enough.signal });
    });
    await voyage.move(alice, bob, routes.unix(), true);
    await bob.idle();
    enough.abort();
    await Promise.allSettled(listening);
    const [ours, theirs] = [...heard.values()];
    expect(ours?.join()).toBe("precheck,precopy,freeze,save,transfer,hand over");
    expect(theirs?.join()).toBe("offer,receive,validate,commit,thaw,own");
    const status = await ferry("migrate", "status", alice.socket, "--json");
    expect(JSON.parse(status.output)).toMatchObject({
      migration: { side: "source", undecided: false, report: { outcome: { outcome: "moved" } } },
    });
  }, 60_000);

  it("a source that a device has left serves the next guest", async () => {
    await voyage.move(alice, bob, routes.unix(), true);
    await voyage.works(2);
    voyage.guest.leave();
    await alice.free();
    const next = new Voyage(new HelloGuest(alice.socket));
    try {
      await next.works(2);
    } finally {
      next.end();
    }
  }, 60_000);
});

describe("two hosts with devices of different shape", () => {
  it("are told apart before a byte moves", async () => {
    const start = (name: string, memory: number) =>
      MigratingHost.start(name, folder.path, ["bulk", "--set", `memoryMiB=${memory}`]);
    await using alice = await start("small", 4);
    await using bob = await start("large", 8);
    const listen = `unix:${freshPath("sock")}`;
    const { address, token } = await bob.offer({ from: "local", listen });
    const to = ["--to", address, "--token", token];
    const asked = await ferry("migrate", "precheck", alice.socket, ...to);
    expect(asked).toMatchObject({ code: 1, output: "" });
    expect(asked.errors).toMatch(/^ferry: the target refuses bulk: .* there and .* here\.\n$/);
    expect((await bob.status()).migration).toBeNull();
    const end = await alice.migrate({ to: address, token });
    expect(end).toMatchObject({ outcome: "kept", report: { bytes: 0 } });
    const { port, migration } = await bob.idle();
    expect(port).toMatchObject({ state: MigState.running, frozen: "none", master: "none" });
    expect(migration?.report.bytes).toBe(0);
  }, 60_000);
});
