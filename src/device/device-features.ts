import { bitmapBytes } from "../base/bitmap.ts";
import { errno } from "../base/errno.ts";
import { writeU53 } from "../base/struct.ts";
import { type LoggedRange, loggedRangesMax } from "../memory/dirty-log.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import {
  DmaLoggingControl,
  DmaLoggingRange,
  DmaLoggingReport,
  Feature,
  FeatureFlags,
  FeatureMigration,
  FeatureMigState,
  MigrationFlags,
  MigState,
  PrecopyInfo,
} from "../spec/vfio.ts";
import { OwnFeature } from "../spec/vfio-user.ts";
import type { MigrationModel, PendingBytes } from "./migration-model.ts";

const { mask: flag } = FeatureFlags;

/** Bytes of MIG_DATA_SIZE: `stop_copy_length`. */
const dataSizeBytes = 8;

/** What a feature can do, and the bytes that must be there for it. */
interface Rule {
  readonly get?: number;
  readonly set?: number;
}

const rules: Readonly<Record<number, Rule>> = {
  [Feature.migration]: { get: FeatureMigration.size },
  [Feature.migDeviceState]: { get: FeatureMigState.size, set: FeatureMigState.size },
  [Feature.migDataSize]: { get: dataSizeBytes },
  [Feature.dmaLoggingStart]: { set: DmaLoggingControl.size },
  [Feature.dmaLoggingStop]: { set: 0 },
  [Feature.dmaLoggingReport]: { get: DmaLoggingReport.size },
  [OwnFeature.precopyInfo]: { get: PrecopyInfo.size },
  [OwnFeature.compatibility]: { get: 0 },
};

/** What the features of migration are asked of. */
export interface MigrationFace
  extends Pick<MigrationModel, "flags" | "state" | "stopCopyBytes" | "move"> {
  /** Told in the PRE_COPY states, of a device that has them. */
  readonly pending?: PendingBytes;
  /** A JSON text: what a stream of ours says first of itself. */
  readonly compatibility?: string;
}

/** DEVICE_FEATURE of a device: its migration, and the log of what it writes to guest memory. */
export class DeviceFeatures {
  readonly #migration: MigrationFace;
  readonly #memory: GuestMemory;
  #bytes: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(this.#bytes.buffer);

  constructor(migration: MigrationFace, memory: GuestMemory) {
    this.#migration = migration;
    this.#memory = memory;
  }

  /** As `feature` of the device contract. */
  serve(flags: number, bytes: Uint8Array, at: number, length: number, capacity: number): number {
    const index = flags & flag.index;
    const rule = rules[index];
    const get = (flags & flag.get) !== 0;
    const set = (flags & flag.set) !== 0;
    if (rule === undefined || !this.#has(index)) return -errno.ENOTTY;
    if ((get && rule.get === undefined) || (set && rule.set === undefined)) return -errno.EINVAL;
    if ((flags & flag.probe) !== 0) return length;
    const view = this.#viewOf(bytes);
    if (set) {
      if (length < (rule.set ?? 0)) return -errno.EINVAL;
      const result = this.#set(index, view, at, length);
      return result < 0 ? result : length;
    }
    if (capacity < (rule.get ?? 0)) return -errno.EINVAL;
    if (index === OwnFeature.compatibility) return this.#tell(bytes, at, capacity);
    return index === Feature.dmaLoggingReport
      ? this.#report(view, bytes, at, length, capacity)
      : this.#get(index, view, at);
  }

  #has(index: number): boolean {
    if (index === OwnFeature.compatibility) return this.#migration.compatibility !== undefined;
    if (index !== OwnFeature.precopyInfo) return true;
    const { flags } = this.#migration;
    return (flags & MigrationFlags.mask.preCopy) !== 0 && "pending" in this.#migration;
  }

  #tell(bytes: Uint8Array, at: number, capacity: number): number {
    const text = new TextEncoder().encode(this.#migration.compatibility);
    if (text.length > capacity) return -errno.EINVAL;
    bytes.set(text, at);
    return text.length;
  }

  #viewOf(bytes: Uint8Array): DataView {
    if (this.#bytes !== bytes) {
      this.#bytes = bytes;
      this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    }
    return this.#view;
  }

  #get(index: number, view: DataView, at: number): number {
    switch (index) {
      case Feature.migration:
        FeatureMigration.set(view, at, { flags: this.#migration.flags });
        return FeatureMigration.size;
      case Feature.migDeviceState:
        FeatureMigState.set(view, at, { deviceState: this.#migration.state, dataFd: 0 });
        return FeatureMigState.size;
      case OwnFeature.precopyInfo:
        return this.#getPending(view, at);
      default:
        writeU53(view, at, this.#migration.stopCopyBytes);
        return dataSizeBytes;
    }
  }

  #getPending(view: DataView, at: number): number {
    const { state, pending } = this.#migration;
    const precopies = state === MigState.preCopy || state === MigState.preCopyP2p;
    if (!precopies || pending === undefined) return -errno.EINVAL;
    PrecopyInfo.set(view, at, { argsz: PrecopyInfo.size, flags: 0, ...pending });
    return PrecopyInfo.size;
  }

  #set(index: number, view: DataView, at: number, length: number): number {
    switch (index) {
      case Feature.migDeviceState:
        return this.#migration.move(FeatureMigState.get(view, at).deviceState);
      case Feature.dmaLoggingStart:
        return this.#startLogging(view, at, length);
      default:
        return this.#memory.loggingStop();
    }
  }

  #startLogging(view: DataView, at: number, length: number): number {
    const { pageSize, numRanges } = DmaLoggingControl.get(view, at);
    if (numRanges > loggedRangesMax) return -errno.E2BIG;
    if (length < DmaLoggingControl.size + numRanges * DmaLoggingRange.size) return -errno.EINVAL;
    const ranges: LoggedRange[] = [];
    for (let i = 0; i < numRanges; i++) {
      ranges.push(
        DmaLoggingRange.get(view, at + DmaLoggingControl.size + i * DmaLoggingRange.size),
      );
    }
    return this.#memory.loggingStart(pageSize, ranges);
  }

  /** The bitmap goes right behind the question. */
  #report(view: DataView, bytes: Uint8Array, at: number, length: number, capacity: number): number {
    if (length < DmaLoggingReport.size) return -errno.EINVAL;
    const { iova, length: span, pageSize } = DmaLoggingReport.get(view, at);
    const size = DmaLoggingReport.size + bitmapBytes(Math.ceil(span / pageSize));
    // Not `size > capacity`: without a page size it is no number.
    if (!(size <= capacity)) return -errno.EINVAL;
    const bitmapAt = at + DmaLoggingReport.size;
    const result = this.#memory.loggingReport(iova, span, pageSize, bytes, bitmapAt);
    return result < 0 ? result : size;
  }
}
