import { errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import { ConfigHeader } from "../spec/pci.ts";
import { IrqSetFlags, PciIrq, PciRegion } from "../spec/vfio.ts";
import { POLLERR, POLLHUP, POLLIN } from "../sys/constants.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";

/** Bytes of the longest single access. */
const accessBytesMax = 16;
/** Interrupts and the device's own descriptors. */
const descriptorsMax = 64;

/** What a PCI driver needs of a device: registers, interrupts, and a way to wait for them. */
export class PciFunction {
  readonly device: VfioDevice;
  /** One eventfd for each MSI vector that is in use. */
  eventfds: readonly number[] = [];
  readonly #bytes = new Uint8Array(accessBytesMax);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #poll = new PollSet(descriptorsMax);

  constructor(device: VfioDevice) {
    this.device = device;
  }

  #check(result: number, what: string): void {
    if (result >= 0) return;
    const { name } = this.device;
    throw new FerryError("device-error", `${name}: ${what} failed: ${errnoName(result)}.`);
  }

  /** Reads 1, 2 or 4 bytes; a FerryError when the device refuses or is gone. */
  read(region: number, offset: number, size: 1 | 2 | 4 = 4): number {
    this.#view.setUint32(0, 0, true);
    const result = this.device.read(region, offset, this.#bytes, 0, size);
    if (result < 0) this.#check(result, `a read of 0x${offset.toString(16)}`);
    return this.#view.getUint32(0, true);
  }

  /** Writes words as one access; a FerryError when the device refuses or is gone. */
  write(region: number, offset: number, ...words: number[]): void {
    for (const [i, word] of words.entries()) this.#view.setUint32(4 * i, word, true);
    this.#write(region, offset, 4 * words.length);
  }

  /** Writes 64 bits as one access, as `write` does; a doorbell is hot. */
  writePair(region: number, offset: number, low: number, high: number): void {
    this.#view.setUint32(0, low, true);
    this.#view.setUint32(4, high, true);
    this.#write(region, offset, 8);
  }

  #write(region: number, offset: number, size: number): void {
    const result = this.device.write(region, offset, this.#bytes, 0, size);
    if (result < 0) this.#check(result, `a write to 0x${offset.toString(16)}`);
  }

  readConfig(name: "VENDOR_ID" | "DEVICE_ID" | "REVISION_ID"): number {
    return this.read(PciRegion.config, ConfigHeader.at[name], name === "REVISION_ID" ? 1 : 2);
  }

  /** Lets the function answer at its BARs and reach memory. */
  enable(): void {
    const command = ConfigHeader.bits.COMMAND.pack({ memorySpace: true, busMaster: true });
    const { at } = ConfigHeader;
    this.#view.setUint16(0, command, true);
    const result = this.device.write(PciRegion.config, at.COMMAND, this.#bytes, 0, 2);
    this.#check(result, "a write to COMMAND");
  }

  /** Gives the first `count` MSI vectors an eventfd each. */
  wireMsi(count: number): void {
    this.eventfds = Array.from({ length: count }, () => createEventfd());
    const missing = this.eventfds.find((fd) => fd < 0) ?? 0;
    this.#check(missing, "making an eventfd");
    this.#setMsi(this.eventfds.map(duplicate));
  }

  #setMsi(fds: readonly number[]): void {
    const result = this.device.setIrqs({
      index: PciIrq.msi,
      start: 0,
      count: fds.length,
      data: fds.length > 0 ? IrqSetFlags.mask.dataEventfd : IrqSetFlags.mask.dataNone,
      action: IrqSetFlags.mask.actionTrigger,
      bytes: this.#bytes,
      boolsAt: 0,
      fds,
    });
    this.#check(result, "setting MSI");
  }

  /** Takes the vectors away again. */
  unwireMsi(): void {
    if (this.eventfds.length > 0) this.#setMsi([]);
    this.closeEventfds();
  }

  closeEventfds(): void {
    for (const fd of this.eventfds) closeFd(fd);
    this.eventfds = [];
  }

  /** Whether a vector was raised since the last time that it was asked for. */
  raised(vector: number): boolean {
    const fd = this.eventfds[vector];
    return fd !== undefined && drainEventfd(fd) > 0;
  }

  /**
   * Waits until an interrupt is raised, the device has something to do, or the time is over. A
   * device in this very process does a slice of its work here instead of waiting, and a remote one
   * has its DMA served.
   */
  wait(timeoutMs: number): void {
    const { device, eventfds } = this;
    const worked = device.busy;
    if (worked) device.work();
    const watches = device.watches;
    if (worked && watches.length === 0) return;
    this.#poll.clear();
    for (const fd of eventfds) this.#poll.add(fd, POLLIN);
    const places = watches.map(({ fd }) => this.#poll.add(fd, POLLIN));
    if (this.#poll.wait(worked ? 0 : timeoutMs) <= 0) return;
    let isLost = false;
    for (const [i, place] of places.entries()) {
      const events = place < 0 ? 0 : this.#poll.ready(place);
      if (events !== 0) watches[i]?.ready();
      isLost ||= (events & (POLLHUP | POLLERR)) !== 0;
    }
    if (isLost) this.readConfig("VENDOR_ID");
  }
}
