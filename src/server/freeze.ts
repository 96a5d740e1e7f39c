import { errno } from "../base/errno.ts";
import { Wrapper } from "../device/wrapper.ts";
import { PciRegion } from "../spec/vfio.ts";
import { Command, Header, RegionAccess } from "../spec/vfio-user.ts";

/** How a connection stands still (invariant 2). */
export const Freeze = {
  /** It runs. */
  none: 0,
  /** Region accesses wait in order and are served after the thaw: vCPUs may be running. */
  hold: 1,
  /** Region accesses have no effect: the VMM has stopped its vCPUs. */
  drop: 2,
} as const;
export type Freeze = (typeof Freeze)[keyof typeof Freeze];

/**
 * True for commands that reach what is frozen: region contents. Configuration space, mappings,
 * interrupts, features and reset are always answered.
 */
export function touchesBar(command: number, view: DataView, at: number): boolean {
  switch (command) {
    case Command.regionRead:
    case Command.regionWrite: {
      const regionAt = at + Header.size + RegionAccess.offset.region;
      const size = view.getUint32(at + Header.offset.messageSize, true);
      if (size < Header.size + RegionAccess.size) return false;
      return view.getUint32(regionAt, true) !== PciRegion.config;
    }
    case Command.regionWriteMulti:
      return true;
    default:
      return false;
  }
}

/** A device in drop mode: reads of regions fail, which a client sees as all ones; writes vanish. */
export class DroppingDevice extends Wrapper {
  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region === PciRegion.config) return super.read(region, offset, bytes, at, count);
    return -errno.EIO;
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region === PciRegion.config) return super.write(region, offset, bytes, at, count);
    return 0;
  }
}
