import type { VfioDevice } from "../../device/vfio-device.ts";
import { createPlanes, createVf, type VfPlanes, vfOptions } from "../hisi-acc/vf.ts";
import { ZipEngine } from "../hisi-acc/zip/engine.ts";

/** What `create` takes, for the command line. */
export const options = vfOptions;

/** A ZIP VF: compression. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  return createVf(new ZipEngine(), given);
}

/** The same, with what migrates it. */
export function planes(given: Readonly<Record<string, string>> = {}): VfPlanes {
  return createPlanes(new ZipEngine(), given);
}
