import { FerryError } from "../base/errors.ts";
import { extendedConfigBytes } from "../spec/pci.ts";
import { type Config, configWrites, registerOf } from "./config-writes.ts";
import { DeviceMove, type DeviceWay } from "./device-move.ts";
import { type DeviceServer, probe, servedBy } from "./device-server.ts";
import type { Access, Write } from "./gdb-stub.ts";
import { hasLine, lowerLine } from "./interrupt-line.ts";
import type { Meeting } from "./meeting.ts";
import { pendingPlace } from "./msi-pending.ts";
import { holdsVectors, tablePlace, tableWrites } from "./msix-table.ts";
import { configAddress, type PciFunction, placeText } from "./pci-place.ts";
import type { Qemu } from "./qemu.ts";

/** A vfio-user device of a VM that moves: its two servers, its place, and how far it is. */
export class VmDevice {
  readonly from: DeviceServer;
  readonly to: DeviceServer;
  readonly #link: Meeting;
  readonly #home: Meeting;
  #id: string | null;
  #place: PciFunction | null = null;
  /** Its configuration space, as the guest has left it. */
  #config: Config | null = null;
  /** The writes that give MSI-X its table again. */
  #table: readonly Write[] = [];
  #move: DeviceMove | null = null;
  #hasLine = false;

  /** `id` is null for the only device that there is. */
  constructor(
    id: string | null,
    from: DeviceServer,
    to: DeviceServer,
    way: Pick<DeviceWay, "link" | "home">,
  ) {
    this.#id = id;
    this.from = from;
    this.to = to;
    this.#link = way.link;
    this.#home = way.home;
  }

  /** As on QEMU's command line; null until it is known. */
  get id(): string | null {
    return this.#id;
  }

  /** The VM has one device, and this is its id. */
  callIt(id: string): void {
    this.#id = id;
  }

  get move(): DeviceMove {
    if (this.#move === null) throw notBegun();
    return this.#move;
  }

  /** Its servers serve such a device, the source's to `source`; nothing is changed by it. */
  async check(source: Qemu, ecam: number, place: PciFunction): Promise<void> {
    this.#place = place;
    this.#hasLine = hasLine(await this.#checkServer(this.from, place));
    await this.#checkServer(this.to, place);
    // A read that QEMU is told to make must be one that the server has served.
    const before = await servedBy(this.from);
    await this.fence(source, ecam);
    if ((await servedBy(this.from)) <= before) throw doesNotServe(this.from, source);
  }

  /** The guest has to find it where it was. */
  async expectSameWay(source: Qemu, target: Qemu): Promise<void> {
    const id = this.#id ?? "";
    const [here, there] = [await source.wayTo(id), await target.wayTo(id)];
    if (here === there) return;
    const text = `${id} is at ${here} in ${source.path}, and at ${there} in ${target.path}`;
    throw new FerryError("usage", `${text}: start both with the same bus and addr.`);
  }

  /** Gives its configuration space. */
  async #checkServer(server: DeviceServer, { vendor, device }: PciFunction): Promise<Config> {
    const { config, connected } = await probe(server);
    if (!connected) throw new FerryError("usage", `${server.path} serves no VM.`);
    const ids = ["VENDOR_ID", "DEVICE_ID"].map((name) => registerOf(config, "", name)?.value);
    if (ids[0] === vendor && ids[1] === device) return config;
    throw new FerryError("usage", `${server.path} serves another device than ${this.#id}.`);
  }

  /** Puts it on its way, on which it stands before each step that the VM has a part in. */
  async begin(how: Omit<DeviceWay, "link" | "home">, note: (why: string) => void) {
    const way = { ...how, link: this.#link, home: this.#home };
    this.#move = await DeviceMove.begin(this.from, this.to, way, note);
  }

  /** Done twice without harm. */
  async back(): Promise<void> {
    if (this.#move !== null) await this.#move.abort("its VM does not move.");
  }

  /** A replied read comes behind every write that a vCPU has posted. */
  async fence(source: Qemu, ecam: number): Promise<void> {
    if (this.#place === null) throw notBegun();
    const [word] = await source.readWords(configAddress(ecam, this.#place), 1);
    this.#expectIdentity(word);
  }

  /** For vCPUs that stand still: their guest's interrupt line has to be down when the VM goes. */
  async lowerLine(source: Qemu): Promise<void> {
    if (this.#hasLine) await lowerLine(this.#id ?? "", this.from, source);
  }

  /** Stands still and shows what it wrote; behind the fence, so that nobody changes it any more. */
  async freeze(cancel: AbortSignal): Promise<void> {
    await this.move.goOn();
    await this.move.reaches("saved", undefined, cancel);
  }

  /**
   * What has to be known when its VM has arrived, once the device stands still at its source:
   * `found` says where the guest has it now.
   */
  async learn(source: Qemu, ecam: number, found: Promise<PciFunction>): Promise<void> {
    const [{ config }, place] = await Promise.all([probe(this.from), found]);
    this.#config = config;
    this.#place = place;
    const pendingAt = pendingPlace(config);
    if (pendingAt !== null) {
      const [pending] = await source.readWords(configAddress(ecam, place, pendingAt), 1);
      if (pending !== 0) throw this.#keepsBack("MSI");
    }
    const table = tablePlace(config, place);
    if (table === null) return;
    const words = await source.readWords(table.at, table.words);
    this.#table = tableWrites(table.at, words);
    // What is pending there cannot be written: pending bits are read-only.
    if (!holdsVectors(config, words) || !(await source.holdsMessages(table.pendingAt))) return;
    throw this.#keepsBack("MSI-X");
  }

  #keepsBack(what: "MSI" | "MSI-X"): FerryError {
    const why = `an interrupt waits behind the mask of its ${what} vector. Try again.`;
    return new FerryError("pending", `${this.#id} cannot move now: ${why}`);
  }

  /** A read of what it is. */
  identity(ecam: number): Access {
    if (this.#place === null) throw notBegun();
    return { at: configAddress(ecam, this.#place), size: 4 };
  }

  /** Throws unless `value` is what `identity` reads. */
  #expectIdentity(value: number | undefined): void {
    if (this.#place === null) throw notBegun();
    if (value !== idWord(this.#place)) throw this.#isNotAt(this.#place);
  }

  /**
   * QEMU's own copy of configuration space is as after a reset: it is written as the guest did,
   * and read back.
   */
  restoring(ecam: number): Array<Access | Write> {
    const writes = this.#writes(ecam);
    const reads = writes.map(({ at, size }) => ({ at, size }));
    return [this.identity(ecam), ...writes, ...reads];
  }

  #writes(ecam: number): Write[] {
    if (this.#config === null) throw notBegun();
    return configWrites(this.#config, this.identity(ecam).at, this.#table);
  }

  /** Takes from `values` what `restoring` has read; throws when that is not what was written. */
  expectRestored(ecam: number, values: number[]): void {
    const writes = this.#writes(ecam);
    const [id, ...read] = values.splice(0, 1 + writes.length);
    this.#expectIdentity(id);
    expectRead(writes, read, this.identity(ecam).at);
  }

  /** The target's server, which has it, answers. */
  async expectServer(): Promise<void> {
    await probe(this.to);
  }

  /** QEMU shows a base address only where it has memory behind it. */
  expectThere(there: PciFunction | undefined): void {
    if (this.#place === null || there === undefined) throw notBegun();
    if (placeText(there) !== placeText(this.#place)) {
      throw new FerryError("not-there", `${this.#id} is at ${placeText(there)} on the target.`);
    }
    if (JSON.stringify(there.bars) === JSON.stringify(this.#place.bars)) return;
    throw new FerryError("not-restored", `the BARs of ${this.#id} are elsewhere on the target.`);
  }

  #isNotAt(place: PciFunction): FerryError {
    return new FerryError("not-there", `${this.#id} is not at ${placeText(place)}.`);
  }
}

/** The first word of configuration space. */
const idWord = ({ vendor, device }: PciFunction): number => device * 0x1_0000 + vendor;

const notBegun = (): FerryError => new FerryError("not-begun", "the device is not on its way.");

/** A server that has not heard of what its VM was told to do. */
export const doesNotServe = ({ path }: DeviceServer, qemu: Qemu): FerryError =>
  new FerryError("usage", `${path} does not serve the VM of ${qemu.path}.`);

function expectRead(writes: readonly Write[], values: readonly number[], base: number): void {
  const wrong = writes.findIndex(({ value }, index) => values[index] !== value);
  const write = writes[wrong];
  if (write === undefined) return;
  const inConfig = write.at >= base && write.at < base + extendedConfigBytes;
  const [at, wanted, found] = [
    inConfig ? write.at - base : write.at,
    ...[write.value, values[wrong] ?? 0],
  ].map((value) => `0x${value.toString(16)}`);
  const where = inConfig ? "configuration space" : "the MSI-X table";
  const what = `${where} at ${at} holds ${found} on the target`;
  throw new FerryError("not-restored", `${what}, where the guest has written ${wanted}.`);
}
