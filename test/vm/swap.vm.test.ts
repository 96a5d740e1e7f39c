/**
 * A device changes its server under a running QEMU, there and back, while the guest's driver is at
 * work: neither the guest nor QEMU must find anything.
 */
import { afterAll, beforeAll, describe, test } from "vitest";
import { type GuestWork, helloWork, sec2Work } from "./guest-work.ts";
import { servers, WorkingVm } from "./working-vm.ts";

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
    vm = await WorkingVm.start(work, servers(2));
  });
  afterAll(() => vm?.end());

  test(`works on through ${swaps} swaps`, { timeout: swaps * 60_000 }, () => vm.swap(title, swaps));

  test("all that was computed is right, and the kernel has no complaint", () =>
    vm.watch.expectRight());
});
