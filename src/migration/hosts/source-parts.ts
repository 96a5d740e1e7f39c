import type { Link } from "./link.ts";
import type { PausePoint } from "./pause.ts";
import type { PrecopyPolicy } from "./precopy.ts";
import type { SideParts } from "./side-parts.ts";

/** What a source works with. */
export interface SourceParts extends SideParts {
  /** A new link to the target. */
  dial(): Promise<Link>;
}

/** Which migration it is and how it is to go. */
export interface SourceRequest {
  readonly token: string;
  /** The target's name and address, for the journal. */
  readonly peer: string;
  readonly address: string;
  readonly pki: string;
  readonly policy: PrecopyPolicy;
  readonly pauseBefore: readonly PausePoint[];
  /** The VMM's vCPUs stand still already, or do so before the pause at `freeze` is ended. */
  readonly vcpusStopped: boolean;
}
