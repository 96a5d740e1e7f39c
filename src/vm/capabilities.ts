/** What a QEMU's migrations can be set to, as far as it matters to a VM's devices. */
import * as s from "../migration/hosts/shapes.ts";

/** The answer to `query-migrate-capabilities`. */
export const capabilitiesShape = s.list(s.object({ capability: s.text(64), state: s.flag }), 256);

/** What both QEMUs have to be told to be able to do. */
export const needed = ["events", "pause-before-switchover"] as const;

/** Ways to migrate that devices cannot go together with. */
export const misfits = [
  "postcopy-ram",
  "background-snapshot",
  "x-colo",
  "mapped-ram",
  // Memory that is shared by a file would not be sent, and stay with the source.
  "x-ignore-shared",
] as const;

/** VMs have moved with each of these. */
export const tried: readonly string[] = [
  ...["multifd", "zero-copy-send", "xbzrle", "auto-converge", "release-ram", "rdma-pin-all"],
  ...["return-path", "switchover-ack", "validate-uuid", "dirty-bitmaps", "postcopy-blocktime"],
  ...needed,
  "late-block-activate",
];

/** Of the answer to `query-migrate-parameters`: how memory goes with `multifd`. */
export const streamsShape = s.object({
  "multifd-channels": s.whole(),
  "multifd-compression": s.text(64),
});
