import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { FerryError } from "../base/errors.ts";
import type { DeviceSpec } from "../host/mail.ts";

/** The devices that come with the project. */
export const builtIn = ["hello", "bench", "bulk", "hisi-sec2", "hisi-zip", "hisi-hpre"] as const;

interface SpecOptions {
  /** Options of the device itself. */
  readonly set: Readonly<Record<string, string>>;
  readonly driver?: string;
}

/** The device that a command line names: a built-in one, or a module's path. */
export function specOf(device: string | undefined, options: SpecOptions): DeviceSpec {
  if (device === undefined) {
    throw new FerryError("usage", `name a device to serve: ${builtIn.join(", ")} or a module.`);
  }
  const driver = options.driver === undefined ? {} : { driver: moduleOf(options.driver) };
  return { ...deviceSpec(device, options.set), ...driver };
}

function deviceSpec(device: string, options: Readonly<Record<string, string>>): DeviceSpec {
  if (builtIn.some((name) => name === device)) {
    return { name: device, module: `vfio-ferry/devices/${device}`, options };
  }
  const path = resolve(device);
  if (!existsSync(path)) {
    const known = builtIn.join(", ");
    throw new FerryError(
      "no-device",
      `no device ${device}: it is neither one of ${known} nor a file.`,
    );
  }
  return { name: device, module: pathToFileURL(path).href, options };
}

/** The spec of device `n`: like a socket path, an option may have `{n}` in it. */
export function numbered({ options, ...spec }: DeviceSpec, n: number): DeviceSpec {
  const all = Object.entries(options).map(([name, value]) => [
    name,
    value.replaceAll("{n}", String(n)),
  ]);
  return { ...spec, options: Object.fromEntries(all) };
}

/** A file is named by its URL, anything else is a name or a package for `import`. */
const moduleOf = (name: string): string =>
  existsSync(resolve(name)) ? pathToFileURL(resolve(name)).href : name;
