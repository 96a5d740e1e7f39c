import type { VfioDevice } from "../../device/vfio-device.ts";
import { HpreEngine } from "../hisi-acc/hpre/engine.ts";
import { createPlanes, createVf, type VfPlanes, vfOptions } from "../hisi-acc/vf.ts";

/** What `create` takes, for the command line. */
export const options = vfOptions;

/** An HPRE VF: public key arithmetic. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  return createVf(new HpreEngine(), given);
}

/** The same, with what migrates it. */
export function planes(given: Readonly<Record<string, string>> = {}): VfPlanes {
  return createPlanes(new HpreEngine(), given);
}
