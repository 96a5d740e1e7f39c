import { FerryError } from "../../base/errors.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { HelloDevice } from "./hello.ts";

/** What `create` takes, for the command line. */
export const options = {
  mapped: { default: "false", doc: "true lets clients map BAR2" },
} as const;

export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  const mapped = given["mapped"] ?? options.mapped.default;
  if (mapped !== "true" && mapped !== "false") {
    throw new FerryError("bad-option", `mapped=${mapped} is neither true nor false.`);
  }
  return new HelloDevice(mapped === "true");
}
