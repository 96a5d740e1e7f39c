/**
 * vfio-ferry: PCI devices served from user space over vfio-user.
 *
 * Write a device by extending `PciModel` (or implement `VfioDevice` from scratch), serve it with
 * `Host` or `ferry serve`, drive any server with `RemoteDevice`. A `DriverKind` migrates a device
 * that does not do so itself; "vfio-ferry/driver-contract" proves one.
 */
export { bits } from "./base/bits.ts";
export { errno, errnoName } from "./base/errno.ts";
export { FerryError } from "./base/errors.ts";
export { registers } from "./base/registers.ts";
export { array, struct, u8, u16, u32, u53 } from "./base/struct.ts";
export { Connection } from "./client/connection.ts";
export { GuestRam } from "./client/guest-ram.ts";
export { RemoteDevice } from "./client/remote-device.ts";
export {
  deviceSerialNumber,
  msi,
  msix,
  pciExpress,
  powerManagement,
  vendorSpecific,
  vendorSpecificExtended,
} from "./device/capabilities.ts";
export { MigrationRegionV1 } from "./device/migration-region-v1.ts";
export { PciModel } from "./device/pci-model.ts";
export type * from "./device/vfio-device.ts";
export { Wrapper } from "./device/wrapper.ts";
export { Host, type HostEvents, type Place } from "./host/host.ts";
export type { DeviceSpec } from "./host/mail.ts";
export { GuestMemory } from "./memory/guest-memory.ts";
export { HostMemory } from "./memory/host-memory.ts";
export { Direction, pending, Transfer } from "./memory/transfer.ts";
export type * from "./migration/driver.ts";
export { compare, identityOf, shapeOf } from "./migration/identity.ts";
export type { Planes } from "./migration/planes.ts";
export { MigrationFlags } from "./spec/vfio.ts";
