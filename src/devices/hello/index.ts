import { FerryError } from "../../base/errors.ts";
import { mmapPolicy } from "../../device/mmap-policy.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { HelloDevice } from "./hello.ts";

/** What `create` takes, for the command line. */
export const options = {
  msix: { default: "true", doc: "false leaves MSI-X out: QEMU 11.1 aborts when it unplugs it" },
  mmap: { default: "never", doc: "trusted lets clients map BAR2" },
} as const;

/** Makes a `hello`; throws `bad-option` for a value that is none. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  const msix = given["msix"] ?? options.msix.default;
  if (msix !== "true" && msix !== "false") {
    throw new FerryError("bad-option", `msix=${msix} is neither true nor false.`);
  }
  return new HelloDevice(mmapPolicy(given["mmap"] ?? options.mmap.default), msix === "true");
}
