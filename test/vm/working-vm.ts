/** A VM whose guest is at work with one device, and servers that this device may come to have. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type GuestWork, Watch } from "./guest-work.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { Server } from "./server.ts";

export class WorkingVm {
  /** Goes with the VM. */
  readonly folder: string;
  readonly watch: Watch;
  /** The VM's device is with the first one. */
  readonly servers: readonly Server[];
  readonly #machine: Machine;

  private constructor(folder: string, servers: Server[], machine: Machine, work: GuestWork) {
    this.folder = folder;
    this.servers = servers;
    this.#machine = machine;
    this.watch = new Watch(work, (...command) => machine.guest(...command));
  }

  /** `work` is of one device; `launcher` starts each of so many servers. */
  static async start(
    work: GuestWork,
    servers: number,
    launcher: readonly string[] = [],
  ): Promise<WorkingVm> {
    const folder = mkdtempSync(join(tmpdir(), "fvs-"));
    const { guestName, memoryMiB, devices } = work;
    const { name, settings } = devices[0] as GuestWork["devices"][number];
    const paths = Array.from({ length: servers }, (_, n) => join(folder, `${n}`));
    const start = (path: string) => Server.start(name, path, settings, launcher);
    const started = await Promise.all(paths.map(start));
    const slots = started.slice(0, 1).map(({ socketPath }) => ({ socketPath, plugged: true }));
    const guest = await prepare(guestName);
    const machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices: slots });
    const vm = new WorkingVm(folder, started, machine, work);
    await vm.watch.begin();
    return vm;
  }

  async end(): Promise<void> {
    await this.#machine.stop();
    for (const server of this.servers) await server.stop();
    rmSync(this.folder, { recursive: true });
  }
}
