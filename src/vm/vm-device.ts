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
  /** The writes that make its configuration space and MSI-X's table what the guest has set. */
  #writes: readonly Write[] | null = null;
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
    const [word] = await source.readWords(configAddress(ecam, this.#here), 1);
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

  /** The guest, whose vCPUs stand still, has it here. */
  isAt(place: PciFunction | undefined): void {
    if (place === undefined) throw notBegun();
    this.#place = place;
  }

  /** What has to be known when its VM has arrived, once the device stands still at its source. */
  async learn(source: Qemu, ecam: number): Promise<void> {
    const place = this.#here;
    const { config } = await probe(this.from);
    const pendingAt = pendingPlace(config);
    if (pendingAt !== null) {
      const [pending] = await source.readWords(configAddress(ecam, place, pendingAt), 1);
      if (pending !== 0) throw this.#keepsBack("MSI");
    }
    const table = tablePlace(config, place);
    const words = table === null ? [] : await source.readWords(table.at, table.words);
    const tables = table === null ? [] : tableWrites(table.at, words);
    this.#writes = configWrites(config, configAddress(ecam, place), tables);
    // What is pending there cannot be written: pending bits are read-only.
    if (table === null || !holdsVectors(config, words)) return;
    if (await source.holdsMessages(table.pendingAt)) throw this.#keepsBack("MSI-X");
  }

  #keepsBack(what: "MSI" | "MSI-X"): FerryError {
    const why = `an interrupt waits behind the mask of its ${what} vector. Try again.`;
    return new FerryError("pending", `${this.#id} cannot move now: ${why}`);
  }

  get #here(): PciFunction {
    if (this.#place === null) throw notBegun();
    return this.#place;
  }

  /** A read of what it is. */
  identity(ecam: number): Access {
    return { at: configAddress(ecam, this.#here), size: 4 };
  }

  /** Throws unless `value` is what `identity` reads. */
  #expectIdentity(value: number | undefined): void {
    const place = this.#here;
    if (value === idWord(place)) return;
    throw new FerryError("not-there", `${this.#id} is not at ${placeText(place)}.`);
  }

  /**
   * QEMU's own copy of configuration space is as after a reset: it is written as the guest did,
   * and read back.
   */
  restoring(ecam: number): Array<Access | Write> {
    const writes = this.#restoredBy;
    const reads = writes.map(({ at, size }) => ({ at, size }));
    return [this.identity(ecam), ...writes, ...reads];
  }

  get #restoredBy(): readonly Write[] {
    if (this.#writes === null) throw notBegun();
    return this.#writes;
  }

  /** Takes from `values` what `restoring` has read; throws when that is not what was written. */
  expectRestored(ecam: number, values: number[]): void {
    const writes = this.#restoredBy;
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
    if (there === undefined) throw notBegun();
    const here = this.#here;
    if (placeText(there) !== placeText(here)) {
      throw new FerryError("not-there", `${this.#id} is at ${placeText(there)} on the target.`);
    }
    if (JSON.stringify(there.bars) === JSON.stringify(here.bars)) return;
    throw new FerryError("not-restored", `the BARs of ${this.#id} are elsewhere on the target.`);
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
