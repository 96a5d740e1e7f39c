import { FerryError } from "../../base/errors.ts";
import { mmapPolicy } from "../../device/mmap-policy.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import type { GuestMemory } from "../../memory/guest-memory.ts";
import { BulkDevice } from "./bulk.ts";
import { BulkControlFunction } from "./control.ts";

export { checkBulkFunction } from "./checks.ts";
export * from "./registers.ts";

/** What `create` and `planes` take, for the command line. */
export const options = {
  memoryMiB: { default: "64", doc: "MiB of on-board memory, 1 to 2048" },
  prealloc: { default: "false", doc: "true takes all of this memory now, and keeps it" },
  mmap: { default: "never", doc: "trusted lets clients map all of the on-board memory" },
} as const;

type Given = Readonly<Record<string, string>>;

const memoryMibMax = 2048;

/** The function for a guest, without anything that could migrate it but its own state. */
export function create(given: Given = {}): VfioDevice {
  return make(given);
}

/** Both functions: what the guest is given, and what migrates it. */
export function planes(given: Given = {}): {
  readonly guest: VfioDevice;
  readonly control: VfioDevice;
  readonly memory: GuestMemory;
} {
  const guest = make(given);
  return { guest, control: new BulkControlFunction(guest), memory: guest.memory };
}

function make(given: Given): BulkDevice {
  const text = given["memoryMiB"] ?? options.memoryMiB.default;
  const memoryMib = /^\d+$/.test(text) ? Number(text) : 0;
  if (memoryMib < 1 || memoryMib > memoryMibMax) {
    throw new FerryError(
      "bad-option",
      `memoryMiB=${text} is no whole number from 1 to ${memoryMibMax}.`,
    );
  }
  const mapped = mmapPolicy(given["mmap"] ?? options.mmap.default);
  if (mapped && !Number.isInteger(Math.log2(memoryMib))) {
    throw new FerryError(
      "bad-option",
      `memoryMiB=${text} is no power of two, as it has to be with mmap=trusted.`,
    );
  }
  const prealloc = given["prealloc"] ?? options.prealloc.default;
  if (prealloc !== "true" && prealloc !== "false") {
    throw new FerryError("bad-option", `prealloc=${prealloc} is neither true nor false.`);
  }
  return new BulkDevice(memoryMib, mapped, prealloc === "true");
}
