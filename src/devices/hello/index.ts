import type { VfioDevice } from "../../device/vfio-device.ts";
import { HelloDevice } from "./hello.ts";

/** What `create` takes, for the command line. */
export const options = {
  mapped: { default: "false", doc: "true: clients may map BAR2" },
} as const;

export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  return new HelloDevice((given["mapped"] ?? options.mapped.default) === "true");
}
