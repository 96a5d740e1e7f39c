/**
 * vfio-ferry: PCI devices served from user space over vfio-user.
 *
 * Write a device by extending `PciModel` (or implement `VfioDevice` from scratch), serve it with
 * `Host` or `ferry serve`, drive any server with `RemoteDevice`.
 */
export { bits } from "./base/bits.ts";
export { errno, errnoName } from "./base/errno.ts";
export { FerryError } from "./base/errors.ts";
export { registers } from "./base/registers.ts";
export { struct } from "./base/struct.ts";
export { Connection } from "./client/connection.ts";
export { GuestRam } from "./client/guest-ram.ts";
export { RemoteDevice } from "./client/remote-device.ts";
export { msi, msix, pciExpress, powerManagement } from "./device/capabilities.ts";
export { PciModel } from "./device/pci-model.ts";
export type * from "./device/vfio-device.ts";
export { Wrapper } from "./device/wrapper.ts";
export { Host, type HostEvents, type Place } from "./host/host.ts";
export type { DeviceSpec } from "./host/mail.ts";
export { GuestMemory } from "./memory/guest-memory.ts";
export { Direction, pending, Transfer } from "./memory/transfer.ts";
