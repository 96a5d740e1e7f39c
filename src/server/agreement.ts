import type { VfioDevice } from "../device/vfio-device.ts";
import { Feature, FeatureFlags } from "../spec/vfio.ts";
import { Header } from "../spec/vfio-user.ts";
import {
  formatVersion,
  type Limits,
  ourMinor,
  parseVersion,
  versionReplyBytesMax,
} from "../wire/negotiate.ts";
import { offered } from "./limits.ts";

/** What a VERSION message has led to. */
export interface Agreement {
  /** What the client can take. */
  readonly peer: Limits;
  /** The client gets a socket for the server's commands, as the reply's first descriptor. */
  readonly twinSocket: boolean;
  /** Payload of the reply. */
  readonly payload: Uint8Array;
}

const probeMigration = FeatureFlags.mask.probe | FeatureFlags.mask.get | Feature.migration;

/** Agrees on a client's proposal, or says why not with a negated errno. */
export function agree(proposed: Uint8Array, device: VfioDevice): Agreement | number {
  const proposal = parseVersion(proposed);
  if (typeof proposal === "number") return proposal;
  const { limits: peer, minor } = proposal;
  const twinSocket = peer.twinSocket && peer.maxMsgFds > 0;
  const ours = { ...offered, writeMultiple: peer.writeMultiple, twinSocket };
  const migrates = device.feature(probeMigration, new Uint8Array(8), 0, 8, 8) >= 0;
  const format = (migration: boolean): Uint8Array =>
    formatVersion(Math.min(minor, ourMinor), ours, {
      migrates: migration,
      ...(twinSocket ? { twinFdIndex: 0 } : {}),
    });
  const payload = format(migrates);
  const fits = Header.size + payload.length <= versionReplyBytesMax;
  // The migration key is a courtesy to old clients, and the document has dropped it.
  return { peer, twinSocket, payload: fits ? payload : format(false) };
}
