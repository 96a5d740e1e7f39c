import type { VfioDevice } from "../device/vfio-device.ts";
import { Feature, FeatureFlags } from "../spec/vfio.ts";
import { Header, OwnFeature } from "../spec/vfio-user.ts";
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

/** Can a feature be read of a device? */
function reads(device: VfioDevice, feature: number): boolean {
  const flags = FeatureFlags.mask.probe | FeatureFlags.mask.get | feature;
  return device.feature(flags, new Uint8Array(8), 0, 8, 8) >= 0;
}

/**
 * The reply's payload in the shortest of its forms that is needed: the migration key is a courtesy
 * to old clients, which the document has dropped, and defaults need not be said.
 */
function formatReply(minor: number, ours: Limits, migrates: boolean): Uint8Array {
  const twin = ours.twinSocket ? { twinFdIndex: 0 } : {};
  const forms = [{ ...twin, migrates }, twin].map((extra) => formatVersion(minor, ours, extra));
  const fits = (form: Uint8Array): boolean => Header.size + form.length <= versionReplyBytesMax;
  return forms.find(fits) ?? formatVersion(minor, ours, { ...twin, terse: true });
}

/** Agrees on a client's proposal, or says why not with a negated errno. */
export function agree(proposed: Uint8Array, device: VfioDevice): Agreement | number {
  const proposal = parseVersion(proposed);
  if (typeof proposal === "number") return proposal;
  const { limits, minor } = proposal;
  const twinSocket = limits.twinSocket && limits.maxMsgFds > 0;
  const precopyInfo = limits.precopyInfo && reads(device, OwnFeature.precopyInfo);
  const peer = { ...limits, precopyInfo };
  const { writeMultiple, irqMessages } = limits;
  const ours = { ...offered, writeMultiple, twinSocket, precopyInfo, irqMessages };
  const migrates = reads(device, Feature.migration);
  return { peer, twinSocket, payload: formatReply(Math.min(minor, ourMinor), ours, migrates) };
}
