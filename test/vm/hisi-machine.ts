/** A virtual machine with the three HiSilicon accelerators, and what the tests ask of it. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import { registered } from "./hisi-algorithms.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { type GuestName, guestRecipes, type Suite } from "./recipe.ts";
import { Server } from "./server.ts";

export const accelerators = ["sec2", "zip", "hpre"] as const;

export type Accelerator = (typeof accelerators)[number];

/** What `lspci -vv` says of each. */
const description = {
  sec2: "Class 1000: Device 19e5:a256 (rev 30)",
  zip: "Class 1200: Device 19e5:a251 (rev 30)",
  hpre: "Class 1000: Device 19e5:a259 (rev 30)",
} as const;

/**
 * Where the interrupts go: completions, errors and messages of the physical function have a vector
 * each, and one is reserved, as on silicon; or the completions have the only one.
 */
const layouts = {
  split: { vectors: 4, granted: /MSI: Enable\+ Count=4\/4 Maskable\+ 64bit\+/ },
  single: { vectors: 1, granted: /MSI: Enable\+ Count=1\/4 Maskable\+ 64bit\+/ },
} as const;

export interface MachineKind {
  readonly guestName: GuestName;
  readonly layout: keyof typeof layouts;
  readonly iommu: boolean;
}

/** The drivers have pools of pieces of 4 MiB, for which less memory is soon too fragmented. */
const memoryMiB = 1536;

/** For what takes seconds on an idle machine. */
const slowCommandMs = 240_000;

/** What the driver of SEC2 says of each forgery that it finds, which is what it is there for. */
const forgery =
  /^<3>hisi_sec2 \S+ flag\[3\], icv\[2\]$|^<4>sec_cb_status_check: \d+ callbacks suppressed$/;

/** What no kernel may write on its way down, where nobody can ask it for its complaints. */
const disaster = /\bBUG\b|WARNING|Call trace|blocked for more|Failed|[Tt]imed? ?out/;

/** Requests that the driver gave to the device, and those that came back. */
interface Counters {
  readonly sent: number;
  readonly received: number;
}

export class HisiMachine {
  readonly suite: Suite;
  readonly #kind: MachineKind;
  #folder = "";
  #servers: Server[] = [];
  #machine: Machine | undefined;

  constructor(kind: MachineKind) {
    this.#kind = kind;
    this.suite = guestRecipes[kind.guestName].kernel.suite;
  }

  /** Boots, and loads what the drivers need. */
  async start(): Promise<void> {
    const { guestName, layout, iommu } = this.#kind;
    const guest = await prepare(guestName);
    this.#folder = mkdtempSync(join(tmpdir(), "fvs-"));
    const settings = [`vectors=${layout}`];
    this.#servers = await Promise.all(
      accelerators.map((name) => Server.start(`hisi-${name}`, join(this.#folder, name), settings)),
    );
    const behind = iommu ? ({ iommu: "virtio" } as const) : {};
    const devices = this.#servers.map(({ socketPath }) => ({ socketPath, plugged: true }));
    this.#machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices, ...behind });
    await this.#loadPrerequisites();
  }

  async stop(): Promise<void> {
    await this.#machine?.stop();
    for (const server of this.#servers) await server.stop();
    if (this.#folder !== "") rmSync(this.#folder, { recursive: true });
  }

  /** Runs a line of shell in the guest and returns its output. */
  guest(command: string, timeoutMs = slowCommandMs): Promise<string> {
    return this.#machine!.guest(command, timeoutMs);
  }

  /** Starts the guest again, as its reset button does or in order, and loads the drivers. */
  async reboot(way: "by its button" | "in order"): Promise<void> {
    if (way === "in order") await this.guest("(sleep 1; reboot -f) &");
    else await this.#machine!.qmp.execute("system_reset");
    await this.#machine!.rebooted();
    expect(this.#machine!.console).not.toMatch(disaster);
    await this.#loadPrerequisites();
    for (const name of accelerators) {
      await this.guest(`insmod hisi_${name}.ko`);
      await this.expectBound(name);
    }
  }

  /** The kernel's start is not what is looked at. */
  async #loadPrerequisites(): Promise<void> {
    await this.guest("prerequisites && complaints");
  }

  /** The device is what the driver expects, and has the interrupts that it may have. */
  async expectDescribed(name: Accelerator): Promise<void> {
    const { vectors, granted } = layouts[this.#kind.layout];
    const text = await this.guest(`lspci -vv -s $(vf ${name})`);
    for (const part of [description[name], "FLReset+", granted]) expect(text).toMatch(part);
    const lines = (await this.guest("cat /proc/interrupts")).split("\n");
    const own = lines.filter((line) => line.includes("PCI-MSI") && line.includes(name));
    expect(own).toHaveLength(vectors);
  }

  /** The driver is bound, and each of its algorithms passed the tests at its registration. */
  async expectBound(name: Accelerator): Promise<void> {
    expect(await this.guest(`bound ${name}`)).toBe(`hisi_${name}\n`);
    await this.guest(`within 200 tested ${name}`);
    const algorithms = (await this.guest(`algorithms ${name}`)).trim().split("\n");
    const expected = registered(this.suite)[name].map((each) => `${each} passed`);
    expect(algorithms.sort()).toEqual(expected.sort());
  }

  /** Since the last call the kernel has warned of nothing, except of what is expected. */
  async expectNoComplaint(expected: RegExp = forgery): Promise<void> {
    const lines = (await this.guest("complaints")).split("\n").filter((line) => line !== "");
    expect(lines.filter((line) => !forgery.test(line) && !expected.test(line))).toEqual([]);
  }

  /** The drivers take other ways when addresses are translated. */
  async expectIommu(): Promise<void> {
    for (const name of accelerators) {
      const command = `cat /sys/bus/pci/devices/$(vf ${name})/iommu_group/type`;
      expect(await this.guest(command)).toMatch(/^DMA(-FQ)?\n$/);
    }
  }

  /** The servers go, and QEMU lives on without them. */
  async expectServersEnd(): Promise<void> {
    const ends = await Promise.all(this.#servers.map((server) => server.stop()));
    expect(ends).toEqual(accelerators.map(() => ({ code: 0, signal: null })));
    expect(this.#machine!.running).toBe(true);
  }

  /** Does something and counts the requests that the device answered: it must answer them all. */
  async countRequests<T>(name: Accelerator, work: () => Promise<T>): Promise<[T, number]> {
    const before = await this.#counters(name);
    const result = await work();
    const after = await this.#counters(name);
    const requests = after.received - before.received;
    expect(requests).toBe(after.sent - before.sent);
    return [result, requests];
  }

  async #counters(name: Accelerator): Promise<Counters> {
    const output = await this.guest(`counter ${name} send_cnt; counter ${name} recv_cnt`);
    const [sent, received] = output.trim().split("\n").map(Number);
    return { sent: sent!, received: received! };
  }
}
