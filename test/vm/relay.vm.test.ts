/**
 * A running QEMU's device is another host's, behind `ferry relay`, and changes to one of this host
 * and back while the guest's driver is at work.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { makeAuthority, makeHost } from "../../src/cli/pki-files.ts";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { ferry } from "../cli/run.ts";
import { type GuestWork, helloWork, Watch } from "./guest-work.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { Server } from "./server.ts";

/** How often the device changes its host in each guest. */
const swaps = 4;
const port = 7311;
const address = `tls://127.0.0.1:${port}`;

/** Not Linux's driver of SEC2: it gives a mailbox command 1 ms, which a link does not promise. */
const rows: ReadonlyArray<{ readonly title: string; readonly work: GuestWork }> = [
  { title: "hello in an x86 guest, with msix interrupts", work: helloWork("msix") },
  { title: "hello in an x86 guest, with intx interrupts", work: helloWork("intx") },
];

describe.each(rows)("$title", ({ title, work }) => {
  const folder = mkdtempSync(join(tmpdir(), "fvr-"));
  const at = (name: string): string => join(folder, name);
  let far: Server;
  /** The relay, and a server of this host. */
  let servers: Server[] = [];
  let machine: Machine;
  const watch = new Watch(work, (...command) => machine.guest(...command));

  beforeAll(async () => {
    const {
      guestName,
      memoryMiB,
      devices: [device],
    } = work;
    const name = device?.name ?? "";
    const authority = await makeAuthority(at("pki"));
    const [alice, bob] = [
      await makeHost(at("pki"), authority, "alice"),
      await makeHost(at("pki"), authority, "bob"),
    ];
    const toAlice = ["--remote", address, "--pki", bob, "--peer", "alice"];
    far = await Server.run(["serve", name, ...toAlice], at("far"));
    const relay = ["relay", address, "--pki", alice, "--peer", "bob"];
    servers = [await Server.run(relay, at("near")), await Server.start(name, at("own"))];
    const devices = [{ socketPath: at("near"), plugged: true }];
    const guest = await prepare(guestName);
    machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices });
    await watch.begin();
  });
  afterAll(async () => {
    await machine?.stop();
    for (const server of [...servers, far]) await server?.stop();
    rmSync(folder, { recursive: true });
  });

  test("works on another host", () => watch.expectGoesOn());

  test(`works on through ${swaps} swaps between the hosts`, async () => {
    for (let i = 0; i < swaps; i++) {
      const [from, to] = [servers[i % 2], servers[(i + 1) % 2]] as [Server, Server];
      const args = [from.socketPath, "--to", to.socketPath, "--json"];
      const { output, errors } = await ferry("swap", ...args);
      expect(errors).toBe("");
      const report = JSON.parse(output) as SwapReport;
      expect(report).toMatchObject({ connected: true, trouble: "" });
      expect([from, to, far].map((each) => each.holdsGuestMemory)).toEqual([false, true, false]);
      console.log(`vm: ${title}: swapped, held for ${report.heldMs.toFixed(1)} ms`);
      await watch.expectGoesOn();
    }
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());
});
