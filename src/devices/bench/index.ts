import { FerryError } from "../../base/errors.ts";
import { mmapPolicy } from "../../device/mmap-policy.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { BenchDevice } from "./bench.ts";

/** What `create` takes, for the command line. */
export const options = {
  stateMiB: { default: "64", doc: "MiB of state to migrate, at most 2048" },
  mmap: { default: "trusted", doc: "never keeps clients from mapping a part of BAR1" },
} as const;

const stateMibMax = 2048;

/** Makes a `bench`; throws `bad-option` for a value that is none. */
export function create(given: Readonly<Record<string, string>> = {}): VfioDevice {
  const text = given["stateMiB"] ?? options.stateMiB.default;
  const stateMib = /^\d+$/.test(text) ? Number(text) : Number.NaN;
  if (!(stateMib <= stateMibMax)) {
    throw new FerryError("bad-option", `stateMiB=${text} is no whole number up to ${stateMibMax}.`);
  }
  return new BenchDevice(stateMib, mmapPolicy(given["mmap"] ?? options.mmap.default));
}
