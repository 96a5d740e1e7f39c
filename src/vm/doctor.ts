/** What of a VM stands in the way of `ferry vm migrate`, before anything is tried. */
import { FerryError, messageOf } from "../base/errors.ts";
import { needed, tried } from "./capabilities.ts";
import { registerOf } from "./config-writes.ts";
import { type DeviceServer, probe, readStatus } from "./device-server.ts";
import { configAddress, type PciFunction, placeText } from "./pci-place.ts";
import type { Qemu } from "./qemu.ts";

/** One thing that was looked at. */
export interface Finding {
  readonly what: string;
  readonly ok: boolean;
  readonly says: string;
  /** What to do about it; empty where there is nothing to do. */
  readonly todo: string;
}

/** What `ferry vm migrate` could use the VM as; null for neither. */
export type Role = "source" | "target" | null;

/** Since when QEMU knows vfio-user devices. */
const firstVersion = { major: 10, minor: 1 } as const;

const roles: Readonly<Record<string, Role>> = { running: "source", inmigrate: "target" };

/** What a device is called that has no id. */
const nameless = /^device\[\d+\]$/;

const fine = (what: string, says: string): Finding => ({ what, ok: true, says, todo: "" });
const wrong = (what: string, says: string, todo: string): Finding => ({
  what,
  ok: false,
  says,
  todo,
});

/** Looks at a VM; a question that fails is a finding too. Nothing is changed. */
export class Doctor {
  readonly findings: Finding[] = [];
  readonly #qemu: Qemu;
  readonly #servers: ReadonlyMap<string | null, DeviceServer>;
  role: Role = null;

  /** `servers` by the ids of their devices; under null that of the only device. */
  constructor(qemu: Qemu, servers: ReadonlyMap<string | null, DeviceServer>) {
    this.#qemu = qemu;
    this.#servers = servers;
  }

  async look(): Promise<void> {
    await this.#lookAtVm();
    await this.#devices();
  }

  /** Throws for the first thing that stands in the way of a VM, whatever devices it has. */
  static async expectSound(qemu: Qemu): Promise<void> {
    const doctor = new Doctor(qemu, new Map());
    await doctor.#lookAtVm();
    const found = doctor.findings.find(({ ok }) => !ok);
    if (found === undefined) return;
    const { says, todo } = found;
    const why = `the VM of ${qemu.path} cannot move: ${says.replace(/\.$/, "")}. ${todo}`;
    throw new FerryError("usage", why.trim());
  }

  async #lookAtVm(): Promise<void> {
    await this.#see("version", () => this.#version());
    await this.#see("state", () => this.#state());
    await this.#see("machine", () => this.#machine());
    await this.#see("memory", () => this.#memory());
    await this.#see("capabilities", () => this.#capabilities());
    await this.#see("blockers", () => this.#blockers());
  }

  async #see(what: string, look: () => Promise<Finding>): Promise<boolean> {
    const finding = await look().catch((thrown: unknown) => {
      if (!(thrown instanceof FerryError)) throw thrown;
      return wrong(what, thrown.message, "");
    });
    this.findings.push(finding);
    return finding.ok;
  }

  async #version(): Promise<Finding> {
    const { major, minor, micro } = await this.#qemu.version();
    const says = `QEMU ${major}.${minor}.${micro} at ${this.#qemu.path}`;
    const { major: first, minor: since } = firstVersion;
    if (major > first || (major === first && minor >= since)) return fine("version", says);
    return wrong("version", says, `vfio-user devices need ${first}.${since} or newer.`);
  }

  async #state(): Promise<Finding> {
    const state = await this.#qemu.runState();
    this.role = roles[state] ?? null;
    if (this.role === "source") return fine("state", `${state}: it can leave`);
    if (this.role === "target") return fine("state", `${state}: it can take a VM in`);
    const todo = "a source runs (cont), a target was started with -incoming defer -S.";
    return wrong("state", `the VM is ${state}`, todo);
  }

  async #machine(): Promise<Finding> {
    const machine = await this.#qemu.machine();
    // What is in memory comes to a target with its VM.
    if (this.role === "target") return fine("machine", machine);
    await this.#qemu.ecam();
    return fine("machine", `${machine}, with configuration space in memory`);
  }

  async #memory(): Promise<Finding> {
    const backends = await this.#qemu.memoryBackends();
    const alone = backends.filter(({ share }) => !share).map(({ id }) => id || "unnamed memory");
    const todo = "start it with -object memory-backend-memfd,...,share=on as the machine's memory.";
    if (backends.length === 0) return wrong("memory", "there is no memory backend", todo);
    if (alone.length > 0) return wrong("memory", `not shared: ${alone.join(", ")}`, todo);
    return fine("memory", `shared: ${backends.map(({ id }) => id || "unnamed").join(", ")}`);
  }

  /** One that a device cannot go together with is thrown, with what to do. */
  async #capabilities(): Promise<Finding> {
    const known = await this.#qemu.capabilities();
    const missing = needed.filter((name) => !known.has(name));
    if (missing.length > 0) {
      const todo = "it needs a newer QEMU.";
      return wrong("capabilities", `QEMU does not know ${missing.join(", ")}`, todo);
    }
    const streams = `memory goes by ${await this.#qemu.streams()}, and has to on the other side`;
    const isNew = [...known].flatMap(([name, on]) => (on && !tried.includes(name) ? [name] : []));
    if (isNew.length === 0) return fine("capabilities", `nothing is in the way; ${streams}`);
    return fine("capabilities", `never tried: ${isNew.join(", ")}; ${streams}`);
  }

  async #blockers(): Promise<Finding> {
    const reasons = await this.#qemu.blockers();
    if (reasons.length === 0) return fine("blockers", "QEMU has nothing against a migration");
    return wrong("blockers", reasons.join(" "), "take away what QEMU cannot migrate.");
  }

  async #devices(): Promise<void> {
    let ids: readonly string[] = [];
    const found = await this.#see("devices", async () => {
      ids = await this.#qemu.vfioUserDevices();
      if (ids.length > 0) return fine("devices", `vfio-user: ${ids.join(", ")}`);
      return wrong("devices", "the VM has no vfio-user device", "migrate it with QEMU alone.");
    });
    if (!found) return;
    for (const id of ids) await this.#device(id, ids.length === 1);
    for (const id of this.#servers.keys()) {
      if (id === null ? ids.length === 1 : ids.includes(id)) continue;
      const says = id === null ? "which device is its server's?" : `the VM has no ${id}`;
      this.findings.push(wrong("devices", says, "name each device: --device ID=SOCKET."));
    }
  }

  async #device(id: string, isOnly: boolean): Promise<void> {
    let place: PciFunction | null = null;
    const found = await this.#see(id, async () => {
      if (nameless.test(id)) return wrong(id, "it has no id of its own", "give it id=NAME.");
      const way = await this.#qemu.wayTo(id);
      // Bridges that wait for a VM have no numbers yet, and nothing is listed behind them.
      if (this.role === "target") return fine(id, `at ${way}, as it has to be at its source`);
      [place] = (await this.#qemu.findFunctions([id])) as [PciFunction];
      return fine(id, `at ${placeText(place)}, ${way}`);
    });
    const server = this.#servers.get(id) ?? (isOnly ? this.#servers.get(null) : undefined);
    if (!found) return;
    if (server === undefined) {
      this.findings.push(fine(id, "its server was not asked: name it with --server"));
      return;
    }
    if (!(await this.#see(id, () => this.#server(id, server, place)))) return;
    await this.#see(id, () => this.#driver(id, server));
  }

  async #server(id: string, server: DeviceServer, place: PciFunction | null): Promise<Finding> {
    const before = await probe(server);
    const { config, connected } = before;
    const { path } = server;
    if (!connected) return wrong(id, `${path} serves no VM`, "start QEMU with its socket.");
    const [vendor, device] = ["VENDOR_ID", "DEVICE_ID"].map(
      (name) => registerOf(config, "", name)?.value,
    );
    const other = "name the socket that this device was given.";
    if (place !== null && (vendor !== place.vendor || device !== place.device)) {
      return wrong(id, `${path} serves another device`, other);
    }
    if (this.role !== "source" || place === null) return fine(id, `${path} serves such a device`);
    // A read that QEMU is told to make must be one that the server has served.
    await this.#qemu.readWords(configAddress(await this.#qemu.ecam(), place), 1);
    const { served } = await probe(server);
    if (served > before.served) return fine(id, `${path} serves it`);
    return wrong(id, `${path} serves another VM`, other);
  }

  /** Does its server know how to move it, and is it free to? */
  async #driver(id: string, server: DeviceServer): Promise<Finding> {
    const asked = await server.ask({ method: "migrate-status" }).catch(messageOf);
    const serve = "serve it with a migration driver: --driver.";
    if (typeof asked === "string") return wrong(id, asked, serve);
    const status = readStatus(asked);
    if (status === undefined)
      return wrong(id, `${server.path} tells of its migration what makes no sense`, serve);
    const { driver, version, master, isOpen } = status;
    if (master === "none" && !isOpen) return fine(id, `its migration driver: ${driver} ${version}`);
    const by = master === "vmm" ? "its VMM is migrating it" : "it is on offer or on its way";
    return wrong(id, by, "wait for the end of that, or ferry migrate abort.");
  }
}
