import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import { hpreDeviceId } from "../spec/hisi-hpre.ts";
import { hisiVendor } from "../spec/hisi-qm.ts";
import { sec2DeviceId } from "../spec/hisi-sec2.ts";
import { zipDeviceId } from "../spec/hisi-zip.ts";
import type { EngineDriverOptions } from "./engine-options.ts";
import { hpreWorkload } from "./hpre-work.ts";
import { PciFunction } from "./pci-function.ts";
import { sec2Workload } from "./sec2-work.ts";
import type { Workload } from "./work.ts";
import { zipWorkload } from "./zip-work.ts";

type MakeWorkload = (device: VfioDevice, options: EngineDriverOptions) => Workload;

/** By PCI device id of the vendor's. */
const makers: ReadonlyMap<number, MakeWorkload> = new Map([
  [sec2DeviceId, sec2Workload],
  [zipDeviceId, zipWorkload],
  [hpreDeviceId, hpreWorkload],
]);

/** Takes a device over with the driver that knows it; a FerryError when none does. */
export function openWorkload(device: VfioDevice, options: EngineDriverOptions = {}): Workload {
  const pci = new PciFunction(device);
  const [vendor, id] = [pci.readConfig("VENDOR_ID"), pci.readConfig("DEVICE_ID")];
  const make = vendor === hisiVendor ? makers.get(id) : undefined;
  if (make !== undefined) return make(device, options);
  const hex = (word: number): string => word.toString(16).padStart(4, "0");
  throw new FerryError(
    "unknown-device",
    `there is no driver here for ${device.name}, a PCI device ${hex(vendor)}:${hex(id)}; ` +
      "there are some for the HiSilicon VFs SEC2, ZIP and HPRE.",
  );
}
