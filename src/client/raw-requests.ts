/**
 * Requests as bytes, one function a command, for clients that want to send what they like: every
 * field can be given, right or wrong, and nothing is checked.
 */
import type { Field, Struct, Values } from "../base/struct.ts";
import {
  DeviceFeature,
  DeviceInfo,
  DmaLoggingControl,
  DmaLoggingRange,
  DmaLoggingReport,
  Feature,
  FeatureFlags,
  FeatureMigState,
  IrqInfo,
  IrqSet,
  RegionInfo,
} from "../spec/vfio.ts";
import {
  Command,
  DmaAccess,
  DmaMap,
  DmaMapFlags,
  DmaUnmap,
  Header,
  MigData,
  RegionAccess,
  RegionIoFds,
  RegionWriteMulti,
  RegionWriteMultiEntry,
  Version,
} from "../spec/vfio-user.ts";

/** A request without its header. */
export interface RawRequest {
  readonly command: number;
  readonly payload: Uint8Array;
}

const nothing = new Uint8Array(0);

/** Joins pieces of bytes. */
export function joined(...pieces: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(pieces.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const piece of pieces) {
    whole.set(piece, at);
    at += piece.length;
  }
  return whole;
}

/** A structure as bytes; fields that are not given are 0. */
export function encoded<F extends Record<string, Field<unknown>>>(
  struct: Struct<F>,
  values: Partial<Values<F>>,
): Uint8Array {
  const zeros = struct.get(new DataView(new ArrayBuffer(struct.size)), 0);
  const bytes = new Uint8Array(struct.size);
  struct.set(new DataView(bytes.buffer), 0, { ...zeros, ...values });
  return bytes;
}

/** A copy of a request whose 64-bit field at `at` of the payload is `value`, which may be any. */
export function with64(request: RawRequest, at: number, value: bigint): RawRequest {
  const payload = request.payload.slice();
  new DataView(payload.buffer).setBigUint64(at, value, true);
  return { ...request, payload };
}

/** A copy of a request with its payload cut (or filled up with zeros) to `length` bytes. */
export function cut(request: RawRequest, length: number): RawRequest {
  const payload = new Uint8Array(length);
  payload.set(request.payload.subarray(0, length));
  return { ...request, payload };
}

/** What a header can say beyond the request's own command and size. */
export interface HeaderChoice {
  readonly messageId?: number;
  readonly flags?: number;
  readonly error?: number;
  /** Bytes that the header announces; by default what is there. */
  readonly messageSize?: number;
}

/** A whole message: header and payload. */
export function message(request: RawRequest, choice: HeaderChoice = {}): Uint8Array {
  const size = Header.size + request.payload.length;
  const header = encoded(Header, { command: request.command, messageSize: size, ...choice });
  return joined(header, request.payload);
}

/** VERSION; `text` is sent as it is, the terminating NUL included. */
export function version(major: number, minor: number, text: string | Uint8Array = ""): RawRequest {
  const data = typeof text === "string" ? new TextEncoder().encode(text) : text;
  return { command: Command.version, payload: joined(encoded(Version, { major, minor }), data) };
}

/** VERSION 0.`minor` with capabilities. */
export const proposal = (capabilities: Record<string, unknown>, minor = 1): RawRequest =>
  version(0, minor, `${JSON.stringify({ capabilities })}\0`);

type Optional<S> = S extends Struct<infer F> ? Partial<Values<F>> : never;

/** DMA_MAP, readable and writable unless `flags` say otherwise. */
export const dmaMap = (fields: Optional<typeof DmaMap>): RawRequest => ({
  command: Command.dmaMap,
  payload: encoded(DmaMap, {
    argsz: DmaMap.size,
    flags: DmaMapFlags.mask.read | DmaMapFlags.mask.write,
    ...fields,
  }),
});

/** DMA_UNMAP; `rest` follows the fixed fields. */
export const dmaUnmap = (
  fields: Optional<typeof DmaUnmap>,
  rest: Uint8Array = nothing,
): RawRequest => ({
  command: Command.dmaUnmap,
  payload: joined(encoded(DmaUnmap, { argsz: DmaUnmap.size + rest.length, ...fields }), rest),
});

export const deviceGetInfo = (argsz: number = DeviceInfo.size): RawRequest => ({
  command: Command.deviceGetInfo,
  payload: encoded(DeviceInfo, { argsz }),
});

export const regionInfo = (index: number, argsz: number = RegionInfo.size): RawRequest => ({
  command: Command.deviceGetRegionInfo,
  payload: encoded(RegionInfo, { argsz, index }),
});

export const regionIoFds = (fields: Optional<typeof RegionIoFds>): RawRequest => ({
  command: Command.deviceGetRegionIoFds,
  payload: encoded(RegionIoFds, { argsz: RegionIoFds.size, ...fields }),
});

export const irqInfo = (index: number, argsz: number = IrqInfo.size): RawRequest => ({
  command: Command.deviceGetIrqInfo,
  payload: encoded(IrqInfo, { argsz, index }),
});

/** DEVICE_SET_IRQS; `bools` are the data of DATA_BOOL. */
export const setIrqs = (
  fields: Optional<typeof IrqSet>,
  bools: readonly number[] = [],
): RawRequest => ({
  command: Command.deviceSetIrqs,
  payload: joined(
    encoded(IrqSet, { argsz: IrqSet.size + bools.length, ...fields }),
    Uint8Array.from(bools),
  ),
});

export const regionRead = (region: number, offset: number, count: number): RawRequest => ({
  command: Command.regionRead,
  payload: encoded(RegionAccess, { region, offset, count }),
});

/** REGION_WRITE; `count` is the data's length unless given. */
export const regionWrite = (
  region: number,
  offset: number,
  data: Uint8Array,
  count: number = data.length,
): RawRequest => ({
  command: Command.regionWrite,
  payload: joined(encoded(RegionAccess, { region, offset, count }), data),
});

/** Whole numbers below 2^53 as `size` little-endian bytes. */
export function littleEndian(value: number, size: number): Uint8Array {
  const bytes = new Uint8Array(8);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(value), true);
  return bytes.subarray(0, size);
}

/** One entry of REGION_WRITE_MULTI. */
export type MultiEntry = Optional<typeof RegionWriteMultiEntry>;

/** REGION_WRITE_MULTI; `count` is the number of entries unless given. */
export const regionWriteMulti = (
  entries: readonly MultiEntry[],
  count: number = entries.length,
): RawRequest => ({
  command: Command.regionWriteMulti,
  payload: joined(
    encoded(RegionWriteMulti, { count }),
    ...entries.map((entry) => encoded(RegionWriteMultiEntry, entry)),
  ),
});

export const deviceReset = (): RawRequest => ({ command: Command.deviceReset, payload: nothing });

/** DEVICE_FEATURE; `argsz` is the request's own size unless given. */
export const deviceFeature = (flags: number, data: Uint8Array = nothing, argsz?: number) => ({
  command: Command.deviceFeature,
  payload: joined(
    encoded(DeviceFeature, { argsz: argsz ?? DeviceFeature.size + data.length, flags }),
    data,
  ),
});

const { get, set } = FeatureFlags.mask;

export const getMigState = (): RawRequest =>
  deviceFeature(get | Feature.migDeviceState, nothing, DeviceFeature.size + FeatureMigState.size);

export const setMigState = (deviceState: number): RawRequest =>
  deviceFeature(set | Feature.migDeviceState, encoded(FeatureMigState, { deviceState }));

export interface IovaRange {
  readonly iova: number;
  readonly length: number;
}

/** SET DMA_LOGGING_START; `numRanges` is the number of ranges unless given. */
export const loggingStart = (
  pageSize: number,
  ranges: readonly IovaRange[] = [],
  numRanges: number = ranges.length,
): RawRequest =>
  deviceFeature(
    set | Feature.dmaLoggingStart,
    joined(
      encoded(DmaLoggingControl, { pageSize, numRanges }),
      ...ranges.map((range) => encoded(DmaLoggingRange, range)),
    ),
  );

export const loggingStop = (): RawRequest => deviceFeature(set | Feature.dmaLoggingStop);

/** Bytes of a dirty bitmap: whole 64-bit words, one bit a page. */
export const bitmapBytes = (length: number, pageSize: number): number =>
  Math.ceil(Math.ceil(length / pageSize) / 64) * 8;

/** GET DMA_LOGGING_REPORT; `argsz` has room for the bitmap unless given. */
export function loggingReport(
  iova: number,
  length: number,
  pageSize: number,
  argsz: number = DeviceFeature.size + DmaLoggingReport.size + bitmapBytes(length, pageSize),
): RawRequest {
  const data = encoded(DmaLoggingReport, { iova, length, pageSize });
  return deviceFeature(get | Feature.dmaLoggingReport, data, argsz);
}

export const migDataRead = (size: number, argsz: number = MigData.size + size): RawRequest => ({
  command: Command.migDataRead,
  payload: encoded(MigData, { argsz, size }),
});

/** MIG_DATA_WRITE; `size` is the data's length unless given. */
export const migDataWrite = (data: Uint8Array, size: number = data.length): RawRequest => ({
  command: Command.migDataWrite,
  payload: joined(encoded(MigData, { argsz: MigData.size + size, size }), data),
});

/** The payload of a DMA_READ's or DMA_WRITE's reply, or of such a request. */
export const dmaAccess = (
  command: number,
  address: number,
  count: number,
  data: Uint8Array = nothing,
): RawRequest => ({ command, payload: joined(encoded(DmaAccess, { address, count }), data) });
