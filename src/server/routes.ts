/** Which handler serves which command. VERSION is the session's own. */
import { errno } from "../base/errno.ts";
import { DeviceFeature, DeviceInfo, IrqInfo, IrqSet, RegionInfo } from "../spec/vfio.ts";
import {
  Command,
  DmaMap,
  DmaUnmap,
  MigData,
  RegionAccess,
  RegionIoFds,
  RegionWriteMulti,
} from "../spec/vfio-user.ts";
import { dmaMap, dmaUnmap } from "./dma-commands.ts";
import { deviceFeature, migDataRead, migDataWrite } from "./feature-commands.ts";
import {
  deviceGetInfo,
  deviceGetIrqInfo,
  deviceGetRegionInfo,
  deviceGetRegionIoFds,
  deviceReset,
} from "./info-commands.ts";
import { deviceSetIrqs } from "./irq-commands.ts";
import { msgFdsMax } from "./limits.ts";
import { regionRead, regionWrite, regionWriteMulti } from "./region-commands.ts";
import type { Request, Route } from "./request.ts";

const table: ReadonlyArray<readonly [Command, Route]> = [
  [Command.dmaMap, { minimum: DmaMap.size, handle: dmaMap }],
  [Command.dmaUnmap, { minimum: DmaUnmap.size, handle: dmaUnmap }],
  [Command.deviceGetInfo, { minimum: DeviceInfo.size, handle: deviceGetInfo }],
  [Command.deviceGetRegionInfo, { minimum: RegionInfo.size, handle: deviceGetRegionInfo }],
  [Command.deviceGetRegionIoFds, { minimum: RegionIoFds.size, handle: deviceGetRegionIoFds }],
  [Command.deviceGetIrqInfo, { minimum: IrqInfo.size, handle: deviceGetIrqInfo }],
  [Command.deviceSetIrqs, { minimum: IrqSet.size, handle: deviceSetIrqs }],
  [Command.regionRead, { minimum: RegionAccess.size, handle: regionRead }],
  [Command.regionWrite, { minimum: RegionAccess.size, handle: regionWrite }],
  [Command.deviceReset, { minimum: 0, handle: deviceReset }],
  [Command.regionWriteMulti, { minimum: RegionWriteMulti.size, handle: regionWriteMulti }],
  [Command.deviceFeature, { minimum: DeviceFeature.size, handle: deviceFeature }],
  [Command.migDataRead, { minimum: MigData.size, handle: migDataRead }],
  [Command.migDataWrite, { minimum: MigData.size, handle: migDataWrite }],
];

/** Indexed by command number; a hole is a command that nobody serves. */
const routes: ReadonlyArray<Route | undefined> = Array.from(
  { length: Math.max(...table.map(([command]) => command)) + 1 },
  (_, command) => table.find(([number]) => number === command)?.[1],
);

/** Finds the command's handler; more descriptors than we said we take are refused with it. */
export function handle(request: Request, command: number): number {
  const route = routes[command];
  if (route === undefined || request.length < route.minimum) return -errno.EINVAL;
  if (request.fds.length > msgFdsMax) return -errno.EINVAL;
  return route.handle(request);
}
