/** All devices of a VM that moves. They move together: what one is told, all are told. */
import { FerryError, messageOf } from "../base/errors.ts";
import type { DeviceWay, Fate } from "./device-move.ts";
import type { PciFunction } from "./pci-place.ts";
import type { Qemu } from "./qemu.ts";
import type { VmDevice } from "./vm-device.ts";

/** The devices, and which of them have gone. */
export class VmDevices {
  readonly all: readonly VmDevice[];
  /** Those that their targets have, the VM or not. */
  readonly #gone: VmDevice[] = [];
  #open: readonly VmDevice[] = [];
  #whyKept = "the target did not take the device.";

  constructor(all: readonly VmDevice[]) {
    this.all = all;
  }

  get ids(): string[] {
    return this.all.map(({ id }) => id ?? "");
  }

  /** Where the guest has each of them, in their order. */
  areAt(places: readonly PciFunction[]): void {
    for (const [index, device] of this.all.entries()) device.isAt(places[index]);
  }

  /** Does something for all at once; the first failure ends it when all have come to an end. */
  async each(work: (device: VmDevice) => Promise<void>): Promise<void> {
    const ends = await Promise.allSettled(this.all.map(work));
    const failed = ends.find(({ status }) => status === "rejected");
    if (failed !== undefined) throw (failed as PromiseRejectedResult).reason;
  }

  /** A device that was left behind would be lost without a word. */
  async expectAllOf(qemu: Qemu): Promise<void> {
    const found = await qemu.vfioUserDevices();
    const [only] = found;
    const [device] = this.all;
    if (device?.id === null && only !== undefined && found.length === 1) device.callIt(only);
    if (JSON.stringify(found.toSorted()) === JSON.stringify(this.ids.toSorted())) return;
    const list = found.length === 0 ? "none" : found.join(", ");
    const wanted = this.ids.filter((id) => id !== "").join(", ") || "the only one";
    const would = `all vfio-user devices of a VM move with it: ${wanted} would, ${qemu.path} has`;
    throw new FerryError("usage", `${would} ${list}; name each with --device ID=FROM,TO.`);
  }

  /** Begins with all of them; those that the last one does not wait for stand still there. */
  async begin(
    how: Pick<DeviceWay, "pauseMs" | "unmaps">,
    note: (why: string) => void,
  ): Promise<void> {
    const last = this.all.at(-1);
    await this.each(async (device) => {
      const thaw = device === last ? "at once" : "when told";
      const said = (why: string): void =>
        note(this.all.length === 1 ? why : `${device.id}: ${why}`);
      await device.begin({ ...how, thaw }, said);
    });
  }

  /**
   * Hands over all but the last one, then that one, and tells who has the VM's devices then. Those
   * before it stand still where they come to, so that they can be taken back: the last one decides.
   */
  async handOver(): Promise<Fate> {
    for (const round of [this.all.slice(0, -1), this.all.slice(-1)]) {
      const fates = await Promise.all(round.map(({ move }) => move.handOver()));
      const those = (fate: Fate): VmDevice[] => round.filter((_, index) => fates[index] === fate);
      this.#gone.push(...those("running"));
      this.#open = those("open");
      if (this.#open.length > 0) await this.#staysBack();
      if (this.#open.length > 0) return "open";
      const [kept] = those("kept");
      if (kept === undefined) continue;
      this.#whyKept = kept.move.sentence ?? this.#whyKept;
      return "kept";
    }
    return "running";
  }

  /** What the source is known to have goes on there: the VM's way is back. */
  async #staysBack(): Promise<void> {
    const here = this.all.filter(
      (each) => !this.#gone.includes(each) && !this.#open.includes(each),
    );
    await Promise.allSettled(here.map((device) => device.back()));
  }

  /** Why a device was not handed over. */
  get whyKept(): string {
    return this.#whyKept;
  }

  /** Those of which it is not known who has them. */
  get open(): readonly VmDevice[] {
    return this.#open;
  }

  /** Whether all others are with the target, so that the VM may be the target's. */
  get onlyLastIsOpen(): boolean {
    return this.#open[0] === this.all.at(-1);
  }

  /** Sets those going that stand still with the target. */
  async setGoing(): Promise<void> {
    await Promise.all(this.#gone.slice(0, -1).map(({ move }) => move.setGoing()));
  }

  /** Brings back at once what the target has; throws and says what it keeps. */
  async takeBack(): Promise<void> {
    const failures: string[] = [];
    const giveBack = async (device: VmDevice): Promise<void> => {
      await device.move.giveBack().catch((thrown: unknown) => {
        this.#gone.push(device);
        failures.push(`${device.id} is with ${device.to.path}: ${messageOf(thrown)}`);
      });
    };
    await Promise.all(this.#gone.splice(0).map(giveBack));
    if (failures.length > 0) throw new FerryError("not-back", failures.join(" "));
  }

  /** For people: which server has which device, as far as it is known. */
  get places(): string {
    return this.all
      .map((device) => {
        const { id, from, to } = device;
        if (this.#open.includes(device)) return `${id} is with ${from.path} or ${to.path}`;
        return `${id} is with ${this.#gone.includes(device) ? to.path : from.path}`;
      })
      .join(", ");
  }
}
