import { errno } from "../../src/base/errno.ts";
import type { RemoteDevice } from "../../src/client/remote-device.ts";
import { Bulk, BulkCommand } from "../../src/devices/bulk/registers.ts";
import { PciRegion } from "../../src/spec/vfio.ts";

const mib = 1_048_576;

function write(device: RemoteDevice, name: keyof typeof Bulk.at, value: number): void {
  const size = name === "BOARD_OFFSET" || name === "LENGTH" ? 8 : 4;
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  if (device.write(PciRegion.bar0, Bulk.at[name], bytes, 0, size) < 0) throw new Error(name);
}

function status(device: RemoteDevice): number {
  const bytes = new Uint8Array(4);
  device.read(PciRegion.bar0, Bulk.at.STATUS, bytes, 0, 4);
  return new DataView(bytes.buffer).getUint32(0, true);
}

/** Fills all of the on-board memory, so that none of it is left out when it is moved. */
export function fillBoard(device: RemoteDevice, memoryMiB: number): void {
  write(device, "VALUE", 0x5a);
  write(device, "BOARD_OFFSET", 0);
  write(device, "LENGTH", memoryMiB * mib);
  write(device, "COMMAND", BulkCommand.fill);
  while (status(device) === errno.EINPROGRESS);
  if (status(device) !== 0) throw new Error(`the board is not filled: ${status(device)}`);
}
