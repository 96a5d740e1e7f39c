/** Two QEMUs and two servers as a VM's migration meets them, scripted: no VM, no device. */
import { join } from "node:path";
import type { MigrationEvent } from "../../src/migration/hosts/events.ts";
import { Qemu } from "../../src/vm/qemu.ts";
import { VmMove } from "../../src/vm/vm-move.ts";
import { temporaryFolder } from "../support/ferry.ts";
import { deviceId, FakeDevice, msiPendingAt, type Side, sides, vendor } from "./fake-device.ts";
import { FakeMonitor, Refusal, silence } from "./fake-qemu.ts";

const ecam = 0x40_1000_0000;
const barAt = 0x1000_0000;
/** Where the table of MSI-X is of a device that has one. */
export const tableAt = barAt + 0x2000;
const placeOf = (bus: number): number => ecam + bus * 0x10_0000;

/** What is not written down: it changes nothing. */
const questions = /^(query-|qom-|qmp_cap|info |xp )/;

export class VmWorld {
  readonly #folder = temporaryFolder();
  readonly monitors: Record<Side, FakeMonitor>;
  readonly parts: readonly FakeDevice[];
  /** Everything that was asked, but questions: `source migrate_cancel`. */
  readonly log: string[] = [];
  readonly events: MigrationEvent[] = [];
  /** Sentences that refuse something, by what is asked as in the log. */
  readonly refusals = new Map<string, string>();
  /** How often a register of the first device was read for the sake of its line. */
  looked = 0;
  /** Called before anything is answered. */
  before: (what: string) => void = () => {};
  state: Record<Side, string> = { source: "running", target: "inmigrate" };
  migration = "none";
  /** Why the source's last migration failed. */
  failure = "";
  /** A QEMU that was started without -S, and was not told to stop. */
  readonly startsItself: Record<Side, boolean> = { source: false, target: false };
  version = { major: 11, minor: 1, micro: 1 };
  backends: object[] = [{ id: "ram", share: true, size: 1 << 30 }];
  capabilities = [
    { capability: "events", state: false },
    { capability: "pause-before-switchover", state: false },
  ];
  /** Of multifd; 0 where it is off. */
  readonly channels: Record<Side, number> = { source: 0, target: 0 };
  /** What each was told of its capabilities. */
  readonly set: Record<Side, Map<string, boolean>> = { source: new Map(), target: new Map() };
  /** What the source was told of the time when no vCPU runs, at first by its operator. */
  limits = [300];
  blocked: { readonly "blocked-reasons"?: readonly string[] } = {};
  /** The vfio-user devices that each QEMU has. */
  devices: Record<Side, string[]>;
  /** The ports of these devices, where they are not in the first ones. */
  readonly ports: Record<Side, number[]> = { source: [], target: [] };
  /** Is each port behind itself? */
  endless = false;
  /** Types of what the machines have inside. */
  inside = ["child<gpex-pcihost>", "child<qemu:iommu-memory-region>"];
  /** Two devices whose servers on the target are each other's. */
  exchanged: readonly [FakeDevice | undefined, FakeDevice | undefined] | null = null;
  /** What the target's QEMU has of configuration space. */
  readonly memory = new Map<number, string>();

  /** `ids` are those of the VM's devices. */
  constructor(ids: readonly string[] = ["acc"]) {
    const monitor = (side: Side) => new FakeMonitor(join(this.#folder.path, `${side}.qmp`));
    this.monitors = { source: monitor("source"), target: monitor("target") };
    for (const side of sides) this.#script(side);
    this.devices = { source: [...ids], target: [...ids] };
    const { path } = this.#folder;
    this.parts = ids.map((id, index) => {
      return new FakeDevice(path, id, index + 1, (what) => this.#asked(what));
    });
  }

  /** The first of its devices. */
  get first(): FakeDevice {
    return this.parts[0] as FakeDevice;
  }

  /** Writes down what is asked; a sentence refuses it. */
  #asked(what: string): string | undefined {
    if (!questions.test(what.replace(/^\w+ /, ""))) this.log.push(what);
    this.before(what);
    return this.refusals.get(what);
  }

  #script(side: Side): void {
    const monitor = this.monitors[side];
    const scripted = this.#commands(side);
    for (const [command, answer] of Object.entries(scripted)) {
      monitor.commands[command] = (args) => {
        const line = args["command-line"];
        const what = `${side} ${line === undefined ? command : String(line).split(" 0x")[0]}`;
        const why = this.#asked(what);
        return why === undefined ? answer(args) : new Refusal(why);
      };
    }
    monitor.debug = (body) => this.#debug(body);
  }

  #commands(side: Side): Record<string, (args: Record<string, unknown>) => unknown> {
    const monitor = this.monitors[side];
    const turn = (state: string, ...events: Array<[string, object?]>): object => {
      this.state[side] = state;
      setTimeout(() => events.forEach(([name, data]) => void monitor.event(name, data)), 1);
      return {};
    };
    const becomes = (status: string): [string, object] => {
      if (side === "source") this.migration = status;
      return ["MIGRATION", { status }];
    };
    return {
      "query-status": () => ({ status: this.state[side], running: true }),
      "qom-get": ({ path, property }) => this.#property(side, String(path), String(property)),
      "qom-list": ({ path }) => this.#children(side, String(path)),
      // Behind bridges that have no numbers yet there is nothing.
      "query-pci": () =>
        this.state[side] === "inmigrate" ? [] : this.parts.map((part) => this.#bus(side, part)),
      "query-version": () => ({ qemu: this.version }),
      "query-memdev": () => this.backends,
      "query-migrate-capabilities": () => [
        ...this.capabilities,
        { capability: "multifd", state: this.channels[side] > 0 },
      ],
      "query-migrate-parameters": () => ({
        ...{ "downtime-limit": this.limits.at(-1) },
        ...{ "multifd-channels": this.channels[side], "multifd-compression": "none" },
      }),
      "migrate-set-parameters": ({ "downtime-limit": limit }) => {
        this.limits.push(Number(limit));
        return {};
      },
      "query-migrate": () => ({
        ...{ status: this.migration, "error-desc": this.failure },
        ...this.blocked,
      }),
      "migrate-set-capabilities": ({ capabilities }) => {
        for (const { capability, state } of capabilities as typeof this.capabilities) {
          this.set[side].set(capability, state);
        }
        return {};
      },
      stop: () => {
        this.startsItself[side] = false;
        return {};
      },
      "migrate-incoming": () => ({}),
      migrate: () => turn("finish-migrate", becomes("active"), ["STOP"], becomes("pre-switchover")),
      "migrate-continue": () => {
        this.state.target = this.startsItself.target ? "running" : "paused";
        this.monitors.target.event("MIGRATION", { status: "completed" });
        return turn("postmigrate", becomes("completed"));
      },
      migrate_cancel: () => turn("running", becomes("cancelled"), ["RESUME"]),
      cont: () => turn("running", ["RESUME"]),
      quit: () => {
        this.state[side] = "gone";
        monitor.hangUp();
        return silence;
      },
      getfd: () => ({}),
      "chardev-add": () => ({}),
      "human-monitor-command": (args) => this.#human(side, String(args["command-line"])),
    };
  }

  /** Each device is in a port of its own. */
  #property(side: Side, path: string, property: string): unknown {
    if (property === "type") return "virt-11.1-machine";
    const [, port] = /port(\d+)$/.exec(path) ?? [];
    if (port !== undefined && property === "addr") return Number(port) << 3;
    if (port !== undefined)
      return this.endless ? `${path}/bus` : "/machine/unattached/device[9]/pcie.0";
    if (property === "addr") return 0;
    const at = this.devices[side].indexOf(path.split("/").at(-1) ?? "");
    const own = this.ports[side][at] ?? at + 1;
    return `/machine/peripheral/port${own}/port${own}`;
  }

  #children(side: Side, path: string): object[] {
    if (/port\d+$/.test(path)) return [{ name: "addr", type: "str" }];
    if (path.endsWith("]")) return [];
    if (path.endsWith("anon")) return [];
    if (path.endsWith("unattached"))
      return this.inside.map((type) => ({ name: "device[0]", type }));
    return this.devices[side].map((name) => ({ name, type: "child<vfio-user-pci>" }));
  }

  #bus(side: Side, { id: qdev_id, bus }: FakeDevice): object {
    const isMapped = side === "source" || this.memory.get(placeOf(bus) + 4)?.startsWith("06");
    const regions = [{ bar: 0, address: isMapped ? barAt : -1 }];
    const id = { vendor, device: deviceId };
    return { bus, devices: [{ bus, slot: 0, function: 0, qdev_id, id, regions }] };
  }

  /** A device whose configuration space was accessed. */
  #reach(side: Side, address: number): FakeDevice | undefined {
    const part = this.parts.find(({ bus }) => Math.floor(address / 4096) * 4096 === placeOf(bus));
    const other = this.exchanged?.find((each) => each !== part);
    const swaps = side === "target" && part !== undefined && this.exchanged?.includes(part);
    const reached = swaps === true ? other : part;
    if (reached?.serves[side] === true) reached.served[side] += 1;
    return part;
  }

  #human(side: Side, line: string): string {
    // Firmware that has not run has put nothing into memory.
    if (line.startsWith("info mtree") && this.state[side] === "inmigrate") return "";
    if (line.startsWith("info mtree")) {
      const pending = "  0000000010003000-0000000010003007 (prio 0, i/o): msix-pba\r\n";
      const ecams = "  0000004010000000-000000401fffffff (prio 0, i/o): pcie-mmcfg-mmio\r\n";
      return this.parts.some((part) => part.pending) ? ecams + pending : ecams;
    }
    if (!line.startsWith("xp")) return "";
    if (line.endsWith(` 0x${tableAt.toString(16)}`)) return this.#table();
    if (line.endsWith(` 0x${(barAt + 0x40).toString(16)}`)) this.#look();
    const address = Number(line.split(" ").at(-1));
    const { bus, kept } = this.first;
    if (address === placeOf(bus) + msiPendingAt) return `40101098: 0x0000000${kept}\r\n`;
    this.#reach(side, address);
    return "0000004010100000: 0xa25619e5\r\n";
  }

  /** QEMU lowers a line in a turn of its loop after an access. */
  #look(): void {
    this.looked += 1;
    const { line } = this.first;
    if (line !== null) line.up -= 1;
  }

  /** Four words a line. */
  #table(): string {
    const words = this.first.table.map((word) => `0x${word.toString(16).padStart(8, "0")}`);
    const lines = words.flatMap((_, at) =>
      at % 4 === 0 ? [words.slice(at, at + 4).join(" ")] : [],
    );
    return lines.map((text, at) => `${(tableAt + 16 * at).toString(16)}: ${text}\r\n`).join("");
  }

  /** The stub of the target's QEMU, whose accesses reach its server. */
  #debug(body: string): string {
    const [, what, at, size, bytes] = /^([Mm])([0-9a-f]+),(\d)(?::(\w+))?$/.exec(body) ?? [];
    if (what === undefined) return "OK";
    const address = Number.parseInt(at ?? "", 16);
    const part = this.#reach("target", address);
    const name = part === undefined || part === this.first ? "target" : `target ${part.id}`;
    const register = (part === undefined ? address : address % 4096).toString(16);
    const why = this.#asked(`${name} ${what === "M" ? "write" : "info"} ${register}`);
    if (why !== undefined) return why;
    if (what === "M") this.memory.set(address, bytes ?? "");
    else if (register === "0" && size === "4") return "e51956a2";
    return what === "M" ? "OK" : (this.memory.get(address) ?? "00".repeat(Number(size)));
  }

  /** Moves the VM; `begun` is given the move before it begins. */
  async move(begun: (move: VmMove) => void = () => {}) {
    const [from, to] = [
      await Qemu.connect(this.monitors.source.path),
      await Qemu.connect(this.monitors.target.path),
    ];
    const devices = this.parts.map((part) => part.named(this.parts.length === 1 ? null : part.id));
    const request = { devices, memory: "unix:/ram", precopyMs: 2000 };
    const move = new VmMove(from, to, request, (event) => this.events.push(event));
    begun(move);
    const end = await move.migrate();
    for (const qemu of [from, to]) qemu.close();
    for (const { from, to } of devices) for (const server of [from, to]) server.close();
    return { ...end, blackoutMs: move.blackoutMs };
  }

  end(): void {
    for (const monitor of Object.values(this.monitors)) monitor.end();
    for (const part of this.parts) part.end();
    this.#folder[Symbol.dispose]();
  }
}
