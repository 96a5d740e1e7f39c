/**
 * A running VM moves between two hosts: everything of it goes over a cable between two network
 * namespaces, the device over TLS. The sockets that command both lie in a file system of both.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ferry } from "../cli/run.ts";
import { blackoutMsMax } from "./caps.ts";
import { helloWork, hisiWork, Watch } from "./guest-work.ts";
import { MovingVm } from "./moving-vm.ts";
import { connectNamespaces, Namespace, removeNamespaces } from "./namespaces.ts";

const memoryPort = 7101;
/** A guest's memory that has been written to is more than this. */
const memoryBytes = 16 << 20;

const hosts = {
  alice: new Namespace("alice", "10.73.0.1"),
  bob: new Namespace("bob", "10.73.0.2"),
};
type Name = keyof typeof hosts;

const why = connectNamespaces(hosts.alice, hosts.bob);
if (why !== null) console.log(`vm: skipped: ${why}`);

const pki = mkdtempSync(join(tmpdir(), "fvp-"));
/** Servers of several devices meet at one port after the other. */
const port = (device: number): number => 7110 + device;

beforeAll(async () => {
  await ferry("pki", pki, "--host", "alice", "--host", "bob");
});
afterAll(() => {
  removeNamespaces(...Object.values(hosts));
  rmSync(pki, { recursive: true });
});

const way = (from: Name, to: Name, sender: string = from): string[] => [
  ...["--link", `tls://${hosts[to].address}:7100`, ...between(from, to, sender)],
];

const between = (from: Name, to: Name, sender: string = from): string[] => [
  ...["--from", sender, "--peer", to],
  ...["--pki", join(pki, from), "--to-pki", join(pki, to)],
  ...["--memory", `tcp:${hosts[to].address}:${memoryPort}`],
];

/** The same for several devices. */
const ways = (from: Name, to: Name, devices: number): string[] => [
  ...Array.from({ length: devices }, (_, device) => [
    ...["--link", `tls://${hosts[to].address}:${port(device)}`],
    ...["--home", `tls://${hosts[from].address}:${port(device)}`],
  ]).flat(),
  ...between(from, to),
];

describe.skipIf(why !== null)("a VM moves between two hosts", () => {
  let vm: MovingVm;
  const work = helloWork("msi", ["msix=false"]);
  const watch = new Watch(work, (...command) => vm.guest(...command));

  beforeAll(async () => {
    const launchers = [hosts.alice.launcher, hosts.bob.launcher];
    vm = await MovingVm.start({ ...work, launchers });
    await watch.begin();
  });
  afterAll(async () => {
    await vm?.end();
  });

  test.each([
    ["alice", "bob"],
    ["bob", "alice"],
  ] as const)("from %s to %s", async (from, to) => {
    const before = hosts[to].receivedBytes;
    const { blackoutMs, sentence } = await vm.hop(...way(from, to));
    console.log(`vm: two hosts: stood still for ${blackoutMs?.toFixed(1)} ms`);
    expect(blackoutMs, sentence).toBeGreaterThan(0);
    expect(blackoutMs, sentence).toBeLessThanOrEqual(blackoutMsMax);
    expect(hosts[to].receivedBytes - before).toBeGreaterThan(memoryBytes);
    await watch.expectGoesOn();
  });

  test("a host that is not the one that may send stays where it was", async () => {
    const { outcome, sentence } = await vm.refusedHop(
      ["msix=false"],
      ...way("alice", "bob", "eve"),
    );
    expect(outcome).toBe("kept");
    expect(sentence).toContain("where it is running");
    expect(sentence).toContain("no device is on offer here for this host");
    await watch.expectGoesOn();
  });

  test("with the cable pulled out on its way it stays, and moves later", async () => {
    const pull = (): void => {
      hosts.bob.isPlugged = false;
    };
    const { outcome, sentence, phases } = await vm.disturbedHop(pull, ...way("alice", "bob"));
    hosts.bob.isPlugged = true;
    expect(outcome, sentence).toBe("kept");
    expect(sentence).toMatch(/where it is running: The device stays here: the link to bob is lost/);
    expect(phases.at(-1)?.phase).toBe("memory");
    await watch.expectGoesOn();
    await vm.hop(...way("alice", "bob"));
    await watch.expectGoesOn();
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());
});

describe.skipIf(why !== null)("a VM with two accelerators moves between two hosts", () => {
  let vm: MovingVm;
  const work = hisiWork(["sec2", "zip"], 1024, ["vectors=split"]);
  const { length } = work.devices;
  const watch = new Watch(work, (...command) => vm.guest(...command));

  beforeAll(async () => {
    const launchers = [hosts.alice.launcher, hosts.bob.launcher];
    vm = await MovingVm.start({ ...work, launchers });
    await watch.begin();
  });
  afterAll(() => vm?.end());

  test("from alice to bob, each device over a link of its own", async () => {
    const page = join(pki, "report.html");
    const to = [...ways("alice", "bob", length), "--report", page];
    const { blackoutMs, sentence } = await vm.hop(...to);
    expect(readFileSync(page, "utf8")).toContain("While it stood still");
    console.log(`vm: two hosts, two devices: stood still for ${blackoutMs?.toFixed(1)} ms`);
    expect(blackoutMs, sentence).toBeGreaterThan(0);
    expect(blackoutMs, sentence).toBeLessThanOrEqual(blackoutMsMax);
    await watch.expectGoesOn();
  });

  test("one that has gone to alice comes back to bob when the other is refused", async () => {
    const { outcome, sentence } = await vm.returnedHop(1, ...ways("bob", "alice", length));
    expect(outcome, sentence).toBe("kept");
    expect(sentence).toContain("where it is running");
    await watch.expectGoesOn();
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());
});
