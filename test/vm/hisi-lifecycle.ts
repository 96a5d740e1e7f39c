/** What happens to the accelerators while they work: resets, drivers that go, reboots. */
import { getDiffieHellman } from "node:crypto";
import { expect, test } from "vitest";
import { busyCommand, usualMode } from "./hisi-algorithms.ts";
import { type Accelerator, accelerators, type HisiMachine } from "./hisi-machine.ts";
import {
  expectCiphers,
  expectDiffieHellman,
  expectSwapped,
  numberOf,
  powerCommand,
  pressure,
} from "./hisi-work.ts";

/** Whether the guest has a zswap to give work to ZIP. */
export type Swap = "with zswap" | "without zswap";

/** Work for one accelerator, and all that is needed to judge it. */
interface Load {
  /** What the guest repeats until the test's end. */
  readonly command: string;
  /** Fails unless a line says that what was computed is right, or that nothing was. */
  readonly expectRight: (line: string) => void;
  /** The driver's complaints about requests that it has to refuse. */
  readonly refusals: RegExp;
  /** Whether the load has its queues all the time, so that nobody can take the driver away. */
  readonly holds: boolean;
  /** Something that works again afterwards. */
  readonly expectWorking: (vm: HisiMachine) => Promise<void>;
}

const group = getDiffieHellman("modp5");
group.generateKeys();

const loads: Record<Accelerator, (vm: HisiMachine) => Load> = {
  sec2: ({ suite }) => ({
    command: busyCommand(usualMode(suite)),
    expectRight: (line) => expect(line).toMatch(/^RESULT \S+ ok requests=\d+ errors=\d+$/),
    refusals: /^<3>hisi_sec2 \S+ send sec request failed!$|^<4>\w+: \d+ callbacks suppressed$/,
    holds: true,
    expectWorking: expectCiphers,
  }),
  zip: () => ({
    command: pressure.command,
    expectRight: (line) => expect(line).toBe(pressure.result),
    refusals: /^<4>(hisi_qp_send|hisi_zip_acompress): \d+ callbacks suppressed$/,
    holds: true,
    expectWorking: expectSwapped,
  }),
  hpre: () => ({
    command: powerCommand(group.getPrime(), group.getGenerator(), group.getPrivateKey()),
    expectRight: (line) => {
      const [, hex] = /^RESULT dh ok ([0-9a-f]+)$/.exec(line) ?? [];
      if (hex === undefined) expect(line).toMatch(/^RESULT dh failed: DH: /);
      else expect(numberOf(Buffer.from(hex, "hex"))).toBe(publicKey);
    },
    // A reset may come between the making of a queue and its start, too.
    refusals:
      /^<3>(.* )?Can not (create hpre|start) qp!$|^<4>hisi_qp_send: \d+ callbacks suppressed$/,
    holds: false,
    expectWorking: (vm) => expectDiffieHellman(vm, "modp14"),
  }),
};

const publicKey = numberOf(group.getPublicKey());

const loaded = (swap: Swap): Accelerator[] =>
  accelerators.filter((name) => name !== "zip" || swap === "with zswap");

const busy = (vm: HisiMachine, name: Accelerator): Promise<string> =>
  vm.guest(`busy ${name} ${loads[name](vm).command}`);

/** Ends a load; every result that it had must be right. */
async function idle(vm: HisiMachine, name: Accelerator): Promise<void> {
  const lines = (await vm.guest(`idle ${name}`)).trim().split("\n");
  for (const line of lines) loads[name](vm).expectRight(line.trim().replace(/^\d+ /, ""));
}

async function expectWorking(vm: HisiMachine, swap: Swap): Promise<void> {
  for (const name of loaded(swap)) await loads[name](vm).expectWorking(vm);
}

export function resetTests(vm: HisiMachine, swap: Swap): void {
  test("nothing of what was done gave the kernel a complaint", () => vm.expectNoComplaint());

  for (const name of accelerators) {
    test(`a function-level reset of ${name}, with a driver that expects it`, async () => {
      await vm.guest(`vf_reset ${name}`);
      await vm.expectBound(name);
    });
  }

  test("all work after it", async () => {
    await expectWorking(vm, swap);
    await vm.expectNoComplaint();
  });

  for (const name of ["sec2", "hpre"] as const) {
    test(`what a reset of ${name} breaks off fails or is right, and others follow`, async () => {
      await busy(vm, name);
      for (let n = 0; n < 3; n++) await vm.guest(`vf_reset ${name} && usleep 300000`);
      await idle(vm, name);
      await loads[name](vm).expectWorking(vm);
      await vm.expectNoComplaint(loads[name](vm).refusals);
    });
  }

  if (swap === "with zswap") zswapResetTests(vm);
}

/**
 * No page may be read while ZIP is reset, and that is Linux's own limit: its driver refuses all
 * requests meanwhile, and zswap takes a page that it cannot decompress for lost. Linux 6.12 stops
 * at a BUG in zswap_decompress, 7.3 kills the program. Pages that are written have another place.
 * Nor may there be resets without end: a request that a processor has begun to send when another
 * one stops the queue is neither sent nor failed (hisi_qp_send looks at the queue's state, rings
 * and counts without a lock), and who waits for it waits for ever. On a busy machine, where a
 * guest's processor stands still between two of these, that was seen once in thousands of resets.
 */
function zswapResetTests(vm: HisiMachine): void {
  test("pages that zswap has, or is about to store, survive resets of ZIP", async () => {
    await vm.guest("fill 4M 8; for n in $(seq 10); do vf_reset zip; usleep 20000; done");
    await vm.guest("within 200 filled");
    await vm.guest("vf_reset zip");
    expect(await vm.guest("read_back")).toBe("RESULT pressure ok pages=2048\n");
    await expectSwapped(vm);
    await vm.expectNoComplaint(zswapRefusals);
  });
}

/** Linux 7.3 also tries to make room in zswap, and tries again later. */
const zswapRefusals =
  /^<1>zswap: Decompression error from zswap|^<4>hisi_\w+: \d+ callbacks suppressed$/;

export function removalTests(vm: HisiMachine, swap: Swap): void {
  for (const name of accelerators) {
    test(`the driver of ${name} can be unbound and bound again`, async () => {
      if (name === "zip") await vm.guest("swap off");
      await vm.guest(`unbind ${name}`);
      expect(await vm.guest(`algorithms ${name}`)).toBe("");
      await vm.guest(`bind ${name}`);
      await vm.expectBound(name);
    });

    test(`the module of ${name} can be removed and loaded again`, async () => {
      await vm.guest(`rmmod hisi_${name} && insmod hisi_${name}.ko`);
      await vm.expectBound(name);
    });
  }

  for (const name of loaded(swap)) {
    test(`the module of ${name} at work goes when its last user has gone`, async () => {
      if (name === "zip") await vm.guest("swap deflate");
      await busy(vm, name);
      const { holds, refusals, expectWorking } = loads[name](vm);
      const refused = `rmmod hisi_${name} 2>&1 || true`;
      if (holds) expect(await vm.guest(refused)).toMatch(/Resource temporarily unavailable/);
      await vm.guest(`unbind ${name} & sleep 1`);
      await idle(vm, name);
      if (name === "zip") await vm.guest("swap off");
      await vm.guest(`within 200 rmmod hisi_${name} && insmod hisi_${name}.ko`);
      await vm.expectBound(name);
      if (name === "zip") await vm.guest("swap deflate");
      await expectWorking(vm);
      await vm.expectNoComplaint(refusals);
    });
  }
}

/**
 * What ZIP has to do when the guest goes down. An orderly reboot stops the devices, after the end
 * of all programs as a rule: that no page is read then has the reason of `zswapResetTests`.
 */
const zipAtReboot = {
  "by its button": (vm: HisiMachine) => busy(vm, "zip"),
  "in order": (vm: HisiMachine) => vm.guest("fill 4M 8 && within 200 filled"),
} as const;

export type Reboot = keyof typeof zipAtReboot;

export function rebootTests(vm: HisiMachine, swap: Swap, reboots: readonly Reboot[]): void {
  for (const way of reboots) {
    test(`the guest can be rebooted ${way} while all of them work`, async () => {
      if (swap === "with zswap") await zipAtReboot[way](vm);
      for (const name of ["sec2", "hpre"] as const) await busy(vm, name);
      await vm.reboot(way);
      if (swap === "with zswap") await vm.guest("swap deflate");
      await expectWorking(vm, swap);
      await vm.expectNoComplaint();
    });
  }
}
