/**
 * A running VM with its device, from one unmodified QEMU to another one and on to the next: the
 * guest's driver is at work all the time, and must find nothing.
 */

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { blackoutMsMax } from "./caps.ts";
import { accelerating, type GuestWork, helloWork, sec2Work, Watch } from "./guest-work.ts";
import { MovingVm, type MovingVmKind } from "./moving-vm.ts";

const groupTypes = "cat /sys/bus/pci/devices/*/iommu_group/type";

/** How often in a row the VMs move that are for that. */
const chained = Number(process.env["FERRY_HOPS"] ?? 2);

/** A byte of configuration space that masks all vectors of a capability. */
interface Masks {
  /** As `lspci` calls it, and the byte's offset in it. */
  readonly capability: string;
  readonly at: number;
  readonly masked: number;
  readonly unmasked: number;
  /** How `lspci` shows that they are masked. */
  readonly shown: RegExp;
}

/** The upper byte of the control of MSI-X: 0x80 is on, 0x40 masks all vectors. */
const msixMasks: Masks = {
  ...{ capability: "MSI-X", at: 3, masked: 0xc0, unmasked: 0x80 },
  shown: /MSI-X: Enable\+ Count=2 Masked\+/,
};
/** The mask bits of MSI's two vectors. */
const msiMasks: Masks = {
  ...{ capability: "MSI", at: 0x10, masked: 3, unmasked: 0 },
  shown: /MSI: Enable\+[\s\S]*Masking: 00000003/,
};

interface Row extends Pick<MovingVmKind, "iommu" | "place" | "capabilities"> {
  readonly title: string;
  readonly work: GuestWork;
  /** How often it moves at first; every hop is a new QEMU and a new server. */
  readonly hops: number;
  /** Whether it does nothing but move: nothing is said about failures. */
  readonly briefly?: boolean;
  /** How hello's messages are masked, if they are. */
  readonly masks?: Masks;
  /** Whether it is hello's interrupt line. */
  readonly line?: boolean;
  /** Settings of a device that does not take its state. */
  readonly misfit: readonly string[];
}

/** A guest that has its driver test a device without end. */
const hello = (
  interrupts: "msi" | "msix" | "intx",
  hops: number,
  where: Partial<Omit<Row, "title" | "work" | "hops" | "misfit">> = {},
): Row => ({
  title: `hello in an x86 guest, ${interrupts}, ${where.iommu ?? where.place ?? "root port"}`,
  ...where,
  ...{ hops, work: helloWork(interrupts), misfit: ["msix=false"] },
});

const rows: readonly Row[] = [
  {
    title: "SEC2 with Linux's driver in an arm64 guest",
    ...{ hops: 3, misfit: ["vectors=single"] },
    work: sec2Work(1024, ["vectors=split"]),
  },
  {
    title: "SEC2, ZIP and HPRE with Linux's drivers in an arm64 guest",
    ...{ hops: chained, misfit: ["vectors=single"], work: accelerating },
  },
  {
    title: "SEC2 with Linux's driver in an arm64 guest, behind an IOMMU",
    ...{ hops: 2, briefly: true, iommu: "virtio", misfit: [] },
    work: sec2Work(1536, ["vectors=single"]),
  },
  hello("msix", chained, { masks: msixMasks }),
  hello("msix", 2, { iommu: "intel" }),
  ...(["root bus", "switch", "PCI bridge"] as const).map((place) => {
    return hello("msix", 1, { place, briefly: true });
  }),
  hello("msi", 3, { masks: msiMasks }),
  hello("intx", 1, { capabilities: ["multifd"], line: true }),
];

for (const row of rows) describe(row.title, () => hopTests(row));

function hopTests(row: Row): void {
  const { title, hops, briefly, masks, line, misfit, work, ...where } = row;
  let vm: MovingVm;
  let watch: Watch;

  beforeAll(async () => {
    vm = await MovingVm.start({ ...work, ...where });
    watch = new Watch(work, (...command) => vm.guest(...command));
    await watch.begin();
    // Otherwise the guest would not use it, and nothing would be unmapped.
    if (where.iommu !== undefined) expect(await vm.guest(groupTypes)).toMatch(/^DMA(-FQ)?$/m);
  });
  afterAll(() => vm?.end());

  for (let hop = 1; hop <= hops; hop++) {
    test(`the VM moves, and works on there (hop ${hop})`, async () => {
      const { blackoutMs, phases, notes } = await vm.hop();
      const times = phases.map(({ phase, elapsedMs }) => `${phase} ${elapsedMs.toFixed(1)}`);
      console.log(`vm: ${title}: stood still for ${blackoutMs?.toFixed(1)} ms`);
      console.log(`vm: ${times.join(", ")}; ${notes.join(" ")}`);
      expect(blackoutMs).toBeGreaterThan(0);
      expect(blackoutMs).toBeLessThanOrEqual(blackoutMsMax);
      await watch.expectGoesOn();
    });
  }

  if (where.place === "switch") {
    test("a VM whose device would be elsewhere stays, and nothing has stopped it", async () => {
      const { outcome, sentence, phases } = await vm.misplacedHop("PCI bridge");
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toMatch(
        /at pcie\.0\/01\.0(\/00\.0){3} in .*, and at pcie\.0\/01\.0(\/00\.0){2} in/,
      );
      expect(phases.map(({ phase }) => phase)).toEqual(["check"]);
      await watch.expectGoesOn();
    });
  }

  test("what it has left behind it is nothing", () => vm.expectNothingLeft());

  const failureTests = (): void => {
    test("a VM whose target dies at the switch goes on where it was", async () => {
      const { outcome, sentence } = await vm.brokenHop();
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      await watch.expectGoesOn();
    });

    test("a VM whose device does not fit there goes on where it was", async () => {
      const { outcome, sentence } = await vm.refusedHop(misfit);
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      await watch.expectGoesOn();
    });

    test("the VM moves after all of that", async () => {
      const { blackoutMs } = await vm.hop();
      expect(blackoutMs).toBeGreaterThan(0);
      expect(blackoutMs).toBeLessThanOrEqual(blackoutMsMax);
      await watch.expectGoesOn();
    });
  };
  if (briefly !== true) failureTests();

  const last = work.devices.length - 1;
  if (last > 0) {
    test("a VM whose last device is refused gets the others back and goes on", async () => {
      const { outcome, sentence, phases } = await vm.returnedHop(last);
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      const handOver = phases.find(({ phase }) => phase === "hand over");
      expect(handOver?.result).toBe("failed");
      await watch.expectGoesOn();
    });
  }

  test("all that was computed is right, and the kernel has no complaint", () =>
    watch.expectRight());

  if (masks !== undefined) {
    test("a mask of all vectors stays, and what waits behind it comes when it goes", async () => {
      await vm.guest(writeMask(masks, masks.masked));
      await vm.hop();
      expect(await vm.guest("lspci -vv -s $(hello)")).toMatch(masks.shown);
      await vm.guest("selftest > /masked 2>&1 & sleep 1");
      expect(await vm.guest("cat /masked")).toBe("");
      const lines = await vm.guest(
        `${writeMask(masks, masks.unmasked)}; within 20 test -s /masked; cat /masked`,
      );
      expect(lines.split("\n").filter((line) => !/^(RESULT \S+ ok .*)?$/.test(line))).toEqual([]);
      expect(lines).toContain("ok");
      expect(await vm.guest("complaints")).toBe("");
    });
  }

  if (line === true) {
    // QEMU's own count of lines goes with the VM: one that was up there would never be lowered.
    test.each([
      ["comes along", () => vm.hop()],
      ["comes back", () => vm.brokenHop()],
    ])("an interrupt line that is up %s, and goes down", async (_, move) => {
      await vm.guest("at line hold");
      const before = await lineCounts();
      await move();
      await vm.guest("at line free; sleep 1");
      const after = await lineCounts();
      expect(after.taken).toBe(before.taken + 1);
      expect(after.spurious - before.spurious).toBeLessThanOrEqual(strayMax);
      expect(await vm.guest("selftest")).not.toContain("FAIL");
      expect(await vm.guest("complaints")).toBe("");
    });
  }

  const lineCounts = async (): Promise<{ taken: number; spurious: number }> => {
    const text = await vm.guest("at interrupts");
    const [, taken, spurious] = /vector0=(\d+) .*spurious=(\d+)/.exec(text) ?? [];
    return { taken: Number(taken), spurious: Number(spurious) };
  };
}

/** QEMU lowers a line at any access and raises it again: a guest may look for nothing at times. */
const strayMax = 10;

const writeMask = ({ capability, at }: Masks, value: number): string =>
  `at=$(lspci -vv -s $(hello) 2>/dev/null | sed -n 's/.*\\[\\(..\\)] ${capability}: .*/\\1/p'); ` +
  `printf '\\${value.toString(8)}' | dd of=/sys/bus/pci/devices/$(hello)/config bs=1 ` +
  `seek=$((0x$at + ${at})) conv=notrunc 2>/dev/null`;
