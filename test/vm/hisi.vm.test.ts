/**
 * The HiSilicon accelerators in a real virtual machine: QEMU's vfio-user client, Debian's kernels
 * for arm64 and amd64, and Linux's own drivers of the hardware. Debian configures these drivers
 * off: they are built here, unmodified, from its package of the kernel's source, for the kernels
 * that it ships.
 *
 * The tests of one machine run in their order: each leaves the three drivers bound.
 */
import { afterAll, beforeAll, describe, test } from "vitest";
import { modesOf, shortModesOf } from "./hisi-algorithms.ts";
import { type Reboot, rebootTests, removalTests, resetTests, type Swap } from "./hisi-lifecycle.ts";
import { accelerators, HisiMachine, type MachineKind } from "./hisi-machine.ts";
import { hpreTests, modeTests, zipTests } from "./hisi-work.ts";

interface Row extends MachineKind {
  readonly title: string;
  readonly swap: Swap;
  /** Takes the time of a boot, and what a kernel does then depends on its version. */
  readonly reboots: readonly Reboot[];
}

/** The amd64 guest's interrupt controller gives a device only one vector; it has no zswap. */
const machines: readonly Row[] = [
  {
    title: "three accelerators in an arm64 guest",
    ...{ guestName: "arm64", layout: "split", iommu: false, swap: "with zswap" },
    reboots: ["by its button", "in order"],
  },
  {
    title: "three accelerators in an arm64 guest with the kernel of Debian's backports",
    ...{ guestName: "arm64-backports", layout: "split", iommu: false, swap: "with zswap" },
    reboots: ["in order"],
  },
  {
    title: "three accelerators in an x86 guest",
    ...{ guestName: "amd64", layout: "single", iommu: false, swap: "without zswap" },
    reboots: ["by its button"],
  },
];

for (const { title, swap, reboots, ...kind } of machines) {
  describe(title, () => {
    const vm = inMachine(kind);
    describe("SEC2", () => modeTests(vm, modesOf(vm.suite), 512 << 10));
    if (swap === "with zswap") describe("ZIP", () => zipTests(vm));
    describe("HPRE", () => hpreTests(vm));
    describe("resets", () => resetTests(vm, swap));
    describe("drivers that go and come again", () => removalTests(vm, swap));
    describe("reboots", () => rebootTests(vm, swap, reboots));
  });
}

for (const guestName of ["arm64", "arm64-backports"] as const) {
  describe(`three accelerators with one interrupt each, behind an IOMMU (${guestName})`, () => {
    const vm = inMachine({ guestName, layout: "single", iommu: true });
    test("the guest uses the IOMMU for all of them", () => vm.expectIommu());
    describe("short requests to SEC2", () => modeTests(vm, shortModesOf(vm.suite), 32 << 10));
    describe("HPRE", () => hpreTests(vm));
    test("nothing of it gave the kernel a complaint", () => vm.expectNoComplaint());
    test("the servers end on SIGTERM", () => vm.expectServersEnd());
  });
}

/** A machine for the tests of this group; the first ones load the drivers. */
function inMachine(kind: MachineKind): HisiMachine {
  const vm = new HisiMachine(kind);
  beforeAll(() => vm.start());
  afterAll(() => vm.stop());

  for (const name of accelerators) {
    test(`the driver of ${name} binds and all its algorithms pass the kernel's tests`, async () => {
      await vm.guest(`insmod hisi_${name}.ko`);
      await vm.expectBound(name);
      await vm.expectDescribed(name);
    });
  }

  test("the kernel has no complaint", () => vm.expectNoComplaint());
  return vm;
}
