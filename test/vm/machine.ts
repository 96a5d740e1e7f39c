/** A virtual machine: QEMU without KVM, a Debian guest, and vfio-user devices. */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { listenForOne } from "./accept.ts";
import { Child, type Exit } from "./child.ts";
import { within } from "./deadline.ts";
import { GuestShell } from "./guest-shell.ts";
import type { PreparedGuest } from "./prepare.ts";
import { QmpClient } from "./qmp.ts";

/** "shared": guest memory is a memfd that devices are given. "private": it has no descriptor. */
export type MemoryKind = "shared" | "private";

export interface MachineOptions {
  readonly guest: PreparedGuest;
  readonly memory: MemoryKind;
  readonly memoryMiB?: number;
  /** Device n is called "ferryN". */
  readonly devices: readonly DeviceSlot[];
  /** Where they are; in root ports unless it is said. */
  readonly place?: keyof typeof places;
  /** Whether it waits for the VM of another one, instead of booting. */
  readonly incoming?: boolean;
  /** What starts QEMU where it is to run: `ip netns exec NAME`; nothing for this host. */
  readonly launcher?: readonly string[];
  /** An IOMMU that the devices are behind. */
  readonly iommu?: keyof typeof iommus;
  /** What else it has, as QEMU's arguments. */
  readonly parts?: readonly string[];
}

export interface DeviceSlot {
  readonly socketPath: string;
  /** Whether the device is there from the start. Otherwise the root port is empty. */
  readonly plugged: boolean;
}

/** Places for device n: what is in front of it, and the bus that it is on. */
const places = {
  port: (n: number) => [`pcie-root-port,id=port${n},chassis=${n + 1},slot=${n + 1}`],
  "root bus": () => [],
  switch: (n: number) => [
    `pcie-root-port,id=root${n},chassis=${2 * n + 1},slot=${2 * n + 1}`,
    `x3130-upstream,id=up${n},bus=root${n}`,
    `xio3130-downstream,id=port${n},bus=up${n},chassis=${2 * n + 2},slot=${2 * n + 2}`,
  ],
  "PCI bridge": (n: number) => [
    `pcie-root-port,id=root${n},chassis=${n + 1},slot=${n + 1}`,
    `pcie-pci-bridge,id=port${n},bus=root${n}`,
  ],
} as const;

/** IOMMUs, and what a guest's kernel has to be told to use them. */
const iommus = {
  virtio: { device: "virtio-iommu-pci", commandLine: [] },
  // Without caching mode QEMU does not hear of what a guest maps.
  intel: { device: "intel-iommu,caching-mode=on", commandLine: ["intel_iommu=on"] },
} as const;

const defaultMemoryMiB = 512;
const connectTimeoutMs = 20_000;
const bootTimeoutMs = 120_000;
const commandTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

/** QEMU locks this byte of an image while it may write to it. */
export const writersByte = 101;

/** Lines of the console that an error message repeats. */
const consoleTailLines = 40;

export class Machine {
  readonly qmp: QmpClient;
  readonly #shell: GuestShell;
  readonly #child: Child;
  readonly #folder: string;

  private constructor(folder: string, child: Child, qmp: QmpClient, shell: GuestShell) {
    this.#folder = folder;
    this.#child = child;
    this.qmp = qmp;
    this.#shell = shell;
  }

  /** Starts QEMU and waits until the guest takes commands. */
  static async start(options: MachineOptions): Promise<Machine> {
    const folder = mkdtempSync(join(tmpdir(), "fvm-"));
    const control = await listenForOne(join(folder, "qmp"));
    const shellListener = await listenForOne(join(folder, "shell"));
    const { launcher = [], guest } = options;
    const child = new Child([
      ...launcher,
      ...guest.emulator,
      ...emulatorArguments(options, folder),
    ]);
    try {
      const failed = child.exited.then(() => Promise.reject(new Error("QEMU ended")));
      failed.catch(() => {});
      const qmp = await connected(control.connection.then(QmpClient.open), failed);
      const shell = new GuestShell(await connected(shellListener.connection, failed));
      if (options.incoming !== true) await Promise.race([shell.ready(bootTimeoutMs), failed]);
      return new Machine(folder, child, qmp, shell);
    } catch (error) {
      const console = consoleTail(folder);
      await child.end("SIGKILL", stopTimeoutMs);
      rmSync(folder, { recursive: true });
      throw new Error(`${(error as Error).message}\nQEMU: ${child.output}\nconsole:\n${console}`);
    } finally {
      control.close();
      shellListener.close();
    }
  }

  /** Runs a line of shell in the guest and returns its output; fails when its status is not 0. */
  async guest(command: string, timeoutMs = commandTimeoutMs): Promise<string> {
    try {
      const { output, status } = await this.#shell.execute(command, timeoutMs);
      if (status === 0) return output;
      throw new Error(`"${command}" ended with status ${status}: ${output}`);
    } catch (error) {
      const { message } = error as Error;
      throw new Error(`${message}\nQEMU: ${this.#child.output}\nconsole:\n${this.console}`);
    }
  }

  /** Waits for the prompt after a reset. */
  rebooted(): Promise<void> {
    return this.#shell.ready(bootTimeoutMs);
  }

  /** The end of what the guest's kernel wrote on its console. */
  get console(): string {
    return consoleTail(this.#folder);
  }

  /** What QEMU wrote: its warnings about the device are here. */
  get output(): string {
    return this.#child.output;
  }

  /** A second monitor, for the tools of an operator. */
  get monitorPath(): string {
    return monitorPath(this.#folder);
  }

  get running(): boolean {
    return this.#child.exit === undefined;
  }

  /** Whether it has the image of a disk to write to. */
  owns(image: string): boolean {
    return this.#child.locks(image, writersByte);
  }

  /** How many it has open. */
  get descriptors(): number {
    return this.#child.descriptors;
  }

  /** Ends by itself, as a VM that has left. */
  async left(): Promise<Exit> {
    await within(this.#child.exited, stopTimeoutMs, () => "the end of a QEMU whose VM has left");
    return await this.#end("SIGTERM");
  }

  /** Ends QEMU as a power-off does. */
  async stop(): Promise<Exit> {
    // QEMU may close the connection before its answer is on the way.
    if (this.running) await this.qmp.execute("quit").catch(() => {});
    return this.#end("SIGTERM");
  }

  /** Ends QEMU as a crash does: nothing is said to anybody. */
  crash(): Promise<Exit> {
    return this.#end("SIGKILL");
  }

  /** Stops it where it is, until it is resumed or ended. */
  halt(): void {
    this.#child.halt();
  }

  resume(): void {
    this.#child.resume();
  }

  async #end(signal: NodeJS.Signals): Promise<Exit> {
    const exit = await this.#child.end(signal, stopTimeoutMs);
    this.qmp.close();
    this.#shell.close();
    rmSync(this.#folder, { recursive: true, force: true });
    return exit;
  }
}

/** Starts a QEMU that is expected to give up on its device at once, and returns its last words. */
export async function startRefused(
  options: MachineOptions,
): Promise<{ readonly exit: Exit; readonly output: string }> {
  const folder = mkdtempSync(join(tmpdir(), "fvm-"));
  const child = new Child([
    ...options.guest.emulator,
    ...emulatorArguments(options, folder, "none"),
  ]);
  try {
    const exit = await within(child.exited, connectTimeoutMs, () => `exit of a refused QEMU`);
    return { exit, output: child.output };
  } finally {
    await child.end("SIGKILL", stopTimeoutMs);
    rmSync(folder, { recursive: true });
  }
}

/** The properties of device `number`, as `-device` and QMP's `device_add` take them. */
export function ferryDevice(
  socketPath: string,
  number = 0,
  bus = `port${number}`,
): Record<string, unknown> {
  return {
    driver: "vfio-user-pci",
    id: `ferry${number}`,
    bus,
    socket: { type: "unix", path: socketPath },
  };
}

function slotArguments(
  { socketPath, plugged }: DeviceSlot,
  number: number,
  place: keyof typeof places,
): string[] {
  const bus = place === "root bus" ? "pcie.0" : `port${number}`;
  const device = JSON.stringify(ferryDevice(socketPath, number, bus));
  const all = [...places[place](number), ...(plugged ? [device] : [])];
  return all.flatMap((each) => ["-device", each]);
}

function emulatorArguments(
  options: MachineOptions,
  folder: string,
  channels: "connected" | "none" = "connected",
): string[] {
  const { guest, memory } = options;
  const iommu = options.iommu === undefined ? undefined : iommus[options.iommu];
  const commandLine = [guest.kernelCommandLine, ...(iommu?.commandLine ?? [])].join(" ");
  const memorySize = `${options.memoryMiB ?? defaultMemoryMiB}M`;
  const backend = `memory-backend-memfd,id=ram,size=${memorySize},share=on`;
  const shared = ["-object", backend, "-machine", "memory-backend=ram"];
  const shell = [
    ...["-chardev", `socket,id=shell,path=${join(folder, "shell")}`, "-serial", "chardev:shell"],
    ...["-qmp", `unix:${join(folder, "qmp")}`],
    ...["-qmp", `unix:${monitorPath(folder)},server=on,wait=off`],
  ];
  return [
    ...guest.machine,
    ...["-accel", "tcg,thread=multi", "-nodefaults", "-display", "none", "-m", memorySize],
    ...(memory === "shared" ? shared : []),
    ...(options.incoming === true ? ["-incoming", "defer", "-S"] : []),
    ...(iommu === undefined ? [] : ["-device", iommu.device]),
    ...options.devices.flatMap((slot, n) => slotArguments(slot, n, options.place ?? "port")),
    ...(options.parts ?? []),
    ...["-kernel", guest.kernel, "-initrd", guest.initramfs, "-append", commandLine],
    ...[
      "-chardev",
      `file,id=console,path=${join(folder, "console")}`,
      "-serial",
      "chardev:console",
    ],
    ...(channels === "connected" ? shell : []),
  ];
}

const monitorPath = (folder: string): string => join(folder, "monitor");

function connected<T>(connection: Promise<T>, failed: Promise<never>): Promise<T> {
  return within(Promise.race([connection, failed]), connectTimeoutMs, () => "connection from QEMU");
}

function consoleTail(folder: string): string {
  try {
    const text = readFileSync(join(folder, "console"), "latin1");
    return text.split(/\r?\n/).slice(-consoleTailLines).join("\n");
  } catch {
    return "(no console)";
  }
}
