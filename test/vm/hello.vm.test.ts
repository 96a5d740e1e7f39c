/**
 * The hello device in a real virtual machine: QEMU's vfio-user client on one side of the socket, a
 * Debian kernel with a driver of ours behind it, `ferry serve hello` on the other side.
 *
 * The tests of one configuration share a server and run in their order: each leaves the guest with
 * the driver bound.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { until } from "./deadline.ts";
import { ferryDevice, Machine, type MachineOptions, startRefused } from "./machine.ts";
import { prepare } from "./prepare.ts";
import type { QmpEvent } from "./qmp.ts";
import { Server } from "./server.ts";

const configurations = [
  { name: "shared memory", memory: "shared", settings: [] },
  { name: "memory without a descriptor, DMA by message", memory: "private", settings: [] },
  { name: "shared memory and a mapped BAR", memory: "shared", settings: ["mmap=trusted"] },
] as const;

/** The tests of guest/hello.c. */
const selfTests = [
  "magic",
  "scratch",
  "doorbell",
  "burst",
  "echo-byte",
  "echo-4k",
  "echo-64k",
  "echo-odd",
  "echo-streaming",
  "echo-too-long",
  "echo-unmapped",
  "memory",
];

/**
 * The guest's kernel gives a device several MSI vectors only behind an interrupt-remapping IOMMU,
 * which this machine has not.
 */
const interruptModes = [
  { mode: "intx", vectors: 1, controller: /IO-APIC +\d+-fasteoi +hello/ },
  { mode: "msi", vectors: 1, controller: /PCI-MSI-\S+ +\d+-edge +hello/ },
  { mode: "msix", vectors: 2, controller: /PCI-MSIX-\S+ +\d+-edge +hello/ },
] as const;

/** What `lspci -vv` says of the device before a driver is bound. */
const description = [
  "Class ff00: Device fe22:0001 (rev 01)",
  "Subsystem: Device fe22:0001",
  "Interrupt: pin A",
  /Region 0: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=4K\]/,
  /Region 2: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=64K\]/,
  /Region 4: Memory at \w+ \(32-bit, non-prefetchable\) .*\[size=4K\]/,
  "Power Management version 3",
  /Express \(v2\) Endpoint/,
  "FLReset+",
  /MSI: Enable- Count=1\/2 Maskable\+ 64bit\+/,
  "MSI-X: Enable- Count=2 Masked-",
  "Vector table: BAR=4 offset=00000000",
  "PBA: BAR=4 offset=00000800",
] as const;

/** QEMU says this of every device without an error interrupt; it is not a complaint. */
const expectedWarning = "Could not enable error recovery for the device";

const hotplugTimeoutMs = 30_000;
const releaseTimeoutMs = 10_000;

for (const configuration of configurations) {
  describe(`hello with ${configuration.name}`, () => helloTests(configuration));
}

function helloTests({ memory, settings }: (typeof configurations)[number]): void {
  let folder: string;
  let options: MachineOptions;
  let server: Server;
  let machine: Machine;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "fvs-"));
    const socketPath = join(folder, "hello");
    const guest = await prepare("amd64");
    options = { guest, memory, devices: [{ socketPath, plugged: true }] };
    server = await Server.start("hello", socketPath, settings);
    machine = await Machine.start(options);
  });

  afterAll(async () => {
    await machine?.stop();
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  test("the guest finds the device, its BARs and its capabilities", async () => {
    const text = await machine.guest("lspci -vv -s $(hello)");
    for (const line of description) expect(text).toMatch(line);
  });

  for (const { mode, vectors, controller } of interruptModes) {
    test(`the driver works with ${mode} interrupts`, async () => {
      await machine.guest(`load ${mode}`);
      await expectSelfTest(machine);
      expect(await machine.guest("at interrupts")).toMatch(`mode=${mode} vectors=${vectors} `);
      expect(await machine.guest("cat /proc/interrupts")).toMatch(controller);
    });
  }

  test("the memory BAR is mapped only when the server offers it", async () => {
    const mapped = /\(prio \d+, ramd\): .* BAR 2 mmaps\[0\]/;
    const tree = await machine.qmp.human("info mtree -f");
    if (settings.length > 0) expect(tree).toMatch(mapped);
    else expect(tree).not.toMatch(mapped);
  });

  test("guest memory reaches the server as the VMM offers it", () => {
    expect(server.holdsGuestMemory).toBe(memory === "shared");
  });

  test("a function-level reset clears the registers and the driver works on", async () => {
    await machine.guest("load msix");
    await machine.guest("selftest doorbell");
    await machine.guest("at scratch 0x12345678");
    expect(await machine.guest("at scratch; at counter")).toMatch(/^0x12345678\n[1-9]\d*\n$/);
    await machine.guest("flr");
    expect(await machine.guest("at scratch; at counter")).toBe("0x00000000\n0\n");
    await expectSelfTest(machine);
  });

  test("the driver can be unloaded and loaded again", async () => {
    await machine.guest("rmmod hello && load intx");
    await expectSelfTest(machine);
  });

  test("the guest can be reset while its driver works", async () => {
    await machine.guest("at scratch 0x12345678");
    await machine.qmp.execute("system_reset");
    await machine.rebooted();
    await machine.guest("load msix");
    expect(await machine.guest("at scratch; at counter")).toBe("0x00000000\n0\n");
    await expectSelfTest(machine);
  });

  test("a second VMM is refused and the first one works on", async () => {
    const { exit, output } = await startRefused(options);
    expect(exit.code).toBe(1);
    expect(output).toMatch("vfio-user");
    await expectSelfTest(machine);
  });

  test("nothing of all that made QEMU complain", () => {
    const lines = machine.output.split("\n").filter((line) => line.trim() !== "");
    expect(lines.filter((line) => !line.includes(expectedWarning))).toEqual([]);
  });

  test("a VMM that dies leaves a server that serves the next one", async () => {
    await machine.crash();
    await expectReleased(server);
    machine = await Machine.start(options);
    await machine.guest("load msix");
    await expectSelfTest(machine);
  });

  test("the server ends on SIGTERM, with its VMM still connected", async () => {
    expect(await server.stop()).toEqual({ code: 0, signal: null });
    expect(machine.running).toBe(true);
    expect(existsSync(server.socketPath)).toBe(false);
  });
}

/**
 * QEMU 11.1 aborts when a vfio-user device with MSI-X is unplugged: it takes the PBA out of a BAR
 * that is already gone. So this device has none; its connections are the same.
 */
describe("hello that is plugged in and out", () => {
  let folder: string;
  let socketPath: string;
  let server: Server;
  let machine: Machine;

  beforeAll(async () => {
    folder = mkdtempSync(join(tmpdir(), "fvs-"));
    socketPath = join(folder, "hello");
    const guest = await prepare("amd64");
    server = await Server.start("hello", socketPath, ["msix=false"]);
    const devices = [{ socketPath, plugged: false }];
    machine = await Machine.start({ guest, memory: "shared", devices });
    await machine.guest("load msi");
  });

  afterAll(async () => {
    await machine?.stop();
    await server?.stop();
    rmSync(folder, { recursive: true });
  });

  for (const time of ["first", "second", "third"]) {
    test(`the device works when it is plugged in for the ${time} time`, async () => {
      await machine.qmp.execute("device_add", ferryDevice(socketPath));
      await machine.guest(`within ${hotplugTimeoutMs / 1000} at interrupts`);
      await expectSelfTest(machine);
      await machine.guest("flr");
      await expectSelfTest(machine);
    });

    test(`the device goes when it is unplugged for the ${time} time`, async () => {
      await machine.qmp.execute("device_del", { id: "ferry0" });
      await machine.qmp.event("DEVICE_DELETED", hotplugTimeoutMs, isFerry);
      expect(await machine.guest("lspci -n")).not.toMatch("fe22:0001");
      await expectReleased(server);
    });
  }
});

function isFerry({ data }: QmpEvent): boolean {
  return data?.["device"] === "ferry0";
}

/** The server lets go of the memory of a VMM that has left, and runs on. */
async function expectReleased(server: Server): Promise<void> {
  const released = () => !server.holdsGuestMemory || undefined;
  await until(released, releaseTimeoutMs, () => "release of the memory of a VMM that left");
  expect(server.running).toBe(true);
}

/** Runs the driver's self-test: each of its tests must have run and found nothing. */
async function expectSelfTest(machine: Machine): Promise<void> {
  const lines = (await machine.guest("selftest")).trim().split("\n");
  expect(lines.filter((line) => !/^RESULT \S+ ok /.test(line))).toEqual([]);
  expect(lines.map((line) => line.split(" ")[1])).toEqual(selfTests);
}
