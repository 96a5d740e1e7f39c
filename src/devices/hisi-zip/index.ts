import type { VfioDevice } from "../../device/vfio-device.ts";
import { createVf, vfOptions } from "../hisi-acc/vf.ts";
import { ZipEngine } from "../hisi-acc/zip/engine.ts";

/** What `create` takes, for the command line. */
export const options = vfOptions;

/** A ZIP VF: compression. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  return createVf(new ZipEngine(), given);
}
