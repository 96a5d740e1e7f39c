import type { Limits } from "../wire/negotiate.ts";
import type { Freeze } from "./freeze.ts";
import type { LaneState } from "./lane.ts";

/** A connection at a message boundary, as plain data and descriptors: enough to go on elsewhere. */
export interface ConnectionState {
  readonly main: LaneState;
  readonly twin: LaneState | null;
  readonly negotiated: boolean;
  readonly peer: Limits;
  readonly freeze: Freeze;
  /** Region accesses that wait for the thaw. */
  readonly held: Uint8Array;
  /** Ids of DMA commands that were given up and may still be answered. */
  readonly abandonedIds: readonly number[];
}
