/**
 * A device changes its server under a running QEMU, there and back, while the guest's driver is at
 * work: neither the guest nor QEMU must find anything.
 */
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { ferry } from "../cli/run.ts";
import { type GuestWork, helloWork, sec2Work } from "./guest-work.ts";
import type { Server } from "./server.ts";
import { WorkingVm } from "./working-vm.ts";

/** How often the device changes its server in each guest. */
const swaps = Number(process.env["FERRY_SWAPS"] ?? 6);

const rows: ReadonlyArray<{ readonly title: string; readonly work: GuestWork }> = [
  { title: "hello in an x86 guest, with msix interrupts", work: helloWork("msix") },
  { title: "hello in an x86 guest, with intx interrupts", work: helloWork("intx") },
  { title: "SEC2 with Linux's driver in an arm64 guest", work: sec2Work(1024) },
];

describe.each(rows)("$title", ({ title, work }) => {
  let vm: WorkingVm;
  beforeAll(async () => {
    vm = await WorkingVm.start(work, 2);
  });
  afterAll(() => vm?.end());

  test(`works on through ${swaps} swaps`, { timeout: swaps * 60_000 }, async () => {
    for (let i = 0; i < swaps; i++) {
      const [from, to] = [vm.servers[i % 2], vm.servers[(i + 1) % 2]] as [Server, Server];
      const done = await ferry("swap", from.socketPath, "--to", to.socketPath, "--json");
      expect(done.errors).toBe("");
      const report = JSON.parse(done.output) as SwapReport;
      expect(report).toMatchObject({ connected: true, trouble: "" });
      expect([from, to].map((server) => server.holdsGuestMemory)).toEqual([false, true]);
      console.log(`vm: ${title}: swapped, held for ${report.heldMs.toFixed(1)} ms`);
      await vm.watch.expectGoesOn();
    }
  });

  test("all that was computed is right, and the kernel has no complaint", () =>
    vm.watch.expectRight());
});
