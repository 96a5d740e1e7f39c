/**
 * The HiSilicon accelerators in a real virtual machine: QEMU's vfio-user client, Debian's kernels
 * for arm64 and amd64, and Linux's own drivers of the hardware. Debian configures these drivers
 * off: they are built here, unmodified, from its package of the kernel's source, for the kernels
 * that it ships.
 *
 * The tests of one machine run in their order: each leaves the three drivers bound.
 */
import {
  constants,
  createHash,
  generateKeyPairSync,
  getDiffieHellman,
  privateDecrypt,
  publicEncrypt,
  sign,
} from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  busyCommand,
  compareCommand,
  type Mode,
  modes,
  registered,
  shortModes,
} from "./hisi-algorithms.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import type { GuestName } from "./recipe.ts";
import { Server } from "./server.ts";

const accelerators = ["sec2", "zip", "hpre"] as const;

type Accelerator = (typeof accelerators)[number];

/** What `lspci -vv` says of each. */
const description = {
  sec2: "Class 1000: Device 19e5:a256 (rev 30)",
  zip: "Class 1200: Device 19e5:a251 (rev 30)",
  hpre: "Class 1000: Device 19e5:a259 (rev 30)",
} as const;

/**
 * Where the interrupts go: completions, errors and messages of the physical function have a vector
 * each, as on silicon, or the completions have the only one. MSI grants powers of two.
 */
const layouts = {
  split: { vectors: 3, granted: /MSI: Enable\+ Count=4\/4 Maskable\+ 64bit\+/ },
  single: { vectors: 1, granted: /MSI: Enable\+ Count=1\/4 Maskable\+ 64bit\+/ },
} as const;

type Layout = keyof typeof layouts;

/** The drivers have pools of pieces of 4 MiB, for which less memory is soon too fragmented. */
const memoryMiB = 1536;

/** For what takes seconds on an idle machine. */
const slowCommandMs = 240_000;

const [cbc] = modes.filter(({ name, key }) => name === "cbc(aes)" && key === 32);
const busy = busyCommand(cbc!);
const compare = compareCommand(cbc!, 1 << 20);

let folder: string;
let servers: Server[];
let machine: Machine;

describe("three accelerators at once", () => {
  inMachine({ guestName: "arm64", layout: "split", iommu: false });
  describe("SEC2", () => modeTests(modes, 2 << 20));
  describe("ZIP", zipTests);
  describe("HPRE", hpreTests);
  describe("resets", () => resetTests("with zswap"));
});

describe("three accelerators with one interrupt each, behind an IOMMU", () => {
  inMachine({ guestName: "arm64", layout: "single", iommu: true });
  test("the guest uses the IOMMU for all of them", expectIommu);
  describe("short requests to SEC2", () => modeTests(shortModes, 64 << 10));
  describe("drivers that go and come again", removalTests);
});

/** Its interrupt controller gives a device only one vector; its small kernel has no zswap. */
describe("three accelerators in an x86 guest", () => {
  inMachine({ guestName: "amd64", layout: "single", iommu: false });
  describe("SEC2", () => modeTests(modes, 512 << 10));
  describe("HPRE", hpreTests);
  describe("resets", () => resetTests("without zswap"));
  describe("drivers that go and come again", removalTests);
});

interface MachineKind {
  readonly guestName: GuestName;
  readonly layout: Layout;
  readonly iommu: boolean;
}

/** Prepares a machine for the tests of this group; the first ones load the drivers. */
function inMachine({ guestName, layout, iommu }: MachineKind): void {
  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "fvs-"));
    const guest = await prepare(guestName);
    const settings = [`vectors=${layout}`];
    servers = await Promise.all(
      accelerators.map((name) => Server.start(`hisi-${name}`, join(folder, name), settings)),
    );
    const devices = servers.map(({ socketPath }) => ({ socketPath, plugged: true }));
    machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices, iommu });
    await loadPrerequisites();
  });

  afterAll(async () => {
    await machine?.stop();
    for (const server of servers ?? []) await server.stop();
    rmSync(folder, { recursive: true });
  });

  for (const name of accelerators) {
    test(`the driver of ${name} binds and all its algorithms pass the kernel's tests`, async () => {
      const { vectors, granted } = layouts[layout];
      await machine.guest(`insmod hisi_${name}.ko`);
      await expectBound(name);
      const text = await machine.guest(`lspci -vv -s $(vf ${name})`);
      for (const part of [description[name], "FLReset+", granted]) expect(text).toMatch(part);
      const lines = (await machine.guest("cat /proc/interrupts")).split("\n");
      const own = lines.filter((line) => line.includes("PCI-MSI") && line.includes(name));
      expect(own).toHaveLength(vectors);
    });
  }

  test("the kernel has no complaint", () => expectNoComplaint());
}

function modeTests(modes: readonly Mode[], totalBytes: number): void {
  for (const mode of modes) {
    test(`${mode.name} with a key of ${mode.key} bytes gives what software gives`, async () => {
      const before = await counters("sec2");
      const result = await machine.guest(compareCommand(mode, totalBytes));
      const [, requests] = /^RESULT \S+ ok bytes=\d+ requests=(\d+)\n$/.exec(result) ?? [];
      expect(requests, result).toBeDefined();
      const after = await counters("sec2");
      expect(after.sent - before.sent).toBeGreaterThanOrEqual(2 * Number(requests));
      expect(after.received).toBe(after.sent);
    });
  }
}

function zipTests(): void {
  test("zswap compresses with it under memory pressure, and the data survives", async () => {
    await machine.guest("swap deflate");
    await expectSwapped();
  });
}

function hpreTests(): void {
  const message = Buffer.from("three accelerators at once");
  const rsa = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const rsaKey = rsa.privateKey.export({ type: "pkcs8", format: "der" }).toString("hex");
  const { RSA_NO_PADDING: noPadding, RSA_PKCS1_PADDING: padding } = constants;

  for (const group of ["modp5", "modp14", "modp15"] as const) {
    test(`Diffie-Hellman in ${group} agrees with OpenSSL`, () => expectDiffieHellman(group));
  }

  test("RSA encrypts what OpenSSL decrypts", async () => {
    const encrypted = await computed("encrypt", `${rsaKey} enc=pkcs1 ${message.toString("hex")}`);
    // Node 20 takes no padding of PKCS #1 v1.5 away: bytes 0 and 2, others, 0 and the message.
    const unpadded = privateDecrypt({ key: rsa.privateKey, padding: noPadding }, encrypted);
    expect(unpadded.subarray(0, 2)).toEqual(Buffer.of(0, 2));
    expect(unpadded.subarray(-message.length - 1)).toEqual(Buffer.of(0, ...message));
  });

  test("RSA decrypts what OpenSSL encrypted", async () => {
    const encrypted = publicEncrypt({ key: rsa.publicKey, padding }, message).toString("hex");
    expect(await computed("decrypt", `${rsaKey} enc=pkcs1 ${encrypted}`)).toEqual(message);
  });

  test("RSA signs as OpenSSL does", async () => {
    const digest = createHash("sha256").update(message).digest("hex");
    const signature = await computed("sign", `${rsaKey} 'enc=pkcs1 hash=sha256' ${digest}`);
    expect(signature).toEqual(sign("sha256", message, rsa.privateKey));
  });
}

function resetTests(swap: "with zswap" | "without zswap"): void {
  test("nothing of what was done gave the kernel a complaint", () => expectNoComplaint());

  for (const name of accelerators) {
    test(`a function-level reset of ${name}, with a driver that expects it`, async () => {
      await machine.guest(`vf_reset ${name}`);
      await expectBound(name);
    });
  }

  test("SEC2, ZIP and HPRE work after it", async () => {
    expect(await machine.guest(compare)).toMatch(/^RESULT \S+ ok /);
    if (swap === "with zswap") await expectSwapped();
    await expectDiffieHellman("modp14");
    await expectNoComplaint();
  });

  test("requests that a function-level reset breaks off fail, and others follow", async () => {
    await machine.guest(`${busy}; sleep 1; vf_reset sec2; sleep 1`);
    expect(await machine.guest("idle")).toMatch(/^RESULT \S+ ok /);
    expect(await machine.guest(compare)).toMatch(/^RESULT \S+ ok /);
    await expectNoComplaint(brokenOff);
  });

  test("the guest can be reset while requests are under way", async () => {
    await machine.guest(`${busy}; sleep 1`);
    await machine.qmp.execute("system_reset");
    await machine.rebooted();
    await loadPrerequisites();
    for (const name of accelerators) {
      await machine.guest(`insmod hisi_${name}.ko`);
      await expectBound(name);
    }
    expect(await machine.guest(compare)).toMatch(/^RESULT \S+ ok /);
    await expectNoComplaint();
  });
}

/**
 * With a single vector: Linux 6.12's driver of the interrupt controller takes four for three and
 * gives only three of them back, so that a device with three gets none a second time.
 */
function removalTests(): void {
  for (const name of accelerators) {
    test(`the driver of ${name} can be unbound and bound again`, async () => {
      await machine.guest(`unbind ${name}`);
      expect(await machine.guest(`algorithms ${name}`)).toBe("");
      await machine.guest(`bind ${name}`);
      await expectBound(name);
    });

    test(`the module of ${name} can be removed and loaded again`, async () => {
      await machine.guest(`rmmod hisi_${name} && insmod hisi_${name}.ko`);
      await expectBound(name);
    });
  }

  test("a module in use stays, and goes when its last user has gone", async () => {
    await machine.guest(`${busy}; sleep 1`);
    expect(await machine.guest("rmmod hisi_sec2 2>&1 || true")).toMatch(/Resource temporarily/);
    await machine.guest("unbind sec2 & sleep 1");
    expect(await machine.guest("idle")).toMatch(/^RESULT \S+ ok requests=\d+ errors=0\n$/);
    await machine.guest("within 20 rmmod hisi_sec2 && insmod hisi_sec2.ko");
    await expectBound("sec2");
    expect(await machine.guest(compare)).toMatch(/^RESULT \S+ ok /);
  });

  test("nothing of it gave the kernel a complaint", () => expectNoComplaint());

  test("the servers end on SIGTERM", async () => {
    for (const server of servers) expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(machine.running).toBe(true);
  });
}

/** Loads what the drivers need; the kernel's start is not what is looked at. */
async function loadPrerequisites(): Promise<void> {
  await machine.guest("prerequisites && complaints");
}

/** The driver is bound, and each of its algorithms passed the tests at its registration. */
async function expectBound(name: Accelerator): Promise<void> {
  expect(await machine.guest(`bound ${name}`)).toBe(`hisi_${name}\n`);
  await machine.guest(`within 60 tested ${name}`, slowCommandMs);
  const algorithms = (await machine.guest(`algorithms ${name}`)).trim().split("\n");
  expect(algorithms.sort()).toEqual(registered[name].map((each) => `${each} passed`).sort());
}

/** What the driver of SEC2 says of requests that come during a reset. */
const brokenOff =
  /^<3>hisi_sec2 \S+ send sec request failed!$|^<4>(hisi_qp_send|sec_process): \d+ callbacks suppr/;

/** What it says of each forgery that the device finds, which is what the device is there for. */
const forgery =
  /^<3>hisi_sec2 \S+ flag\[3\], icv\[2\]$|^<4>sec_cb_status_check: \d+ callbacks suppressed$/;

async function expectNoComplaint(expected = forgery): Promise<void> {
  const lines = (await machine.guest("complaints")).split("\n").filter((line) => line !== "");
  expect(lines.filter((line) => !forgery.test(line) && !expected.test(line))).toEqual([]);
}

/** Each device has translated addresses: its driver takes other ways then. */
async function expectIommu(): Promise<void> {
  for (const name of accelerators) {
    const command = `cat /sys/bus/pci/devices/$(vf ${name})/iommu_group/type`;
    expect(await machine.guest(command)).toMatch(/^DMA(-FQ)?\n$/);
  }
}

/** A program that gets too little memory finds all its data, which ZIP had in the meantime. */
async function expectSwapped(): Promise<void> {
  const before = await counters("zip");
  const result = await machine.guest("squeeze 4M pressure 5", slowCommandMs);
  expect(result).toBe("RESULT pressure ok pages=1280\n");
  const after = await counters("zip");
  expect(after.sent - before.sent).toBeGreaterThan(1280);
  expect(after.received).toBe(after.sent);
}

async function expectDiffieHellman(group: "modp5" | "modp14" | "modp15"): Promise<void> {
  const [own, other] = [getDiffieHellman(group), getDiffieHellman(group)];
  const [, otherKey] = [own.generateKeys(), other.generateKeys()];
  // Not every one writes a number's leading zeros.
  const value = (number: Buffer) => BigInt(`0x${number.toString("hex")}`);
  const power = async (base: Buffer) => {
    const numbers = [own.getPrime(), base, own.getPrivateKey()];
    const hex = numbers.map((number) => number.toString("hex")).join(" ");
    return value(await computed("dh", hex));
  };
  // The driver has a request of its own for the base 2, which these groups have.
  expect(await power(own.getGenerator())).toBe(value(own.getPublicKey()));
  expect(await power(otherKey)).toBe(value(own.computeSecret(otherKey)));
}

/** The guest's `keys` computes something, by requests to HPRE. */
async function computed(operation: string, args: string): Promise<Buffer> {
  const before = await counters("hpre");
  const output = await machine.guest(`keys ${operation} ${args}`);
  const [, hex] = new RegExp(`^RESULT ${operation} ok ([0-9a-f]+)\n$`).exec(output) ?? [];
  expect(hex, output).toBeDefined();
  const after = await counters("hpre");
  expect(after.sent).toBeGreaterThan(before.sent);
  expect(after.received).toBe(after.sent);
  return Buffer.from(hex!, "hex");
}

/** The driver's count of requests that it gave to the device, and of those that came back. */
async function counters(name: Accelerator): Promise<{ sent: number; received: number }> {
  const output = await machine.guest(`counter ${name} send_cnt; counter ${name} recv_cnt`);
  const [sent, received] = output.trim().split("\n").map(Number);
  return { sent: sent!, received: received! };
}
