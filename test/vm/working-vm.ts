/** A VM whose guest is at work with one device, and servers that this device may come to have. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "vitest";
import type { SwapReport } from "../../src/host/swap-source.ts";
import { ferry } from "../cli/run.ts";
import { heldMsMax } from "./caps.ts";
import { type GuestWork, Watch } from "./guest-work.ts";
import { Machine } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { Server } from "./server.ts";

/** Starts servers of the device of `work`, whose sockets are to be in `folder`. */
type Serve = (work: GuestWork, folder: string) => Promise<readonly Server[]>;

/** So many servers of this host; `launcher` starts each. */
export function servers(count: number, launcher: readonly string[] = []): Serve {
  return async ({ devices }, folder) => {
    const { name, settings } = devices[0] as GuestWork["devices"][number];
    const paths = Array.from({ length: count }, (_, n) => join(folder, `${n}`));
    return await Promise.all(paths.map((path) => Server.start(name, path, settings, launcher)));
  };
}

export class WorkingVm {
  /** Goes with the VM. */
  readonly folder: string;
  readonly watch: Watch;
  /** The VM's device is with the first one. */
  readonly servers: readonly Server[];
  readonly #machine: Machine;

  private constructor(
    folder: string,
    serving: readonly Server[],
    machine: Machine,
    work: GuestWork,
  ) {
    this.folder = folder;
    this.servers = serving;
    this.#machine = machine;
    this.watch = new Watch(work, (...command) => machine.guest(...command));
  }

  /** `work` is of one device. */
  static async start(work: GuestWork, serve: Serve): Promise<WorkingVm> {
    const folder = mkdtempSync(join(tmpdir(), "fvs-"));
    const { guestName, memoryMiB } = work;
    const serving = await serve(work, folder);
    const devices = serving.slice(0, 1).map(({ socketPath }) => ({ socketPath, plugged: true }));
    const guest = await prepare(guestName);
    const machine = await Machine.start({ guest, memory: "shared", memoryMiB, devices });
    const vm = new WorkingVm(folder, serving, machine, work);
    try {
      await vm.watch.begin();
      return vm;
    } catch (thrown) {
      await vm.end();
      throw thrown;
    }
  }

  /** The device goes from the first server to the second one and back, so often in all. */
  async swap(title: string, times: number): Promise<void> {
    for (let i = 0; i < times; i++) {
      const [from, to] = [this.servers[i % 2], this.servers[(i + 1) % 2]] as [Server, Server];
      const done = await ferry("swap", from.socketPath, "--to", to.socketPath, "--json");
      expect(done.errors).toBe("");
      const report = JSON.parse(done.output) as SwapReport;
      expect(report).toMatchObject({ connected: true, trouble: "" });
      const holders = this.servers.filter((server) => server.holdsGuestMemory);
      expect(holders).toEqual([to]);
      console.log(`vm: ${title}: swapped, held for ${report.heldMs.toFixed(1)} ms`);
      expect(report.heldMs).toBeLessThanOrEqual(heldMsMax);
      await this.watch.expectGoesOn();
    }
  }

  async end(): Promise<void> {
    await this.#machine.stop();
    for (const server of this.servers) await server.stop();
    rmSync(this.folder, { recursive: true });
  }
}
