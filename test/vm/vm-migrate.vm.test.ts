/**
 * A running VM with its device, from one unmodified QEMU to another one and on to the next: the
 * guest's driver is at work all the time, and must find nothing.
 */

import { getDiffieHellman } from "node:crypto";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { busyCommand, usualMode } from "./hisi-algorithms.ts";
import { type Accelerator, accelerators } from "./hisi-machine.ts";
import { powerCommand, pressure } from "./hisi-work.ts";
import { MovingVm, type MovingVmKind } from "./moving-vm.ts";
import { suites } from "./recipe.ts";

const groupTypes = "cat /sys/bus/pci/devices/*/iommu_group/type";

interface Row extends MovingVmKind {
  readonly title: string;
  /** How often it moves at first; every hop is a new QEMU and a new server. */
  readonly hops: number;
  /** Whether it does nothing but move: nothing is said about failures. */
  readonly briefly?: boolean;
  /** Whether it is MSI-X of hello that can be masked. */
  readonly masks?: boolean;
  /** Settings of a device that does not take its state. */
  readonly misfit: readonly string[];
  /** Sets the driver up and gives it work without end. */
  readonly begin: string;
  /** How much work has been done, as numbers that grow. */
  readonly done: string;
  /** Ends the work and prints how all of it went. */
  readonly end: string;
  readonly right: RegExp;
}

/** A guest that has its driver test a device without end. */
const hello = (
  interrupts: "msi" | "msix" | "intx",
  hops: number,
  where: Partial<Pick<Row, "iommu" | "place" | "briefly" | "masks">> = {},
): Row => ({
  title: `hello in an x86 guest, ${interrupts}, ${where.iommu ?? where.place ?? "root port"}`,
  ...where,
  ...{ hops, guestName: "amd64", memoryMiB: 512 },
  ...{ devices: [{ name: "hello", settings: [] }], misfit: ["msix=false"] },
  begin:
    `load ${interrupts} && complaints > /dev/null ` +
    "&& { (until [ -e /stop ]; do selftest; done > /results 2>&1) & echo $! > /pid; }",
  done: "wc -l < /results",
  end: "touch /stop; within 20 test ! -d /proc/$(cat /pid); sort /results | uniq -c",
  right: /^ +\d+ RESULT \S+ ok /,
});

const group = getDiffieHellman("modp5");
group.generateKeys();

/** What each accelerator is given to do, again and again. */
const work: Readonly<Record<Accelerator, string>> = {
  sec2: busyCommand(usualMode(suites.stable)),
  zip: pressure.command,
  hpre: powerCommand(group.getPrime(), group.getGenerator(), group.getPrivateKey()),
};

/** SEC2 under its driver, which is given requests without end. */
const sec2Work = {
  begin:
    "prerequisites && insmod hisi_sec2.ko && within 200 tested sec2 && complaints > /dev/null " +
    `&& busy sec2 ${busyCommand(usualMode(suites.stable))}`,
  done: "counter sec2 recv_cnt",
  end: "idle sec2",
  right: /^ +1 RESULT \S+ ok requests=\d+ errors=0$/,
};

const rows: readonly Row[] = [
  {
    title: "SEC2 with Linux's driver in an arm64 guest",
    hops: 3,
    ...{ guestName: "arm64", memoryMiB: 1024, misfit: ["vectors=single"] },
    devices: [{ name: "hisi-sec2", settings: ["vectors=split"] }],
    ...sec2Work,
  },
  {
    title: "SEC2, ZIP and HPRE with Linux's drivers in an arm64 guest",
    hops: 2,
    ...{ guestName: "arm64", memoryMiB: 1536, misfit: ["vectors=single"] },
    devices: accelerators.map((name) => ({ name: `hisi-${name}`, settings: ["vectors=split"] })),
    begin: [
      "prerequisites",
      ...accelerators.map((name) => `insmod hisi_${name}.ko && within 200 tested ${name}`),
      "swap deflate && complaints > /dev/null",
      ...accelerators.map((name) => `busy ${name} ${work[name]}`),
    ].join(" && "),
    done: accelerators.map((name) => `counter ${name} recv_cnt`).join("; "),
    end: accelerators.map((name) => `idle ${name}`).join("; "),
    right: new RegExp(
      [
        "^ +1 RESULT \\S+ ok requests=\\d+ errors=0$",
        `^ +\\d+ ${pressure.result}$`,
        `^ +\\d+ RESULT dh ok 0*${group.getPublicKey("hex").replace(/^0+/, "")}$`,
      ].join("|"),
    ),
  },
  {
    title: "SEC2 with Linux's driver in an arm64 guest, behind an IOMMU",
    ...{ hops: 2, briefly: true, iommu: "virtio" },
    ...{ guestName: "arm64", memoryMiB: 1536, misfit: [] },
    devices: [{ name: "hisi-sec2", settings: ["vectors=single"] }],
    ...sec2Work,
  },
  hello("msix", 2, { masks: true }),
  hello("msix", 2, { iommu: "intel" }),
  ...(["root bus", "switch", "PCI bridge"] as const).map((place) => {
    return hello("msix", 1, { place, briefly: true });
  }),
  hello("msi", 3),
  hello("intx", 1),
];

for (const row of rows) describe(row.title, () => hopTests(row));

function hopTests(row: Row): void {
  const { title, hops, briefly, masks, misfit, begin, done, end, right, ...kind } = row;
  let vm: MovingVm;
  const count = async () => (await vm.guest(done)).trim().split("\n").map(Number);

  beforeAll(async () => {
    vm = await MovingVm.start(kind);
    await vm.guest(begin, 300_000);
    // Otherwise the guest would not use it, and nothing would be unmapped.
    if (kind.iommu !== undefined) expect(await vm.guest(groupTypes)).toMatch(/^DMA(-FQ)?$/m);
  });
  afterAll(() => vm?.end());

  const expectWork = async (): Promise<void> => {
    const before = await count();
    await vm.guest("sleep 2");
    const now = await count();
    expect(now.filter((each, index) => each <= (before[index] ?? 0))).toEqual([]);
  };

  for (let hop = 1; hop <= hops; hop++) {
    test(`the VM moves, and works on there (hop ${hop})`, async () => {
      const { blackoutMs, phases, notes } = await vm.hop();
      const times = phases.map(({ phase, elapsedMs }) => `${phase} ${elapsedMs.toFixed(1)}`);
      console.log(`vm: ${title}: stood still for ${blackoutMs?.toFixed(1)} ms`);
      console.log(`vm: ${times.join(", ")}; ${notes.join(" ")}`);
      expect(blackoutMs).toBeGreaterThan(0);
      await expectWork();
    });
  }

  const failureTests = (): void => {
    test("a VM whose target dies at the switch goes on where it was", async () => {
      const { outcome, sentence } = await vm.brokenHop();
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      await expectWork();
    });

    test("a VM whose device does not fit there goes on where it was", async () => {
      const { outcome, sentence } = await vm.refusedHop(misfit);
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      await expectWork();
    });

    test("the VM moves after all of that", async () => {
      const { blackoutMs } = await vm.hop();
      expect(blackoutMs).toBeGreaterThan(0);
      await expectWork();
    });
  };
  if (briefly !== true) failureTests();

  const last = kind.devices.length - 1;
  if (last > 0) {
    test("a VM whose last device is refused gets the others back and goes on", async () => {
      const { outcome, sentence, phases } = await vm.returnedHop(last);
      expect(outcome, sentence).toBe("kept");
      expect(sentence).toContain("where it is running");
      const handOver = phases.find(({ phase }) => phase === "hand over");
      expect(handOver?.result).toBe("failed");
      await expectWork();
    });
  }

  test("all that was computed is right, and the kernel has no complaint", async () => {
    const lines = (await vm.guest(end)).split("\n").filter((line) => line !== "");
    expect(lines.length).toBeGreaterThan(0);
    expect(lines.filter((line) => !right.test(line))).toEqual([]);
    expect(await vm.guest("complaints")).toBe("");
  });

  if (masks === true) {
    test("a mask of all vectors stays, and what waits behind it comes when it goes", async () => {
      await vm.guest(msixControl(0xc0));
      await vm.hop();
      expect(await vm.guest("lspci -vv -s $(hello)")).toMatch(/MSI-X: Enable\+ Count=2 Masked\+/);
      await vm.guest("selftest > /masked 2>&1 & sleep 1");
      expect(await vm.guest("cat /masked")).toBe("");
      const lines = await vm.guest(`${msixControl(0x80)}; within 20 test -s /masked; cat /masked`);
      expect(lines.split("\n").filter((line) => !/^(RESULT \S+ ok .*)?$/.test(line))).toEqual([]);
      expect(lines).toContain("ok");
      expect(await vm.guest("complaints")).toBe("");
    });
  }
}

/** Writes the upper byte of the control of MSI-X: 0x80 is on, 0x40 masks all vectors. */
const msixControl = (value: number): string =>
  "at=$(lspci -vv -s $(hello) 2>/dev/null | sed -n 's/.*\\[\\(..\\)] MSI-X.*/\\1/p'); " +
  `printf '\\${value.toString(8)}' | ` +
  "dd of=/sys/bus/pci/devices/$(hello)/config bs=1 seek=$((0x$at + 3)) conv=notrunc 2>/dev/null";
