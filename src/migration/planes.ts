import type { VfioDevice } from "../device/vfio-device.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";

/**
 * A device as those who migrate it need it: what the guest reaches, and what lies beside that, out
 * of the guest's reach.
 */
export interface Planes {
  /** What a VMM is given. */
  readonly guest: VfioDevice;
  /**
   * What a migration driver is given and nobody else: the whole function of which the guest sees a
   * part, or another function with DMA of its own. It never stops; the guest's plane does.
   */
  readonly control: VfioDevice;
  /** The guest's memory as the device reaches it, by the VMM's mappings. */
  readonly memory: GuestMemory;
  /** Whoever answers for the physical function; what it can be asked is the driver's matter. */
  readonly broker?: unknown;
}
