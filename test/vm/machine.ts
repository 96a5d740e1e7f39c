/** A virtual machine: QEMU without KVM, a Debian guest, and vfio-user devices behind root ports. */
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
  /** Device n is called "ferryN" and sits in the root port "portN". */
  readonly devices: readonly DeviceSlot[];
  /** Whether the devices are behind an IOMMU, which the guest's driver virtio-iommu controls. */
  readonly iommu?: boolean;
}

export interface DeviceSlot {
  readonly socketPath: string;
  /** Whether the device is there from the start. Otherwise the root port is empty. */
  readonly plugged: boolean;
}

const defaultMemoryMiB = 512;
const connectTimeoutMs = 20_000;
const bootTimeoutMs = 120_000;
const commandTimeoutMs = 60_000;
const stopTimeoutMs = 10_000;

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
    const child = new Child([...options.guest.emulator, ...emulatorArguments(options, folder)]);
    try {
      const failed = child.exited.then(() => Promise.reject(new Error("QEMU ended")));
      failed.catch(() => {});
      const qmp = await connected(control.connection.then(QmpClient.open), failed);
      const shell = new GuestShell(await connected(shellListener.connection, failed));
      await Promise.race([shell.ready(bootTimeoutMs), failed]);
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

  get running(): boolean {
    return this.#child.exit === undefined;
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
export function ferryDevice(socketPath: string, number = 0): Record<string, unknown> {
  return {
    driver: "vfio-user-pci",
    id: `ferry${number}`,
    bus: `port${number}`,
    socket: { type: "unix", path: socketPath },
  };
}

function slotArguments({ socketPath, plugged }: DeviceSlot, number: number): string[] {
  const port = `pcie-root-port,id=port${number},chassis=${number + 1},slot=${number + 1}`;
  const device = JSON.stringify(ferryDevice(socketPath, number));
  return ["-device", port, ...(plugged ? ["-device", device] : [])];
}

function emulatorArguments(
  options: MachineOptions,
  folder: string,
  channels: "connected" | "none" = "connected",
): string[] {
  const { guest, memory } = options;
  const memorySize = `${options.memoryMiB ?? defaultMemoryMiB}M`;
  const backend = `memory-backend-memfd,id=ram,size=${memorySize},share=on`;
  const shared = ["-object", backend, "-machine", "memory-backend=ram"];
  const shell = [
    ...["-chardev", `socket,id=shell,path=${join(folder, "shell")}`, "-serial", "chardev:shell"],
    ...["-qmp", `unix:${join(folder, "qmp")}`],
  ];
  return [
    ...guest.machine,
    ...["-accel", "tcg,thread=multi", "-nodefaults", "-display", "none", "-m", memorySize],
    ...(memory === "shared" ? shared : []),
    ...(options.iommu === true ? ["-device", "virtio-iommu-pci"] : []),
    ...options.devices.flatMap(slotArguments),
    ...["-kernel", guest.kernel, "-initrd", guest.initramfs, "-append", guest.kernelCommandLine],
    ...[
      "-chardev",
      `file,id=console,path=${join(folder, "console")}`,
      "-serial",
      "chardev:console",
    ],
    ...(channels === "connected" ? shell : []),
  ];
}

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
