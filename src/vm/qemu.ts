/** A QEMU as whoever migrates its VM commands it: over its monitor, unmodified. */
import { Socket } from "node:net";
import { posix } from "node:path";
import { FerryError } from "../base/errors.ts";
import { hostClock } from "../host/host-clock.ts";
import { within } from "../migration/hosts/clock.ts";
import * as s from "../migration/hosts/shapes.ts";
import { closeFd } from "../sys/descriptors.ts";
import { socketPair } from "../sys/unix.ts";
import { capabilitiesShape, misfits, streamsShape } from "./capabilities.ts";
import { GdbStub } from "./gdb-stub.ts";
import {
  bridgesMax,
  ecamBase,
  findFunction,
  type PciFunction,
  showsPending,
  slotText,
} from "./pci-place.ts";
import { QmpConnection, type QmpEvent } from "./qmp-connection.ts";

/** Waits for what a VMM does by itself, in milliseconds. */
export const vmmBudgets = {
  /** A change of its run state that it was told. */
  stateMs: 10_000,
  /** The rest of memory, once its vCPUs stand still, and everything else of the VM. */
  switchMs: 60_000,
  /** An answer, before what it sends is cut off. */
  hangMs: 2000,
  /** Its end, once it was told: a VM may stand still meanwhile that is to go on elsewhere. */
  quitMs: 2000,
} as const;

/** What the monitor calls the descriptor, and the character device, of the debugger's stub. */
const stubName = "ferry-vm-migrate";

/** `intel-iommu`, `amd-iommu`, `virtio-iommu-pci`, `arm-smmuv3`, …, and not their memory. */
const iommu = /^child<(?!.*memory-region).*(iommu|smmu).*>$/;

/** Words of memory that are asked for at once. */
const wordsMax = 1024;

/** Of a migration: how far it is, as `query-migrate` says. */
export interface MemoryProgress {
  readonly status: string;
  readonly why: string;
  readonly bytes: number;
  readonly leftBytes: number;
  readonly rounds: number;
  /** Bytes a second. */
  readonly rate: number;
}

const ram = s.object({
  transferred: s.whole(),
  remaining: s.whole(),
  "dirty-sync-count": s.whole(),
  mbps: s.amount,
});
const noRam = { transferred: 0, remaining: 0, "dirty-sync-count": 0, mbps: 0 };
const migrateShape = s.object({
  status: s.optional(s.text(64), "none"),
  "error-desc": s.optional(s.sentence, ""),
  ram: s.optional(ram, noRam),
});
const versionShape = s.object({
  qemu: s.object({ major: s.whole(), minor: s.whole(), micro: s.whole() }),
});
type Version = s.Read<typeof versionShape>["qemu"];
const backendShape = s.object({
  id: s.optional(s.text(256), ""),
  share: s.optional(s.flag, false),
});
type MemoryBackend = s.Read<typeof backendShape>;
const blockersShape = s.object({ "blocked-reasons": s.optional(s.list(s.sentence, 64), []) });
const limitShape = s.object({ "downtime-limit": s.whole(2_000_000) });
const passShape = s.object({ pass: s.whole() });
const runStateShape = s.object({ status: s.text(64), running: s.flag });
const childrenShape = s.list(s.object({ name: s.text(256), type: s.text(256) }), 4096);
const migrationShape = s.object({ status: s.text(64) });

/** The state of a migration that an event tells. */
const statusOf = ({ event, data }: QmpEvent): string =>
  event === "MIGRATION" ? (migrationShape(data)?.status ?? "") : "";

/** The number of a pass over memory that an event tells; 0 for any other event. */
const passOf = (told: QmpEvent | undefined): number =>
  told?.event === "MIGRATION_PASS" ? (passShape(told.data)?.pass ?? 0) : 0;

/** One QEMU; a command it refuses throws with its own words. */
export class Qemu {
  readonly #qmp: QmpConnection;
  /** Before that, what a VMM tells of its migration is of an earlier one. */
  #hasBegun = false;

  private constructor(qmp: QmpConnection) {
    this.#qmp = qmp;
  }

  static async connect(path: string): Promise<Qemu> {
    return new Qemu(await QmpConnection.open(path));
  }

  /** For people: where its monitor is. */
  get path(): string {
    return this.#qmp.path;
  }

  async version(): Promise<Version> {
    return (await this.#qmp.read(versionShape, "query-version")).qemu;
  }

  /** The memory that the VM can be given, and whether others may map it. */
  async memoryBackends(): Promise<readonly MemoryBackend[]> {
    return await this.#qmp.read(s.list(backendShape, 256), "query-memdev");
  }

  /** Why QEMU itself would not migrate the VM. */
  async blockers(): Promise<readonly string[]> {
    return (await this.#qmp.read(blockersShape, "query-migrate"))["blocked-reasons"];
  }

  /** `running`, `inmigrate`, `paused`, … */
  async runState(): Promise<string> {
    return (await this.#qmp.read(runStateShape, "query-status")).status;
  }

  /** The machine's type with its version. */
  async machine(): Promise<string> {
    return await this.#property(s.text(256), "/machine", "type");
  }

  async #property<T>(shape: s.Reader<T>, path: string, property: string): Promise<T> {
    return await this.#qmp.read(shape, "qom-get", { path, property });
  }

  /** Ids of the VM's vfio-user devices; of one that has no id, its place. */
  async vfioUserDevices(): Promise<string[]> {
    const devices = await this.#children("/machine/peripheral", "/machine/peripheral-anon");
    return devices.filter(({ type }) => type === "child<vfio-user-pci>").map(({ name }) => name);
  }

  /** Whether the machine has an IOMMU, whatever kind it is. */
  async hasIommu(): Promise<boolean> {
    const folders = ["peripheral", "peripheral-anon", "unattached"];
    const parts = await this.#children(...folders.map((name) => `/machine/${name}`));
    return parts.some(({ type }) => iommu.test(type));
  }

  /** What these have: parts of the machine, or properties of one. */
  async #children(...folders: readonly string[]): Promise<s.Read<typeof childrenShape>> {
    const lists = folders.map((path) => this.#qmp.read(childrenShape, "qom-list", { path }));
    return (await Promise.all(lists)).flat();
  }

  /** The functions with these ids, where they are now. */
  async findFunctions(ids: readonly string[]): Promise<PciFunction[]> {
    const answer = await this.#qmp.execute("query-pci");
    return ids.map((id) => {
      const found = findFunction(answer, id);
      if (found !== undefined) return found;
      throw new FerryError("no-device", `the VM of ${this.path} has no PCI device ${id}.`);
    });
  }

  /**
   * The way to the device with this id from its root bus, `pcie.0/01.0/00.0`. Numbers of buses,
   * which a guest's firmware gives, are not in it: it is known before a VM is there.
   */
  async wayTo(id: string): Promise<string> {
    const way: string[] = [];
    for (let at = `/machine/peripheral/${id}`; way.length <= bridgesMax; ) {
      way.unshift(slotText(await this.#property(s.whole(255), at, "addr")));
      const { dir, base } = posix.parse(await this.#property(s.text(1024), at, "parent_bus"));
      const isBridge = (await this.#children(dir)).some(({ name }) => name === "addr");
      if (!isBridge) return [base, ...way].join("/");
      at = dir;
    }
    throw new FerryError("no-device", `${id} of ${this.path} is behind bridges without end.`);
  }

  /** Where configuration space is in physical memory. */
  async ecam(): Promise<number> {
    const base = ecamBase(await this.#qmp.human("info mtree -f"));
    if (base !== undefined) return base;
    const needed = "configuration space in memory (arm64 virt, x86 q35)";
    throw new FerryError("no-ecam", `the machine of ${this.path} has no ${needed}.`);
  }

  /** Words of physical memory, read by the monitor: behind all that the vCPUs have done. */
  async readWords(address: number, count: number): Promise<number[]> {
    const words: number[] = [];
    while (words.length < count) {
      const [at, some] = [address + 4 * words.length, Math.min(count - words.length, wordsMax)];
      const text = await this.#qmp.human(`xp /${some}wx 0x${at.toString(16)}`);
      const read = text.replace(/^[0-9a-f]+:/gm, "").match(/\b0x[0-9a-f]{8}\b/g) ?? [];
      if (read.length !== some) {
        throw new FerryError("bad-answer", `${this.path} shows no memory at ${at.toString(16)}.`);
      }
      words.push(...read.map(Number));
    }
    return words;
  }

  /**
   * Whether the VMM keeps messages back that a function has sent: it shows pending bits of its own,
   * at their address, while there are any.
   */
  async holdsMessages(pendingAt: number): Promise<boolean> {
    return showsPending(await this.#qmp.human("info mtree -f"), pendingAt);
  }

  /** Whether each capability of a migration is on. */
  async capabilities(): Promise<ReadonlyMap<string, boolean>> {
    const list = await this.#qmp.read(capabilitiesShape, "query-migrate-capabilities");
    const known = new Map(list.map(({ capability, state }) => [capability, state]));
    const misfit = misfits.find((name) => known.get(name) === true);
    if (misfit === undefined) return known;
    throw new FerryError(
      "usage",
      `${this.path} is set to ${misfit}, with which a device cannot move: switch it off.`,
    );
  }

  /** How memory goes, for which both sides have to be set alike: otherwise one waits for ever. */
  async streams(): Promise<string> {
    if ((await this.capabilities()).get("multifd") !== true) return "one stream";
    const read = await this.#qmp.read(streamsShape, "query-migrate-parameters");
    return `multifd of ${read["multifd-channels"]} channels, ${read["multifd-compression"]}`;
  }

  async setCapabilities(states: Readonly<Record<string, boolean>>): Promise<void> {
    const capabilities = Object.entries(states).map(([capability, state]) => ({
      capability,
      state,
    }));
    await this.#qmp.execute("migrate-set-capabilities", { capabilities });
  }

  /** How long the VM may stand still for the rest of its memory, in milliseconds. */
  async downtimeLimit(): Promise<number> {
    return (await this.#qmp.read(limitShape, "query-migrate-parameters"))["downtime-limit"];
  }

  async setDowntimeLimit(limitMs: number): Promise<void> {
    await this.#qmp.execute("migrate-set-parameters", { "downtime-limit": limitMs });
  }

  /** Hears of each pass over memory, of which it has a number, until the signal is given. */
  async eachPass(hear: (pass: number) => Promise<void>, enough: AbortSignal): Promise<void> {
    const budgetMs = Number.POSITIVE_INFINITY;
    for (let last = 0; ; ) {
      const look = (events: readonly QmpEvent[]): number | undefined => {
        const pass = passOf(events.findLast((event) => passOf(event) > 0));
        return pass > last ? pass : undefined;
      };
      last = await this.#qmp.sees(`a pass over memory of ${this.path}`, budgetMs, look, enough);
      await hear(last);
    }
  }

  /** Listens for a VM, which stands still once it is there, however this VMM was started. */
  async incoming(uri: string): Promise<void> {
    await this.#qmp.execute("stop");
    await this.#qmp.execute("migrate-incoming", { uri });
  }

  /** Begins to send the VM, of which only memory goes while it runs. */
  async migrate(uri: string): Promise<void> {
    this.#qmp.forget();
    await this.#qmp.execute("migrate", { uri });
    this.#hasBegun = true;
  }

  async progress(): Promise<MemoryProgress> {
    const read = await this.#qmp.read(migrateShape, "query-migrate");
    const { status, ram: of } = read;
    const why = this.#hasBegun ? read["error-desc"] : "";
    const { transferred: bytes, remaining: leftBytes, "dirty-sync-count": rounds, mbps } = of;
    return { status, why, bytes, leftBytes, rounds, rate: (mbps * 1e6) / 8 };
  }

  /**
   * Waits until a migration is in a state; throws at once when it fails instead. Why is for later:
   * vCPUs may be running again that wait for their device, and the monitor with them.
   */
  async reaches(status: string, budgetMs: number, cancel?: AbortSignal): Promise<void> {
    const what = `${status} of the migration at ${this.path}`;
    const look = (events: readonly QmpEvent[]): true | undefined => {
      const states = events.map(statusOf);
      if (states.includes(status)) return true;
      if (!states.some((each) => /^(fail|cancel)/.test(each))) return undefined;
      throw new FerryError("vm-failed", `${this.path} did not migrate.`);
    };
    await this.#qmp.sees(what, budgetMs, look, cancel);
  }

  /** Goes on with the migration that stands before its switch. */
  async switchOver(): Promise<void> {
    await this.#qmp.execute("migrate-continue", { state: "pre-switchover" });
  }

  /**
   * Takes back what is under way of a migration; afterwards the VM runs again. In its last writes a
   * VMM hangs, and its monitor with it, when nobody reads them: then they are cut off.
   */
  async takeBack(): Promise<void> {
    const wait = { what: `an answer of ${this.path}`, budgetMs: vmmBudgets.hangMs };
    const cutOff = async (): Promise<MemoryProgress> => {
      const instances = [{ type: "migration" }];
      // One that is only late may have nothing that could be cut off.
      await this.#qmp.executeOutOfBand("yank", { instances }).catch(() => {});
      return await this.progress();
    };
    const { status } = await within(hostClock, wait, this.progress()).catch(cutOff);
    const isUnderWay = !/^(none|completed|failed|cancelled)$/.test(status);
    if (isUnderWay) await this.#cancel();
    await this.goOn();
  }

  async #cancel(): Promise<void> {
    await this.#qmp.execute("migrate_cancel");
    const isOver = (events: readonly QmpEvent[]): true | undefined =>
      events.some((event) => /^(cancelled|failed|completed)$/.test(statusOf(event))) || undefined;
    await this.#qmp.sees(`the end of what ${this.path} sends`, vmmBudgets.stateMs, isOver);
  }

  /** Lets the vCPUs go on, and waits for it; nothing is done where they run already. */
  async goOn(): Promise<void> {
    if ((await this.runState()) !== "running") await this.run();
  }

  /** Lets the vCPUs of a VM go on that stands still, and waits for it. */
  async run(): Promise<void> {
    await this.#qmp.execute("cont");
    const state = await this.runState();
    if (state === "running") return;
    throw new FerryError("vm-failed", `the VM of ${this.path} does not go on: it is ${state}.`);
  }

  /** When an event came last, by our clock; undefined when it did not. */
  async lastAt(name: string): Promise<number | undefined> {
    const look = (events: readonly QmpEvent[]): { atMs: number | undefined } => ({
      atMs: events.findLast(({ event }) => event === name)?.atMs,
    });
    return (await this.#qmp.sees(name, vmmBudgets.stateMs, look)).atMs;
  }

  /**
   * Opens the debugger's stub of a VM that stands still. It reads and writes all of the VM's
   * memory: it is reached through a descriptor that nobody else has, and has to be gone before the
   * VM runs.
   */
  async openStub(): Promise<GdbStub> {
    const [ours, theirs] = socketPair();
    const stub = new GdbStub(new Socket({ fd: ours }));
    try {
      await this.#qmp.executeWithFd("getfd", { fdname: stubName }, theirs).finally(() => {
        closeFd(theirs);
      });
      const addr = { type: "fd", data: { str: stubName } };
      const backend = { type: "socket", data: { addr, server: false } };
      await this.#qmp.execute("chardev-add", { id: stubName, backend });
      const said = (await this.#qmp.human(`gdbserver chardev:${stubName}`)).trim();
      if (!/^(Waiting for gdb connection.*)?$/.test(said)) {
        throw new FerryError("no-stub", `${this.path} has no debugger stub: ${said}`);
      }
      await stub.usePhysicalMemory();
      return stub;
    } catch (thrown) {
      await this.closeStub(stub);
      throw thrown;
    }
  }

  async closeStub(stub: GdbStub): Promise<void> {
    stub.close();
    await this.#qmp.human("gdbserver none").catch(() => {});
  }

  /**
   * Ends it, and waits until it has gone: then it holds nothing any more that another one needs.
   * One that hangs was told, and goes when it can.
   */
  async quit(): Promise<void> {
    await this.#qmp.lastWord("quit", vmmBudgets.quitMs);
    this.close();
  }

  close(): void {
    this.#qmp.close();
  }
}
