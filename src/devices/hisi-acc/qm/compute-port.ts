import type { Watch } from "../../../device/vfio-device.ts";
import type { ComputeService } from "../engine.ts";

/** Where computations run, and how it is known that some have ended. */
export interface ComputePort extends ComputeService {
  /** Counts answers. */
  readonly settled: number;
  /** What to poll for them. */
  readonly watches: readonly Watch[];
  /** Takes the bytes of a long output that is written. */
  discard(bytes: Uint8Array): void;
}
