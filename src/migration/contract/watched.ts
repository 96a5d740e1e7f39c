import type { DmaMapping, IrqRequest } from "../../device/vfio-device.ts";
import { Wrapper } from "../../device/wrapper.ts";
import { PciRegion } from "../../spec/vfio.ts";

/** A plane that counts what is done to it. */
export class Watched extends Wrapper {
  /** Whatever may have changed the device. */
  changes = 0;
  /** Reads of anything but configuration space. */
  looks = 0;

  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region !== PciRegion.config) this.looks += 1;
    return super.read(region, offset, bytes, at, count);
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    this.changes += 1;
    return super.write(region, offset, bytes, at, count);
  }

  override setIrqs(request: IrqRequest): number {
    this.changes += 1;
    return super.setIrqs(request);
  }

  override mapDma(mapping: DmaMapping): number {
    this.changes += 1;
    return super.mapDma(mapping);
  }

  override reset(): number {
    this.changes += 1;
    return super.reset();
  }
}
