/**
 * A running VM moves between two hosts: everything of it goes over a cable between two network
 * namespaces, the device over TLS. The sockets that command both lie in a file system of both.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ferry } from "../cli/run.ts";
import { helloWork, Watch } from "./guest-work.ts";
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

describe.skipIf(why !== null)("a VM moves between two hosts", () => {
  let vm: MovingVm;
  const work = helloWork("msi", ["msix=false"]);
  const watch = new Watch(work, (...command) => vm.guest(...command));
  const pki = mkdtempSync(join(tmpdir(), "fvp-"));

  beforeAll(async () => {
    await ferry("pki", pki, "--host", "alice", "--host", "bob");
    const launchers = [hosts.alice.launcher, hosts.bob.launcher];
    vm = await MovingVm.start({ ...work, launchers });
    await watch.begin();
  });
  afterAll(async () => {
    await vm?.end();
    removeNamespaces(...Object.values(hosts));
    rmSync(pki, { recursive: true });
  });

  const way = (from: Name, to: Name, sender: string = from): string[] => [
    ...["--link", `tls://${hosts[to].address}:7100`, "--from", sender, "--peer", to],
    ...["--pki", join(pki, from), "--to-pki", join(pki, to)],
    ...["--memory", `tcp:${hosts[to].address}:${memoryPort}`],
  ];

  test.each([
    ["alice", "bob"],
    ["bob", "alice"],
  ] as const)("from %s to %s", async (from, to) => {
    const before = hosts[to].receivedBytes;
    const { blackoutMs, sentence } = await vm.hop(...way(from, to));
    console.log(`vm: two hosts: stood still for ${blackoutMs?.toFixed(1)} ms`);
    expect(blackoutMs, sentence).toBeGreaterThan(0);
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

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());
});
