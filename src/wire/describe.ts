/**
 * A vfio-user message as one line for people. Everything here is total: a message may be cut short,
 * contradict itself or be noise, and still becomes a line.
 */
import type { Bits } from "../base/bits.ts";
import { errnoName } from "../base/errno.ts";
import { i32, type Struct } from "../base/struct.ts";
import {
  DeviceFeature,
  DeviceFlags,
  DeviceInfo,
  DmaLoggingControl,
  DmaLoggingRange,
  DmaLoggingReport,
  Feature,
  FeatureFlags,
  FeatureMigration,
  FeatureMigState,
  IrqFlags,
  IrqInfo,
  IrqSet,
  IrqSetFlags,
  MigrationFlags,
  migStateName,
  PciIrq,
  PciRegion,
  PrecopyInfo,
  RegionCap,
  RegionFlags,
  RegionInfo,
  SparseMmapArea,
  SparseMmapCap,
} from "../spec/vfio.ts";
import {
  Command,
  commandName,
  DmaAccess,
  DmaMap,
  DmaMapFlags,
  DmaUnmap,
  DmaUnmapBitmap,
  DmaUnmapFlags,
  Header,
  HeaderFlags,
  Interrupt,
  IoEventfdFlags,
  IoFdType,
  MessageType,
  MigData,
  noFdIndex,
  OwnCommand,
  OwnFeature,
  RegionAccess,
  RegionIoFds,
  RegionWriteMulti,
  RegionWriteMultiEntry,
  SubRegionIoEventfd,
  Version,
} from "../spec/vfio-user.ts";

/** Bytes of data that a line shows. */
export const previewBytes = 16;
/** Entries of a list that a line shows. */
export const entriesShown = 4;
/** Characters of a capability text that a line shows. */
export const textShown = 400;

/** Which way a message went. */
export const Way = { toServer: "→", toClient: "←" } as const;
export type Way = (typeof Way)[keyof typeof Way];

type Show = (value: number | bigint) => string;
type AnyStruct = Struct<Record<string, never>>;

const hex: Show = (value) => `0x${value.toString(16)}`;
const decimal: Show = (value) => value.toString();
const flagsOf =
  (names: Bits<Record<string, never>>): Show =>
  (value) =>
    names.describe(Number(value));
const nameOf =
  (names: Readonly<Record<string, number>>): Show =>
  (value) =>
    Object.entries(names).find(([, number]) => number === Number(value))?.[0] ?? value.toString();

const region = nameOf(PciRegion);
const irq = nameOf(PciIrq);
const feature = nameOf({ ...Feature, ...OwnFeature });

/** A structure with how its fields are shown; what is not named is decimal, `null` is left out. */
interface Shape {
  readonly struct: AnyStruct;
  readonly show: Readonly<Record<string, Show | null>>;
}

const shape = (struct: unknown, show: Shape["show"]): Shape => ({
  struct: struct as AnyStruct,
  show,
});
const flags = (names: unknown): Show => flagsOf(names as Bits<Record<string, never>>);

const shapes = {
  version: shape(Version, {}),
  dmaMap: shape(DmaMap, { flags: flags(DmaMapFlags), offset: hex, address: hex, size: hex }),
  dmaUnmap: shape(DmaUnmap, { flags: flags(DmaUnmapFlags), address: hex, size: hex }),
  dmaUnmapBitmap: shape(DmaUnmapBitmap, { pageSize: hex }),
  deviceInfo: shape(DeviceInfo, { flags: flags(DeviceFlags) }),
  regionInfo: shape(RegionInfo, {
    flags: flags(RegionFlags),
    index: region,
    size: hex,
    offset: hex,
  }),
  sparseArea: shape(SparseMmapArea, { offset: hex, size: hex }),
  regionIoFds: shape(RegionIoFds, { index: region }),
  ioEventfd: shape(SubRegionIoEventfd, {
    offset: hex,
    fdIndex: (value) => (value === noFdIndex ? "none" : value.toString()),
    type: nameOf(IoFdType),
    flags: flags(IoEventfdFlags),
    padding: null,
    datamatch: hex,
  }),
  irqInfo: shape(IrqInfo, { flags: flags(IrqFlags), index: irq }),
  irqSet: shape(IrqSet, { flags: flags(IrqSetFlags), index: irq }),
  regionAccess: shape(RegionAccess, { offset: hex, region }),
  dmaAccess: shape(DmaAccess, { address: hex }),
  writeMulti: shape(RegionWriteMulti, {}),
  writeMultiEntry: shape(RegionWriteMultiEntry, { offset: hex, region, data: hex }),
  feature: shape(DeviceFeature, { flags: null }),
  migration: shape(FeatureMigration, { flags: flags(MigrationFlags) }),
  migState: shape(FeatureMigState, { deviceState: (value) => migStateName(Number(value)) }),
  precopyInfo: shape(PrecopyInfo, {}),
  loggingControl: shape(DmaLoggingControl, { pageSize: hex, reserved: null }),
  loggingRange: shape(DmaLoggingRange, { iova: hex, length: hex }),
  loggingReport: shape(DmaLoggingReport, { iova: hex, length: hex, pageSize: hex }),
  migData: shape(MigData, {}),
  interrupt: shape(Interrupt, { index: irq }),
} as const;

/** The bytes of one message, read from front to back; `words` is the line so far. */
class Line {
  readonly words: string[];
  readonly view: DataView;
  readonly #bytes: Uint8Array;
  /** Bytes that the message says it has; more than there are when it was cut. */
  readonly #declared: number;
  #at: number;

  constructor(bytes: Uint8Array, declared: number, at: number, words: string[]) {
    this.words = words;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    this.#bytes = bytes.length > declared ? bytes.subarray(0, declared) : bytes;
    this.#declared = declared;
    this.#at = at;
  }

  /** Bytes that are there. */
  get left(): number {
    return Math.max(0, this.#bytes.length - this.#at);
  }

  /** Bytes that the message says are still to come. */
  get declaredLeft(): number {
    return Math.max(0, this.#declared - this.#at);
  }

  /** The place of the next byte. */
  get at(): number {
    return this.#at;
  }

  skip(count: number): void {
    this.#at += Math.min(count, this.left);
  }

  /** Shows a structure, or says that it is not whole; false then. */
  structure({ struct, show }: Shape): boolean {
    if (this.left < struct.size) {
      if (this.left > 0) this.data("short");
      else this.words.push("no payload");
      return false;
    }
    for (const [name, field] of Object.entries(struct.fields as Record<string, { size: number }>)) {
      const shown = show[name];
      if (shown === null) continue;
      const at = this.#at + (struct.offset as Record<string, number>)[name]!;
      this.words.push(`${name}=${(shown ?? decimal)(this.#integer(field, at))}`);
    }
    this.#at += struct.size;
    return true;
  }

  /** Eight bytes are read as they are: what a structure rounds is shown exactly. */
  #integer(field: { size: number }, at: number): number | bigint {
    if (field.size === 8) return this.view.getBigUint64(at, true);
    if (field.size === 2) return this.view.getUint16(at, true);
    return (field as unknown) === i32
      ? this.view.getInt32(at, true)
      : this.view.getUint32(at, true);
  }

  /** Shows the rest as a few bytes with their number. */
  data(name: string): void {
    if (this.declaredLeft <= 0) return;
    const shown = Math.min(previewBytes, this.left);
    const end = this.#at + shown;
    const words = Array.from(this.#bytes.subarray(this.#at, end), (byte) =>
      byte.toString(16).padStart(2, "0"),
    );
    const all = this.declaredLeft === shown;
    const count = all ? "" : ` (${this.declaredLeft} bytes)`;
    this.words.push(`${name}=${words.join(" ")}${all ? "" : "…"}${count}`);
    this.#at = this.#declared;
  }

  /** Shows up to a few structures of a list that is said to have `count`. */
  list(each: Shape, count: number): void {
    for (let i = 0; i < count; i++) {
      if (i === entriesShown) {
        this.words.push(`… ${count - i} more`);
        this.skip((count - i) * each.struct.size);
        return;
      }
      this.words.push("{");
      const whole = this.structure(each);
      this.words.push("}");
      if (!whole) return;
    }
  }

  /** Shows the rest as text, with what does not belong in a line made visible. */
  text(): void {
    if (this.left === 0) return;
    const part = this.#bytes.subarray(this.#at, this.#at + Math.min(this.left, textShown));
    let text = "";
    for (const byte of part) {
      if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
      else if (byte !== 0) text += `\\x${byte.toString(16).padStart(2, "0")}`;
    }
    const cut = this.declaredLeft > part.length ? `… (${this.declaredLeft} bytes)` : "";
    this.words.push(`${text}${cut}`);
    this.#at = this.#declared;
  }
}

type Body = (line: Line, isReply: boolean) => void;

/** The sparse mmap areas behind a region info, which are at its capability's place. */
function regionInfo(line: Line): void {
  const start = line.at;
  if (!line.structure(shapes.regionInfo)) return;
  const capOffset = line.view.getUint32(start + RegionInfo.offset.capOffset, true);
  if (line.left < SparseMmapCap.size || capOffset !== RegionInfo.size) return;
  const { id, nrAreas } = SparseMmapCap.get(line.view, line.at);
  if (id !== RegionCap.sparseMmap) return;
  line.skip(SparseMmapCap.size);
  line.words.push(`sparseMmap=${nrAreas}`);
  line.list(shapes.sparseArea, nrAreas);
}

function regionIoFds(line: Line): void {
  const start = line.at;
  if (!line.structure(shapes.regionIoFds)) return;
  const count = line.view.getUint32(start + RegionIoFds.offset.count, true);
  if (line.left > 0) line.list(shapes.ioEventfd, count);
}

function writeMulti(line: Line, isReply: boolean): void {
  const start = line.at;
  if (!line.structure(shapes.writeMulti) || isReply) return;
  line.list(shapes.writeMultiEntry, Number(line.view.getBigUint64(start, true)));
}

/** What a feature carries, by its number; the others are bytes. */
const featureBodies: Readonly<Record<number, Body>> = {
  [Feature.migration]: (line) => line.structure(shapes.migration),
  [Feature.migDeviceState]: (line) => line.structure(shapes.migState),
  [Feature.dmaLoggingStart](line) {
    const start = line.at;
    if (!line.structure(shapes.loggingControl)) return;
    const count = line.view.getUint32(start + DmaLoggingControl.offset.numRanges, true);
    line.list(shapes.loggingRange, count);
  },
  [Feature.dmaLoggingReport](line) {
    if (line.structure(shapes.loggingReport)) line.data("bitmap");
  },
  [OwnFeature.precopyInfo]: (line) => line.structure(shapes.precopyInfo),
  [OwnFeature.compatibility]: (line) => line.text(),
};

function deviceFeature(line: Line): void {
  const start = line.at;
  if (!line.structure(shapes.feature)) return;
  const word = line.view.getUint32(start + DeviceFeature.offset.flags, true);
  const { index } = FeatureFlags.unpack(word);
  const asked = FeatureFlags.describe((word & ~FeatureFlags.mask.index) >>> 0);
  line.words.push(`${asked} feature=${feature(index)}`);
  const body = featureBodies[index];
  if (line.left > 0) body?.(line, false);
  line.data("data");
}

const withData =
  (first: Shape): Body =>
  (line) => {
    if (line.structure(first)) line.data("data");
  };
/** Everything that a command or its reply carries. */
const bodies: Readonly<Record<number, Body>> = {
  [Command.version](line) {
    if (line.structure(shapes.version)) line.text();
  },
  [Command.dmaMap]: (line, isReply) => isReply || line.structure(shapes.dmaMap),
  [Command.dmaUnmap](line, isReply) {
    if (isReply && line.left === 0) return;
    if (!line.structure(shapes.dmaUnmap) || line.left === 0) return;
    if (line.structure(shapes.dmaUnmapBitmap)) line.data("bitmap");
  },
  [Command.deviceGetInfo]: (line) => line.structure(shapes.deviceInfo),
  [Command.deviceGetRegionInfo]: regionInfo,
  [Command.deviceGetRegionIoFds]: regionIoFds,
  [Command.deviceGetIrqInfo]: (line) => line.structure(shapes.irqInfo),
  [Command.deviceSetIrqs](line, isReply) {
    if (!isReply && line.structure(shapes.irqSet)) line.data("data");
  },
  [Command.regionRead]: withData(shapes.regionAccess),
  [Command.regionWrite]: withData(shapes.regionAccess),
  [Command.dmaRead]: withData(shapes.dmaAccess),
  [Command.dmaWrite]: withData(shapes.dmaAccess),
  [Command.deviceReset]: () => {},
  [Command.regionWriteMulti]: writeMulti,
  [Command.deviceFeature]: deviceFeature,
  [Command.migDataRead]: withData(shapes.migData),
  [OwnCommand.interrupt]: (line) => {
    line.list(shapes.interrupt, Math.floor(line.left / Interrupt.size));
  },
  [Command.migDataWrite]: (line, isReply) => isReply || withData(shapes.migData)(line, isReply),
};

/** How the message stands to its answer: nothing for a plain command. */
function kindOf(flagsWord: number, error: number): string | null {
  const { type, noReply, error: failed } = HeaderFlags.unpack(flagsWord);
  if (type === MessageType.reply) return failed ? `error ${errnoName(error)}` : "ok";
  if (type !== MessageType.command) return `type=${type}`;
  return noReply ? "no-reply" : null;
}

/**
 * Describes a message of which `bytes` is the front or all: way, command, id, then every field by
 * name, at most {@link previewBytes} of its data and the number of its descriptors.
 */
export function describeMessage(way: Way, bytes: Uint8Array, fdCount: number): string {
  const carried = fdCount === 0 ? [] : [`fds=${fdCount}`];
  if (bytes.length < Header.size) {
    const line = new Line(bytes, bytes.length, 0, [way, "no header"]);
    line.data("bytes");
    return [...line.words, ...carried].join(" ");
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = Header.get(view, 0);
  const words = [way as string, commandName(header.command), `#${header.messageId}`];
  const kind = kindOf(header.flags, header.error);
  if (kind !== null) words.push(kind);
  const unknown = (header.flags & ~HeaderFlags.all) >>> 0;
  if (unknown !== 0) words.push(`flags=${hex(unknown)}`);
  const line = new Line(bytes, header.messageSize, Header.size, words);
  if (header.messageSize < Header.size) words.push(`size=${header.messageSize} (too small)`);
  else if ((header.flags & HeaderFlags.mask.error) === 0) {
    bodies[header.command]?.(line, (header.flags & HeaderFlags.mask.type) === MessageType.reply);
  }
  if (header.messageSize >= Header.size && line.declaredLeft > 0) line.data("more");
  return [...words, ...carried].join(" ");
}
