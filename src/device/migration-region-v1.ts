import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { readU53, writeU53 } from "../base/struct.ts";
import {
  DeviceStateV1,
  Feature,
  FeatureFlags,
  FeatureMigState,
  MigrationInfoV1,
  MigState,
  pciRegions,
} from "../spec/vfio.ts";
import { viewOf } from "../sys/libc.ts";
import { deferred, type MigrationSink, type Region, type VfioDevice } from "./vfio-device.ts";
import { Wrapper } from "./wrapper.ts";

/** Where the region is: behind those that every PCI device has. */
export const migrationRegion: number = pciRegions;
/** Bytes of the window that data goes through, behind the fields. */
export const windowBytes = 65_536;
/** Where the window starts, which is what `data_offset` always says. */
export const windowAt: number = MigrationInfoV1.size;
/** Turns that a device may take for one change of its state. */
export const settleTurnsMax = 1_000_000;

const { running, saving, resuming } = DeviceStateV1.mask;
const errorBits = saving | resuming;

/** The states of version 2 by the bits of version 1; other combinations are no states. */
const stateOf: ReadonlyMap<number, MigState> = new Map([
  [0, MigState.stop],
  [running, MigState.running],
  [saving, MigState.stopCopy],
  [running | saving, MigState.preCopy],
  [resuming, MigState.resuming],
]);

/** What version 1 calls a state of version 2; it does not know peer-to-peer. */
const bitsOf: Readonly<Record<number, number>> = {
  ...Object.fromEntries([...stateOf].map(([bits, state]) => [state, bits])),
  [MigState.runningP2p]: running,
  [MigState.preCopyP2p]: running | saving,
  [MigState.error]: errorBits,
};

/** A field of the region: its width, and what an access does; without `write` it is read-only. */
interface Field {
  readonly size: 4 | 8;
  read(): number;
  write?(value: number): number;
}

const absent: Region = { size: 0, readable: false, writable: false, mmap: null };

/**
 * The first migration API of VFIO over a device that has the second: a region with a few fields and
 * a window for data (`struct vfio_device_migration_info`). A field has one width and one meaning;
 * where the data lies and how much of it there is, the device says and nobody else. That the region
 * is of type 3, subtype 1, is a kernel's to say: vfio-user has no capability for it.
 */
export class MigrationRegionV1 extends Wrapper {
  /** As a sink, so that the device's data goes right into it. */
  readonly #window: MigrationSink = {
    bytes: new Uint8Array(windowBytes),
    at: 0,
    lend: (address, length) => this.#window.bytes.set(new Uint8Array(viewOf(address, length))),
  };
  readonly #regions: readonly Region[];
  readonly #word = new Uint8Array(FeatureMigState.size);
  readonly #view = new DataView(this.#word.buffer);
  /** Bytes of the window that the device has filled. */
  #staged = 0;
  /** The reader knows how many: the next look at `pending_bytes` asks for the next ones. */
  #taken = false;
  #owes = false;

  readonly #fields: ReadonlyMap<number, Field> = new Map<number, Field>([
    [
      MigrationInfoV1.offset.deviceState,
      { size: 4, read: () => bitsOf[this.#state] ?? errorBits, write: (bits) => this.#move(bits) },
    ],
    [MigrationInfoV1.offset.reserved, { size: 4, read: () => 0 }],
    [MigrationInfoV1.offset.pendingBytes, { size: 8, read: () => this.#pending() }],
    [MigrationInfoV1.offset.dataOffset, { size: 8, read: () => windowAt }],
    [
      MigrationInfoV1.offset.dataSize,
      { size: 8, read: () => this.#take(), write: (size) => this.#commit(size) },
    ],
  ]);

  constructor(inner: VfioDevice) {
    super(inner);
    assert(inner.regions.length <= migrationRegion, `${inner.name} has a region there already`);
    const others = Array.from({ length: migrationRegion }, (_, i) => inner.regions[i] ?? absent);
    const region = { size: windowAt + windowBytes, readable: true, writable: true, mmap: null };
    this.#regions = [...others, region];
  }

  override get regions(): readonly Region[] {
    return this.#regions;
  }

  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region !== migrationRegion) return super.read(region, offset, bytes, at, count);
    if (offset >= windowAt) return this.#readWindow(offset - windowAt, bytes, at, count);
    const value = this.#field(offset, count)?.read() ?? -errno.EINVAL;
    if (value < 0) return value;
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, count);
    if (count === 8) writeU53(view, 0, value);
    else view.setUint32(0, value, true);
    return 0;
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    if (region !== migrationRegion) return super.write(region, offset, bytes, at, count);
    if (offset >= windowAt) return this.#writeWindow(offset - windowAt, bytes, at, count);
    const view = new DataView(bytes.buffer, bytes.byteOffset + at, count);
    const field = this.#field(offset, count);
    if (field?.write === undefined) return -errno.EINVAL;
    return field.write(count === 8 ? readU53(view, 0) : view.getUint32(0, true));
  }

  /** The field that an access is about, if it is exactly one field's. */
  #field(offset: number, count: number): Field | undefined {
    const field = this.#fields.get(offset);
    return field?.size === count ? field : undefined;
  }

  /** Only what the device has put there can be read. */
  #readWindow(offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (offset + count > this.#staged) return -errno.EINVAL;
    bytes.set(this.#window.bytes.subarray(offset, offset + count), at);
    return 0;
  }

  #writeWindow(offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (offset + count > windowBytes || this.#state !== MigState.resuming) return -errno.EINVAL;
    this.#window.bytes.set(bytes.subarray(at, at + count), offset);
    return 0;
  }

  /** The device's own word for where it is, whoever has brought it there. */
  get #state(): MigState {
    const { size } = FeatureMigState;
    const flags = FeatureFlags.mask.get | Feature.migDeviceState;
    const result = this.inner.feature(flags, this.#word, 0, size, size);
    if (result < size) return MigState.error;
    return FeatureMigState.get(this.#view, 0).deviceState as MigState;
  }

  get #saves(): boolean {
    return ((bitsOf[this.#state] ?? errorBits) & errorBits) === saving;
  }

  /** EINVAL, and no effect, for bits that are no state, or none to be reached from here. */
  #move(bits: number): number {
    const to = stateOf.get(bits);
    if (to === undefined) return -errno.EINVAL;
    const saved = this.#saves;
    const result = this.#set(to);
    // What PRE_COPY has put into the window and nobody has read belongs to the stream still.
    if (!saved || !this.#saves) this.#drop();
    return Math.min(0, result);
  }

  #set(deviceState: MigState): number {
    if (this.#owes && this.#settled() === deferred) return -errno.EBUSY;
    const { size } = FeatureMigState;
    FeatureMigState.set(this.#view, 0, { deviceState, dataFd: -1 });
    const flags = FeatureFlags.mask.set | Feature.migDeviceState;
    const result = this.inner.feature(flags, this.#word, 0, size, size);
    this.#owes = result === deferred;
    return this.#owes ? this.#wait() : result;
  }

  /** There is no later answer to a register: the device takes its turns now, or it is too late. */
  #wait(): number {
    for (let turn = 0; turn < settleTurnsMax; turn++) {
      this.inner.work();
      const result = this.#settled();
      if (result !== deferred) return result;
    }
    return -errno.ETIMEDOUT;
  }

  #settled(): number {
    const result = this.inner.settle?.() ?? deferred;
    this.#owes = result === deferred;
    return result;
  }

  #drop(): void {
    this.#staged = 0;
    this.#taken = false;
  }

  /** A reader that has seen `data_size` and comes back for `pending_bytes` has its data. */
  #pending(): number {
    if (!this.#saves) return 0;
    if (this.#taken) this.#drop();
    if (this.#staged === 0) {
      const got = this.inner.readMigration(this.#window, windowBytes);
      if (got < 0) return got;
      this.#staged = got;
    }
    return this.#staged === 0 ? 0 : this.#staged + this.#left();
  }

  /** What STOP_COPY still has behind the window; PRE_COPY has no end that could be told. */
  #left(): number {
    if (this.#state !== MigState.stopCopy) return 0;
    const { size } = FeatureMigState;
    const flags = FeatureFlags.mask.get | Feature.migDataSize;
    const result = this.inner.feature(flags, this.#word, 0, size, size);
    return result < size ? 0 : readU53(this.#view, 0);
  }

  #take(): number {
    this.#taken = this.#staged > 0;
    return this.#staged;
  }

  /** In RESUMING: so many bytes from the window's start are the next of the stream. */
  #commit(size: number): number {
    if (this.#state !== MigState.resuming || size > windowBytes) return -errno.EINVAL;
    return Math.min(0, this.inner.writeMigration(this.#window.bytes, 0, size));
  }

  override reset(): number {
    this.#drop();
    return super.reset();
  }
}
