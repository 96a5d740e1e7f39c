/**
 * Configuration space as a section of a stream. A VMM writes it once and then believes it: on the
 * target its values are written again, as the VMM would write them, each once and in an order in
 * which nothing is enabled before it is complete.
 */
import { crc32 } from "node:zlib";
import type { Infer } from "../base/struct.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import { PciState } from "../spec/ferry-stream.ts";
import { CapabilityId, ConfigHeader, firstCapability } from "../spec/pci.ts";
import {
  Msi32,
  Msi32Masking,
  Msi64,
  Msi64Masking,
  Msix,
  PciExpress,
  PowerManagement,
} from "../spec/pci-capabilities.ts";
import { PciRegion } from "../spec/vfio.ts";

type PciValues = Infer<typeof PciState>;

/** What of configuration space is kept: the header and the conventional capabilities. */
const configBytes = 256;
/** Capabilities in 256 bytes at most: the bound of a walk along the chain. */
const capabilitiesMax = 48;
const capabilityHeadBytes = 4;
const { address64, perVectorMasking } = Msi64.bits.MESSAGE_CONTROL.mask;

/** A function's configuration space, read once. */
class ConfigImage {
  readonly bytes = new Uint8Array(configBytes);
  readonly view = new DataView(this.bytes.buffer);
  /** Place of each capability, by its id. */
  readonly at = new Map<number, number>();
  /** Their ids and places, as bytes. */
  readonly chain: Uint8Array;

  constructor(device: VfioDevice) {
    device.read(PciRegion.config, 0, this.bytes, 0, configBytes);
    const places: number[] = [];
    let at = this.bytes[ConfigHeader.at.CAPABILITIES] as number;
    for (let i = 0; i < capabilitiesMax; i++) {
      if (at < firstCapability || at > configBytes - capabilityHeadBytes) break;
      const id = this.bytes[at] as number;
      places.push(id, at);
      if (!this.at.has(id)) this.at.set(id, at);
      at = this.bytes[at + 1] as number;
    }
    this.chain = Uint8Array.from(places);
  }

  u16(at: number): number {
    return at < 0 ? 0 : this.view.getUint16(at, true);
  }

  u32(at: number): number {
    return at < 0 ? 0 : this.view.getUint32(at, true);
  }

  /** Place of a register of a capability; -1 where the function has none. */
  place(id: number, offset: number): number {
    const at = this.at.get(id);
    return at === undefined ? -1 : at + offset;
  }
}

/** Places of the registers of MSI, of whose capability there are four layouts. */
function msiPlaces(image: ConfigImage) {
  const { msi } = CapabilityId;
  const controlAt = image.place(msi, Msi64.at.MESSAGE_CONTROL);
  const control = image.u16(controlAt);
  const wide = (control & address64) !== 0;
  const masking = (control & perVectorMasking) !== 0;
  const { at } = wide ? Msi64 : Msi32;
  const mask = wide ? Msi64Masking.at.MASK : Msi32Masking.at.MASK;
  return {
    control: controlAt,
    addressLow: image.place(msi, Msi64.at.MESSAGE_ADDRESS),
    addressHigh: wide ? image.place(msi, Msi64.at.MESSAGE_ADDRESS_HIGH) : -1,
    data: image.place(msi, at.MESSAGE_DATA),
    mask: masking ? image.place(msi, mask) : -1,
  };
}

/** Every register that is kept, by its name in `PciState`: place and width, in writing order. */
function placesOf(image: ConfigImage): ReadonlyArray<readonly [Kept, number, 1 | 2 | 4]> {
  const header = ConfigHeader.at;
  const msi = msiPlaces(image);
  return [
    ["rom", header.EXPANSION_ROM, 4],
    ["cacheLine", header.CACHE_LINE_SIZE, 1],
    ["interruptLine", header.INTERRUPT_LINE, 1],
    ["powerControl", image.place(CapabilityId.powerManagement, PowerManagement.at.PMCSR), 2],
    ["deviceControl", image.place(CapabilityId.pciExpress, PciExpress.at.DEVICE_CONTROL), 2],
    ["msiAddressLow", msi.addressLow, 4],
    ["msiAddressHigh", msi.addressHigh, 4],
    ["msiData", msi.data, 2],
    ["msiMask", msi.mask, 4],
    ["msixControl", image.place(CapabilityId.msix, Msix.at.MESSAGE_CONTROL), 2],
    ["command", header.COMMAND, 2],
    ["msiControl", msi.control, 2],
  ];
}

type Kept = Exclude<
  keyof PciValues,
  | "vendor"
  | "device"
  | "subsystemVendor"
  | "subsystem"
  | "classRevision"
  | "capabilities"
  | "bars"
  | "reserved"
>;

const bars = 6;

function valuesOf(image: ConfigImage): PciValues {
  const header = ConfigHeader.at;
  const kept = Object.fromEntries(
    placesOf(image).map(([name, at, size]) => [
      name,
      size === 1 ? (image.bytes[at] as number) : size === 2 ? image.u16(at) : image.u32(at),
    ]),
  ) as Record<Kept, number>;
  return {
    ...kept,
    vendor: image.u16(header.VENDOR_ID),
    device: image.u16(header.DEVICE_ID),
    subsystemVendor: image.u16(header.SUBSYSTEM_VENDOR_ID),
    subsystem: image.u16(header.SUBSYSTEM_ID),
    classRevision: image.u32(header.REVISION_ID),
    capabilities: crc32(image.chain),
    bars: Array.from({ length: bars }, (_, bar) => image.u32(header.BAR0 + 4 * bar)),
    reserved: 0,
  };
}

/** The section's payload for a device as it is now. */
export function savePciState(device: VfioDevice): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(PciState.size);
  PciState.set(new DataView(bytes.buffer), 0, valuesOf(new ConfigImage(device)));
  return bytes;
}

/** What has to be the same on both sides, with its name for people. */
const identity: ReadonlyArray<readonly [keyof PciValues, string]> = [
  ["vendor", "vendor id"],
  ["device", "device id"],
  ["subsystemVendor", "subsystem vendor id"],
  ["subsystem", "subsystem id"],
  ["classRevision", "class code or revision"],
  ["capabilities", "capability list"],
];

/** Bits of the message controls that software writes: the others say what the function has. */
const msiWritten = Msi64.bits.MESSAGE_CONTROL.pack({ enable: true, multipleMessageEnable: 7 });
const msixWritten = Msix.bits.MESSAGE_CONTROL.pack({ enable: true, functionMask: true });

const flr = PciExpress.bits.DEVICE_CONTROL.mask.initiateFunctionLevelReset;

/** Checks a payload against a device, which is not changed: a sentence, or null. */
export function checkPciState(bytes: Uint8Array, device: VfioDevice): string | null {
  if (bytes.length !== PciState.size) return `it has ${bytes.length} bytes, not ${PciState.size}`;
  const theirs = PciState.get(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
  const ours = valuesOf(new ConfigImage(device));
  const other = identity.find(([name]) => theirs[name] !== ours[name]);
  if (other !== undefined) return `its ${other[1]} is another one than this device's`;
  if (((theirs.msiControl ^ ours.msiControl) & ~msiWritten) !== 0) return "its MSI is another one";
  if (((theirs.msixControl ^ ours.msixControl) & ~msixWritten) !== 0) {
    return "its MSI-X is another one";
  }
  if ((theirs.deviceControl & flr) !== 0) return "its deviceControl asks for a reset";
  if (theirs.reserved !== 0) return "its reserved field is not zero";
  return null;
}

/** Writes a checked payload's values to a device. */
export function loadPciState(bytes: Uint8Array, device: VfioDevice): void {
  const values = PciState.get(new DataView(bytes.buffer, bytes.byteOffset, bytes.length), 0);
  const image = new ConfigImage(device);
  const word = new Uint8Array(4);
  const write = (at: number, size: number, value: number): void => {
    if (at < 0) return;
    new DataView(word.buffer).setUint32(0, value, true);
    device.write(PciRegion.config, at, word, 0, size);
  };
  for (const [bar, value] of values.bars.entries()) write(ConfigHeader.at.BAR0 + 4 * bar, 4, value);
  for (const [name, at, size] of placesOf(image)) write(at, size, values[name]);
}

/** Does a write to configuration space ask for a function-level reset? */
export class ResetWatch {
  readonly #at: number;

  constructor(device: VfioDevice) {
    const place = new ConfigImage(device).place(
      CapabilityId.pciExpress,
      PciExpress.at.DEVICE_CONTROL,
    );
    // The bit lies in the register's high byte.
    this.#at = place < 0 ? -1 : place + 1;
  }

  asks(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const place = this.#at - offset;
    if (this.#at < 0 || place < 0 || place >= count) return false;
    return ((bytes[at + place] as number) & (flr >>> 8)) !== 0;
  }
}
