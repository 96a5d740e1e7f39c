/** Two hosts on this machine for a bench: daemons with the same device, certificates, ports. */
import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { freePort } from "../../src/cli/demo/free-port.ts";
import type { HostPlan } from "../../src/cli/demo/messages.ts";
import { makeAuthority, makeHost } from "../../src/cli/pki-files.ts";

/** As it is shipped: compiled. */
const { Daemon } = (await import(
  new URL("../../dist/cli/demo/daemon.js", import.meta.url).href
)) as typeof import("../../src/cli/demo/daemon.ts");
type Daemon = InstanceType<typeof Daemon>;

interface Host {
  readonly plan: HostPlan;
  readonly daemon: Daemon;
}

/** Both hosts with everything that they have made. */
export class Hosts implements AsyncDisposable {
  readonly plans: readonly [HostPlan, HostPlan];
  readonly daemons: readonly [Daemon, Daemon];
  readonly folder: string;

  private constructor(folder: string, [alice, bob]: readonly [Host, Host]) {
    this.folder = folder;
    this.plans = [alice.plan, bob.plan];
    this.daemons = [alice.daemon, bob.daemon];
  }

  /** `options` go to `ferry serve`. */
  static async start(device: string, options: readonly string[] = []): Promise<Hosts> {
    const folder = mkdtempSync(join(tmpdir(), "ferry-bench-"));
    const authority = await makeAuthority(join(folder, "pki"));
    const start = async (name: string): Promise<Host> => {
      const place = join(folder, name);
      mkdirSync(place);
      const pki = await makeHost(join(folder, "pki"), authority, name);
      const daemon = new Daemon(device, place, await freePort(), options);
      await daemon.ready();
      return { plan: { name, pki, berths: [daemon.berth] }, daemon };
    };
    return new Hosts(folder, [await start("alice"), await start("bob")]);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.daemons.map((each) => each.stop()));
    rmSync(this.folder, { recursive: true, force: true });
  }
}
