/**
 * A device changes its server under a running QEMU, there and back, while the guest's driver is at
 * work: neither the guest nor QEMU must find anything.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { ferry } from "../cli/run.ts";
import { type GuestWork, helloWork, sec2Work, Watch } from "./guest-work.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { Server } from "./server.ts";

/** How often the device changes its server in each guest. */
const swaps = 6;

const rows: ReadonlyArray<{ readonly title: string; readonly work: GuestWork }> = [
  { title: "hello in an x86 guest, with msix interrupts", work: helloWork("msix") },
  { title: "hello in an x86 guest, with intx interrupts", work: helloWork("intx") },
  { title: "SEC2 with Linux's driver in an arm64 guest", work: sec2Work(1024) },
];

describe.each(rows)("$title", ({ title, work }) => {
  const folder = mkdtempSync(join(tmpdir(), "fvs-"));
  let servers: Server[] = [];
  let machine: Machine;
  const watch = new Watch(work, (...command) => machine.guest(...command));

  beforeAll(async () => {
    const {
      guestName,
      memoryMiB,
      devices: [device],
    } = work;
    const start = (name: string) => Server.start(device?.name ?? "", join(folder, name));
    servers = await Promise.all(["a", "b"].map(start));
    const devices = [{ socketPath: servers[0]?.socketPath as string, plugged: true }];
    const guest = await prepare(guestName);
    machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices });
    await watch.begin();
  });
  afterAll(async () => {
    await machine?.stop();
    for (const server of servers) await server.stop();
    rmSync(folder, { recursive: true });
  });

  test(`works on through ${swaps} swaps`, async () => {
    for (let i = 0; i < swaps; i++) {
      const [from, to] = [servers[i % 2], servers[(i + 1) % 2]] as [Server, Server];
      const { output, errors } = await ferry(
        "swap",
        from.socketPath,
        "--to",
        to.socketPath,
        "--json",
      );
      expect(errors).toBe("");
      const report = JSON.parse(output) as SwapReport;
      expect(report).toMatchObject({ connected: true, trouble: "" });
      expect([from, to].map((server) => server.holdsGuestMemory)).toEqual([false, true]);
      console.log(`vm: ${title}: swapped, held for ${report.heldMs.toFixed(1)} ms`);
      await watch.expectGoesOn();
    }
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());
});
