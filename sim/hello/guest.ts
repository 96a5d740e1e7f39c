import { PciRegion } from "../../src/spec/vfio.ts";
import { type BoundAct, Guest } from "../guest.ts";
import { acts } from "./acts.ts";

/** Message control of the device's MSI. */
const msiControlAt = 0x86;
/** A register that is the driver's own. */
export const scratchAt = 0x2c;

/** A guest that drives a hello device register by register, and knows what must come of it. */
export class HelloGuest extends Guest {
  /** Doorbells rung since the last reset: what the device must have counted. */
  rings = 0;
  readonly acts: readonly BoundAct[] = this.bound(acts);

  protected override async begin(): Promise<void> {
    this.rings = 0;
    await this.writeConfig(msiControlAt, Uint8Array.of(1));
    await this.write(scratchAt, this.mark);
  }

  read(offset: number): Promise<number> {
    return this.readWord(PciRegion.bar0, offset);
  }

  async write(offset: number, value: number, size: 4 | 8 = 4): Promise<void> {
    const data = new Uint8Array(size);
    const view = new DataView(data.buffer);
    if (size === 8) view.setBigUint64(0, BigInt(value), true);
    else view.setUint32(0, value, true);
    await this.store(PciRegion.bar0, offset, data);
  }
}
