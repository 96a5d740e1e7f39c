import { performance } from "node:perf_hooks";
import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import type { Compatibility, DriverKind } from "../migration/driver.ts";
import { isNative, NativeDriver } from "../migration/drivers/native.ts";
import { identityOf } from "../migration/identity.ts";
import { Migratable } from "../migration/migratable.ts";
import type { Planes } from "../migration/planes.ts";
import type { Seal } from "../migration/seal.ts";
import type { DeviceSpec } from "./mail.ts";

/** The vendors' drivers that come with the project: a thread that needs none loads none. */
const builtIn: ReadonlyMap<string, () => Promise<DriverKind>> = new Map([
  ["hisi-acc", async () => (await import("../migration/drivers/hisi-acc/driver.ts")).hisiAcc],
]);

/** What a device's module exports. */
interface DeviceModule {
  create?(options: Readonly<Record<string, string>>): VfioDevice;
  /** For a device with a control plane of its own, in place of `create`. */
  planes?(options: Readonly<Record<string, string>>): Planes;
  readonly options?: Readonly<Record<string, unknown>>;
}

/** What a device of ours shows beyond that, known by what it has: most threads need few kinds. */
interface OwnDevice extends VfioDevice {
  readonly memory: GuestMemory;
  /** Of a device that another host serves: what that one says of it. */
  readonly compatibility?: Compatibility | null;
}

const isOwn = (device: VfioDevice): device is OwnDevice =>
  (device as Partial<OwnDevice>).memory instanceof GuestMemory;

/** What a module of a migration driver exports. */
interface DriverModule {
  readonly kind?: DriverKind;
}

/** A device as it is served, and the same with its migration; null when it has none. */
export interface MadeDevice {
  readonly device: VfioDevice;
  readonly migratable: Migratable | null;
}

/** Makes the device that a spec names, with the migration driver that fits it. */
export async function makeDevice(spec: DeviceSpec, seal?: Seal): Promise<MadeDevice> {
  const module = (await import(spec.module)) as DeviceModule;
  checkOptions(spec, module);
  const planes = planesOf(spec, module);
  const driver = await driverFor(spec, planes, module.planes !== undefined);
  if (driver === null) return { device: planes.guest, migratable: null };
  const migratable = new Migratable(planes, driver, () => performance.now(), seal);
  return { device: migratable, migratable };
}

function checkOptions(spec: DeviceSpec, { options }: DeviceModule): void {
  const known = Object.keys(options ?? {});
  const unknown = Object.keys(spec.options).find((name) => !known.includes(name));
  if (options === undefined || unknown === undefined) return;
  const list = known.length === 0 ? "none" : known.join(", ");
  throw new FerryError("unknown-option", `${spec.name} has no option ${unknown}; it has ${list}.`);
}

function planesOf(spec: DeviceSpec, { create, planes }: DeviceModule): Planes {
  if (planes !== undefined) return planes(spec.options);
  if (create === undefined) {
    throw new FerryError("no-device", `${spec.name} exports no function create(options).`);
  }
  const device = create(spec.options);
  const memory = isOwn(device) ? device.memory : new GuestMemory();
  return { guest: device, control: device, memory };
}

/** A vendor's driver is looked for only where there is a control plane for it. */
async function driverFor(spec: DeviceSpec, planes: Planes, hasControl: boolean) {
  const { vendor, device } = identityOf(planes.guest);
  const fits = ({ ids }: DriverKind): boolean =>
    ids.some(([ofVendor, ofDevice]) => ofVendor === vendor && ofDevice === device);
  if (spec.driver === undefined) {
    const kinds = hasControl ? [...builtIn.values()].map((load) => load()) : [];
    const kind = (await Promise.all(kinds)).find(fits);
    if (kind !== undefined) return kind.create(planes);
    if (!isNative(planes.guest)) return null;
    const { guest } = planes;
    return new NativeDriver(planes, isOwn(guest) ? (guest.compatibility ?? null) : null);
  }
  const kind = await loadKind(spec.driver);
  if (fits(kind)) return kind.create(planes);
  const id = [vendor, device].map((word) => word.toString(16).padStart(4, "0")).join(":");
  throw new FerryError(
    "no-driver",
    `the migration driver ${kind.name} is not for ${spec.name}, a device ${id}.`,
  );
}

async function importDriver(name: string): Promise<DriverModule> {
  try {
    return (await import(name)) as DriverModule;
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ERR_MODULE_NOT_FOUND") throw thrown;
    const known = [...builtIn.keys()].join(", ");
    throw new FerryError(
      "no-driver",
      `no migration driver ${name}: it is neither built in (${known}), a package, nor a file.`,
    );
  }
}

/** A driver by its name, or from a module that exports `kind`. */
async function loadKind(name: string): Promise<DriverKind> {
  const known = builtIn.get(name);
  if (known !== undefined) return await known();
  const { kind } = await importDriver(name);
  if (kind !== undefined) return kind;
  throw new FerryError("no-driver", `${name} exports no migration driver, that is, no kind.`);
}
