/** A VM that moves from QEMU to QEMU: every hop is a new QEMU and a new server of its device. */
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { askControl, type ControlRequest } from "../../src/host/control-line.ts";
import type { VmReport } from "../../src/vm/vm-report.ts";
import { ferry, type Result } from "../cli/run.ts";
import { type Exit, processesWith } from "./child.ts";
import { ControlRelay } from "./control-relay.ts";
import { until } from "./deadline.ts";
import type { GuestWork } from "./guest-work.ts";
import { Links } from "./links.ts";
import { Machine, type MachineOptions } from "./machine.ts";
import { prepare } from "./prepare.ts";
import { Server } from "./server.ts";

/** What a VM is started with, on every host again. */
export interface MovingVmKind
  extends Pick<MachineOptions, "iommu" | "place" | "parts">,
    Pick<GuestWork, "guestName" | "devices" | "memoryMiB"> {
  /** What starts processes on each of the hosts among which it moves; only this one if none. */
  readonly launchers?: ReadonlyArray<readonly string[]>;
  /** How QEMU is to move memory. */
  readonly capabilities?: readonly string[];
}

/** What has to go when the VM has gone may take a moment. */
const leftTimeoutMs = 10_000;

/** Where the VM is, or is to go. */
export interface Stop {
  /** Which of its hosts that is, counted without end. */
  readonly host: number;
  readonly servers: readonly Server[];
  readonly machine: Machine;
}

export class MovingVm {
  readonly #kind: MovingVmKind;
  readonly #folder = mkdtempSync(join(tmpdir(), "fvs-"));
  #stops = 0;
  /** Of all processes where it was first after it had moved. */
  #descriptors: string | undefined;
  /** Where the VM is. */
  here!: Stop;

  private constructor(kind: MovingVmKind) {
    this.#kind = kind;
  }

  static async start(kind: MovingVmKind): Promise<MovingVm> {
    const vm = new MovingVm(kind);
    vm.here = await vm.stop(false);
    return vm;
  }

  /** Starts servers, the last one with `misfit`, and a QEMU that boots, or waits for the VM. */
  async stop(
    incoming: boolean,
    misfit?: readonly string[],
    place = this.#kind.place,
  ): Promise<Stop> {
    const { guestName, devices, memoryMiB, iommu, parts = [], launchers = [] } = this.#kind;
    const host = incoming ? this.here.host + 1 : 0;
    const launcher = launchers[host % launchers.length] ?? [];
    const servers = await Promise.all(
      devices.map(({ name, settings }, index) => {
        const socketPath = join(this.#folder, `${this.#stops++}`);
        const fits = misfit === undefined || index < devices.length - 1;
        return Server.start(name, socketPath, fits ? settings : misfit, launcher);
      }),
    );
    const slots = servers.map(({ socketPath }) => ({ socketPath, plugged: true }));
    const guest = await prepare(guestName);
    const shared = { guest, memory: "shared", memoryMiB } as const;
    const where = { ...(iommu && { iommu }), ...(place && { place }), parts };
    const how = { ...shared, devices: slots, incoming, launcher, ...where };
    const machine = await Machine.start(how);
    const { capabilities = [] } = this.#kind;
    await machine.qmp.execute("migrate-set-capabilities", {
      capabilities: capabilities.map((capability) => ({ capability, state: true })),
    });
    return { host, servers, machine };
  }

  /** Runs a line of shell in the guest, wherever it is. */
  guest(command: string, timeoutMs?: number): Promise<string> {
    return this.here.machine.guest(command, timeoutMs);
  }

  /** `ferry vm migrate` from where the VM is; the source's servers are asked at `controls`. */
  async migrate(
    to: Stop,
    controls = this.here.servers.map(pathOf),
    more: readonly string[] = [],
  ): Promise<Result> {
    return await ferry(...this.#way(to, controls), ...more);
  }

  /** The links from where the VM is, of device `n` and of memory. */
  links(n: number): Links {
    const { servers, machine } = this.here;
    const path = join(this.#folder, `links${this.#stops++}`);
    return new Links(path, n, controlOf(servers[n]), machine.monitorPath);
  }

  /** The command line that moves the VM from where it is, over these links if there are any. */
  wayTo(to: Stop, links: Links | null = null): string[] {
    const controls = this.here.servers.map(pathOf);
    if (links === null) return this.#way(to, controls);
    return this.#way(to, controls.with(links.number, links.control), links.monitor);
  }

  #way(to: Stop, controls: readonly string[], monitor = this.here.machine.monitorPath): string[] {
    const monitors = ["--qmp", monitor, "--to-qmp", to.machine.monitorPath];
    const pairs = controls.map((from, index) => {
      return [from, to.servers[index]?.socketPath ?? ""] as const;
    });
    const [[from, there] = ["", ""], ...others] = pairs;
    const devices =
      others.length === 0
        ? ["--server", from, "--to-server", there]
        : pairs.flatMap((pair, index) => ["--device", `ferry${index}=${pair.join()}`]);
    return ["vm", "migrate", ...monitors, ...devices, "--json"];
  }

  /** Moves the VM to a fresh host and tells how that went. */
  async hop(...more: readonly string[]): Promise<VmReport> {
    return await this.#hop(await this.stop(true), undefined, more);
  }

  /**
   * Moves the VM, of one device, as if nobody had thought of what that writes: its server is not
   * told to show it to the VMM, nor to send it there.
   */
  async blindHop(): Promise<VmReport> {
    const hide = async (question: ControlRequest) =>
      question.method === "migrate"
        ? { ...question, showWrites: false, sendWrites: false }
        : question;
    const relay = this.#relay(this.here.servers[0], hide);
    const report = await this.#hop(await this.stop(true), [relay.path]);
    relay.close();
    return report;
  }

  async #hop(to: Stop, controls?: string[], more?: readonly string[]): Promise<VmReport> {
    const from = this.here;
    const result = await this.migrate(to, controls, more);
    const report = reportOf(result);
    if (report.outcome !== "moved") throw new Error(`${result.output}\n${result.errors}`);
    this.here = to;
    const ends = [await from.machine.left(), ...(await stopAll(from.servers))];
    const bad = ends.find(({ code }) => code !== 0);
    if (bad !== undefined) throw new Error(`what it left ended with ${JSON.stringify(bad)}`);
    this.#descriptors ??= this.#descriptorsHere();
    return report;
  }

  #descriptorsHere(): string {
    const { servers, machine } = this.here;
    return [...servers, machine].map((each) => each.descriptors).join();
  }

  /**
   * Of all hosts that it was on there is no process and no file any more, but for journals, which
   * are to stay; the one that it is on has as many descriptors open as the first it moved to had.
   */
  async expectNothingLeft(): Promise<void> {
    const { servers } = this.here;
    const isOurs = /^(\d+)(|\.ctl|\.mig|\.journal)$/;
    const here = servers.map(({ socketPath }) => basename(socketPath));
    const isStray = (name: string): boolean => {
      const [, of = "", what] = isOurs.exec(name) ?? [];
      return what !== ".journal" && !here.includes(of);
    };
    const found = () =>
      [
        ...readdirSync(this.#folder).filter(isStray),
        ...processesWith(this.#folder).slice(servers.length + 1),
        ...[this.#descriptorsHere()].filter((each) => each !== (this.#descriptors ?? each)),
      ].join(", ");
    const nothing = () => found() === "" || undefined;
    const what = () => `end to ${found()} (descriptors before: ${this.#descriptors})`;
    await until(nothing, leftTimeoutMs, what);
  }

  /** Tries to move the VM to a host whose device is another one, and tells how that went. */
  async refusedHop(
    misfit: readonly string[] | undefined,
    ...more: readonly string[]
  ): Promise<VmReport> {
    return await this.#refused(await this.stop(true, misfit), more);
  }

  /** Tries to move the VM to where its devices are in other places. */
  async misplacedHop(place: MovingVmKind["place"]): Promise<VmReport> {
    return await this.#refused(await this.stop(true, undefined, place));
  }

  async #refused(to: Stop, more?: readonly string[]): Promise<VmReport> {
    const report = reportOf(await this.migrate(to, undefined, more));
    await to.machine.crash();
    await stopAll(to.servers);
    return report;
  }

  /** Begins to move the VM, and ends its source's wait by force once all is ready to switch. */
  async brokenHop(): Promise<VmReport> {
    const to = await this.stop(true);
    const moving = this.migrate(to);
    await this.here.machine.qmp.event("STOP", 60_000);
    await to.machine.crash();
    const report = reportOf(await moving);
    await stopAll(to.servers);
    return report;
  }

  /** Begins to move the VM, does something once memory goes, and tells how that ended. */
  async disturbedHop(disturb: () => void, ...more: readonly string[]): Promise<VmReport> {
    const to = await this.stop(true);
    const moving = this.migrate(to, undefined, more);
    const { qmp } = this.here.machine;
    const status = async () => (await qmp.execute("query-migrate")) as { status?: string };
    while ((await status()).status !== "active") await sleep(1);
    disturb();
    const report = reportOf(await moving);
    await to.machine.left();
    await stopAll(to.servers);
    return report;
  }

  /** Tries to move the VM to where its device `n` is refused once those before it have gone. */
  async returnedHop(n: number, ...more: readonly string[]): Promise<VmReport> {
    const to = await this.stop(true);
    let continued = 0;
    const refuse = async ({ method }: ControlRequest): Promise<void> => {
      if (method !== "migrate-continue" || ++continued < 2) return;
      await askControl(controlOf(to.servers[n]), { method: "migrate-abort" });
    };
    const relay = this.#relay(this.here.servers[n], refuse);
    const controls = this.here.servers.map(pathOf).with(n, relay.path);
    const report = reportOf(await this.migrate(to, controls, more));
    relay.close();
    await to.machine.left();
    await stopAll(to.servers);
    return report;
  }

  #relay(
    server: Server | undefined,
    before: ConstructorParameters<typeof ControlRelay<ControlRequest>>[2],
  ) {
    const path = join(this.#folder, `relay${this.#stops++}`);
    return new ControlRelay(path, controlOf(server), before);
  }

  /** Ends a host to which the VM did not come, whatever has become of it. */
  async drop({ machine, servers }: Stop): Promise<void> {
    await machine.crash();
    await Promise.all(servers.map((server) => server.crash()));
  }

  async end(): Promise<void> {
    await this.here.machine.stop();
    await stopAll(this.here.servers);
    rmSync(this.#folder, { recursive: true });
  }
}

const pathOf = ({ socketPath }: Server): string => socketPath;
const controlOf = (server: Server | undefined): string => `${server?.socketPath}.ctl`;

async function stopAll(servers: readonly Server[]): Promise<Exit[]> {
  return await Promise.all(servers.map((server) => server.stop()));
}

/** The last line that `ferry vm migrate --json` has printed. */
export function reportOf({ output, errors }: Result): VmReport {
  const last = output.trim().split("\n").at(-1) ?? "";
  if (last === "") throw new Error(errors);
  return JSON.parse(last) as VmReport;
}
