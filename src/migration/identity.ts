import type { VfioDevice } from "../device/vfio-device.ts";
import { ConfigHeader } from "../spec/pci.ts";
import { PciIrq, PciRegion } from "../spec/vfio.ts";
import type { Compatibility } from "./driver.ts";

/** PCI vendor, device and revision, as the device's configuration space says. */
export type Identity = Pick<Compatibility, "vendor" | "device" | "revision">;

/** Reads a device's identity; all zeroes where it has no configuration space. */
export function identityOf(device: VfioDevice): Identity {
  const bytes = new Uint8Array(ConfigHeader.at.REVISION_ID + 1);
  const view = new DataView(bytes.buffer);
  device.read(PciRegion.config, 0, bytes, 0, bytes.length);
  return {
    vendor: view.getUint16(ConfigHeader.at.VENDOR_ID, true),
    device: view.getUint16(ConfigHeader.at.DEVICE_ID, true),
    revision: view.getUint8(ConfigHeader.at.REVISION_ID),
  };
}

/** What of a device's shape a guest can see, and must find again: regions and interrupts. */
export function shapeOf({ regions, irqs }: VfioDevice): Record<string, number> {
  const facts: Record<string, number> = {};
  for (const [index, { size }] of regions.entries()) {
    if (size > 0) facts[`region ${index} bytes`] = size;
  }
  for (const [name, index] of Object.entries(PciIrq)) {
    const count = irqs[index]?.count ?? 0;
    if (count > 0) facts[`${name} vectors`] = count;
  }
  return facts;
}

/** Everything that a client has been told of a device, and goes by as long as it is connected. */
export function offerOf(device: VfioDevice): Record<string, number | boolean> {
  const facts: Record<string, number | boolean> = { "device flags": device.flags };
  for (const [index, { size, readable, writable, mmap }] of device.regions.entries()) {
    if (size === 0) continue;
    const name = `region ${index}`;
    facts[`${name} bytes`] = size;
    facts[`${name} readable`] = readable;
    facts[`${name} writable`] = writable;
    facts[`${name} mappable`] = mmap !== null;
  }
  for (const [name, index] of Object.entries(PciIrq)) {
    facts[`${name} vectors`] = device.irqs[index]?.count ?? 0;
    facts[`${name} flags`] = device.irqs[index]?.flags ?? 0;
  }
  return facts;
}

/** Why two devices are not alike, as a sentence about the first difference; null when they are. */
export function compare(ours: Compatibility, theirs: Compatibility): string | null {
  if (theirs.driver !== ours.driver) {
    return `the driver there is ${theirs.driver}, here it is ${ours.driver}`;
  }
  for (const name of ["vendor", "device", "revision"] as const) {
    if (theirs[name] !== ours[name]) {
      const [there, here] = [theirs[name], ours[name]].map((id) => id.toString(16));
      return `the PCI ${name} id there is 0x${there}, here 0x${here}`;
    }
  }
  if (theirs.version < ours.oldestVersion || theirs.version > ours.version) {
    const readable = `${ours.oldestVersion} to ${ours.version} can be read here`;
    return `the state there is of version ${theirs.version}; ${readable}`;
  }
  return compareFacts(ours.facts, theirs.facts);
}

type Facts = Readonly<Record<string, number | string | boolean>>;

/** The first fact that differs, as a sentence; null when none does. */
export function compareFacts(ours: Facts, theirs: Facts): string | null {
  const names = new Set([...Object.keys(ours), ...Object.keys(theirs)]);
  for (const name of names) {
    const [there, here] = [theirs[name], ours[name]];
    if (there !== here)
      return `${name} is ${there ?? "missing"} there and ${here ?? "missing"} here`;
  }
  return null;
}
