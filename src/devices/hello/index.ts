import { FerryError } from "../../base/errors.ts";
import { mmapPolicy } from "../../device/mmap-policy.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { HelloDevice } from "./hello.ts";

/** What `create` takes, for the command line. */
export const options = {
  mapped: { default: "false", doc: "true is mmap=trusted" },
  msix: { default: "true", doc: "false leaves MSI-X out: QEMU 11.1 aborts when it unplugs it" },
  mmap: { default: "never", doc: "trusted lets clients map BAR2" },
} as const;

export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  const mapped = mmapPolicy(given["mmap"] ?? options.mmap.default) || flag(given, "mapped");
  return new HelloDevice(mapped, flag(given, "msix"));
}

function flag(given: Readonly<Record<string, string>>, name: "mapped" | "msix"): boolean {
  const text = given[name] ?? options[name].default;
  if (text !== "true" && text !== "false") {
    throw new FerryError("bad-option", `${name}=${text} is neither true nor false.`);
  }
  return text === "true";
}
