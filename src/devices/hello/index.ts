import { FerryError } from "../../base/errors.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { HelloDevice } from "./hello.ts";

/** What `create` takes, for the command line. */
export const options = {
  mapped: { default: "false", doc: "true lets clients map BAR2" },
  msix: { default: "true", doc: "false leaves MSI-X out: QEMU 11.1 aborts when it unplugs it" },
} as const;

export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  return new HelloDevice(flag(given, "mapped"), flag(given, "msix"));
}

function flag(given: Readonly<Record<string, string>>, name: keyof typeof options): boolean {
  const text = given[name] ?? options[name].default;
  if (text !== "true" && text !== "false") {
    throw new FerryError("bad-option", `${name}=${text} is neither true nor false.`);
  }
  return text === "true";
}
