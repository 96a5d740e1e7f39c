import { errno } from "../base/errno.ts";
import { capabilityDefaults, ownCapability, Version } from "../spec/vfio-user.ts";

/** What one side of a connection can take, from its VERSION message. Bytes and counts. */
export interface Limits {
  readonly maxMsgFds: number;
  readonly maxDataXferSize: number;
  readonly maxDmaMaps: number;
  readonly pgsizes: number;
  readonly writeMultiple: boolean;
  readonly twinSocket: boolean;
  /** Knows `OwnFeature.precopyInfo`. */
  readonly precopyInfo: boolean;
  /** Knows `OwnCommand.interrupt`: no eventfd can reach the client. */
  readonly irqMessages: boolean;
}

/** A decoded VERSION message. */
export interface Proposal {
  readonly major: number;
  readonly minor: number;
  readonly limits: Limits;
  /** Which descriptor of the reply is the twin socket; -1 when there is none. */
  readonly twinFdIndex: number;
}

/** The version spoken here. */
export const ourMajor = 0;
export const ourMinor = 1;

/** A capability text is a few hundred bytes; longer ones are not read. */
export const versionBytesMax = 16_384;
/** QEMU receives the reply into the buffer of its own request, which has 214 bytes in all. */
export const versionReplyBytesMax = 214;
/** A peer that can take more descriptors at once than this is lying (as in the C library). */
export const msgFdsMax = 1024;

/** The defaults of the document, for a peer that says nothing. */
export const defaultLimits: Limits = {
  maxMsgFds: capabilityDefaults.max_msg_fds,
  maxDataXferSize: capabilityDefaults.max_data_xfer_size,
  maxDmaMaps: capabilityDefaults.max_dma_maps,
  pgsizes: capabilityDefaults.pgsizes,
  writeMultiple: capabilityDefaults.write_multiple,
  twinSocket: false,
  precopyInfo: false,
  irqMessages: false,
};

type Json = Record<string, unknown>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

const isCount = (value: unknown, max: number): value is number =>
  typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= max;

const isPowerOfTwo = (value: number): boolean =>
  value > 0 && value === 2 ** Math.round(Math.log2(value));

/** Each known key with what its value must be; unknown keys are ignored, as the document asks. */
const rules: Record<string, (value: unknown) => boolean> = {
  max_msg_fds: (value) => isCount(value, msgFdsMax),
  max_data_xfer_size: (value) => isCount(value, Number.MAX_SAFE_INTEGER) && value > 0,
  max_dma_maps: (value) => isCount(value, Number.MAX_SAFE_INTEGER),
  pgsizes: (value) => isCount(value, Number.MAX_SAFE_INTEGER) && value > 0 && value % 4096 === 0,
  write_multiple: (value) => typeof value === "boolean",
  twin_socket: (value) =>
    isObject(value) &&
    (value["supported"] === undefined || typeof value["supported"] === "boolean") &&
    (value["fd_index"] === undefined || isCount(value["fd_index"], msgFdsMax)),
  [ownCapability]: (value) =>
    isObject(value) &&
    ["precopy_info", "irq_messages"].every(
      (key) => value[key] === undefined || typeof value[key] === "boolean",
    ),
  migration: (value) =>
    isObject(value) &&
    (value["pgsize"] === undefined ||
      (isCount(value["pgsize"], Number.MAX_SAFE_INTEGER) && isPowerOfTwo(value["pgsize"]))),
};

/**
 * The capability object of a VERSION payload, null when it is malformed, `{}` when there is none.
 */
function parseCapabilities(text: Uint8Array): Json | null {
  if (text.length === 0) return {};
  if (text.length > versionBytesMax || text.at(-1) !== 0) return null;
  let parsed: unknown;
  try {
    parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text.subarray(0, -1)));
  } catch {
    return null;
  }
  if (!isObject(parsed)) return null;
  const { capabilities = {} } = parsed;
  if (!isObject(capabilities)) return null;
  const malformed = Object.entries(rules).some(
    ([key, rule]) => capabilities[key] !== undefined && !rule(capabilities[key]),
  );
  return malformed ? null : capabilities;
}

/** Decodes a VERSION payload of either side: the proposal, or a negated errno. */
export function parseVersion(payload: Uint8Array): Proposal | number {
  if (payload.length < Version.size) return -errno.EINVAL;
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  const { major, minor } = Version.get(view, 0);
  if (major !== ourMajor) return -errno.EINVAL;
  const capabilities = parseCapabilities(payload.subarray(Version.size));
  if (capabilities === null) return -errno.EINVAL;
  const number = (key: string, missing: number): number =>
    (capabilities[key] as number | undefined) ?? missing;
  const twin = capabilities["twin_socket"] as Json | undefined;
  const twinSocket = twin?.["supported"] === true;
  const own = capabilities[ownCapability] as Json | undefined;
  return {
    major,
    minor,
    limits: {
      maxMsgFds: number("max_msg_fds", defaultLimits.maxMsgFds),
      maxDataXferSize: number("max_data_xfer_size", defaultLimits.maxDataXferSize),
      maxDmaMaps: number("max_dma_maps", defaultLimits.maxDmaMaps),
      pgsizes: number("pgsizes", defaultLimits.pgsizes),
      writeMultiple: capabilities["write_multiple"] === true,
      twinSocket,
      precopyInfo: own?.["precopy_info"] === true,
      irqMessages: own?.["irq_messages"] === true,
    },
    twinFdIndex: twinSocket ? ((twin?.["fd_index"] as number | undefined) ?? -1) : -1,
  };
}

/** What a VERSION payload says besides the limits. */
export interface VersionExtra {
  /** Names the twin's descriptor, in a server's reply. */
  readonly twinFdIndex?: number;
  readonly migrates?: boolean;
  /** Leaves out what the document's defaults say anyway. */
  readonly terse?: boolean;
}

const isDefault = (key: string, value: unknown): boolean =>
  capabilityDefaults[key as keyof typeof capabilityDefaults] === value;

/** Encodes a VERSION payload of either side. */
export function formatVersion(minor: number, limits: Limits, extra: VersionExtra = {}): Uint8Array {
  const twin =
    extra.twinFdIndex === undefined
      ? { supported: true }
      : { supported: true, fd_index: extra.twinFdIndex };
  const own = {
    ...(limits.precopyInfo ? { precopy_info: true } : {}),
    ...(limits.irqMessages ? { irq_messages: true } : {}),
  };
  const all = {
    max_msg_fds: limits.maxMsgFds,
    max_data_xfer_size: limits.maxDataXferSize,
    max_dma_maps: limits.maxDmaMaps,
    pgsizes: limits.pgsizes,
    ...(extra.migrates === true ? { migration: { pgsize: 4096 } } : {}),
    ...(limits.twinSocket ? { twin_socket: twin } : {}),
    ...(limits.writeMultiple ? { write_multiple: true } : {}),
    ...(limits.precopyInfo || limits.irqMessages ? { [ownCapability]: own } : {}),
  };
  const said = Object.entries(all).filter(([key, value]) => !extra.terse || !isDefault(key, value));
  const capabilities = Object.fromEntries(said);
  const text = new TextEncoder().encode(`${JSON.stringify({ capabilities })}\0`);
  const payload = new Uint8Array(Version.size + text.length);
  Version.set(new DataView(payload.buffer), 0, { major: ourMajor, minor });
  payload.set(text, Version.size);
  return payload;
}
