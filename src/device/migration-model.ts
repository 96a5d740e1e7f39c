import { errno } from "../base/errno.ts";
import { MigrationFlags, MigState } from "../spec/vfio.ts";
import { MigrationStates } from "./migration-states.ts";
import type { MigrationSink } from "./vfio-device.ts";

/** What of a device migrates: an image of always the same size. */
export interface MigrationImage {
  /** Bytes. */
  readonly size: number;
  /** Hands a part to a sink without a copy; it stays as it is until the device's next call. */
  lend(offset: number, length: number, sink: MigrationSink): void;
  copy(offset: number, length: number, bytes: Uint8Array, at: number): void;
  /** Makes room for what is going to arrive. */
  prepare(): void;
  /** Keeps a part that arrived, apart from the device; a negated errno when there is no room. */
  load(offset: number, bytes: Uint8Array, at: number, length: number): number;
  /** Whether a whole image that was loaded is of this device: 0 or a negated errno. */
  check(): number;
  /** Puts what was loaded into the device's place. */
  commit(): void;
  /** Forgets what was loaded, and gives its room back. */
  discard(): void;
}

/** What a device does for its migration states. */
export interface MigrationDevice {
  readonly image: MigrationImage;
  /** No DMA, no interrupt, no change from here on; what was in flight runs again after `start`. */
  stop(): void;
  start(): void;
  /** The image was replaced: takes it up. A negated errno when it makes no sense: it was reset. */
  restored(): number;
}

/** What PRE_COPY has still to send (`struct vfio_precopy_info`). */
export interface PendingBytes {
  /** What the other side needs before it makes sense to stop. */
  readonly initialBytes: number;
  /** What has changed since it was sent. */
  readonly dirtyBytes: number;
}

const states = new MigrationStates(MigrationFlags.mask.stopCopy | MigrationFlags.mask.preCopy);

/** Bytes of state that the model keeps. */
export const migrationBytes = 4;

/**
 * The states of VFIO's migration, version 2, over a device whose state is one image. The stream is
 * the image: once in PRE_COPY, where it may change behind the reader, and once in STOP_COPY; on the
 * other side the last one that is complete counts.
 */
export class MigrationModel {
  /** For FEATURE_MIGRATION: the states that the model has besides STOP, RUNNING and RESUMING. */
  readonly flags = states.flags;
  readonly #device: MigrationDevice;
  readonly #view: DataView;
  readonly #stateAt: number;
  /** Where in the image the stream is, read or written. */
  #at = 0;
  /** Images to be read from `#at` on, the first one partly. */
  #images = 0;
  /** Bytes that arrived since RESUMING was entered. */
  #arrived = 0;

  /** The state itself is kept in `migrationBytes` of `view` from `at`. */
  constructor(device: MigrationDevice, view: DataView, at: number) {
    this.#device = device;
    this.#view = view;
    this.#stateAt = at;
    this.#state = MigState.running;
  }

  get state(): MigState {
    return this.#state;
  }

  get #state(): MigState {
    return this.#view.getUint32(this.#stateAt, true) as MigState;
  }

  set #state(state: MigState) {
    this.#view.setUint32(this.#stateAt, state, true);
  }

  /** True while the device may do DMA, interrupt and change. */
  get running(): boolean {
    return this.#state === MigState.running || this.#state === MigState.preCopy;
  }

  /** Bytes that STOP_COPY would stream, or has still to stream. */
  get stopCopyBytes(): number {
    const { size } = this.#device.image;
    return this.#state === MigState.stopCopy ? this.#images * size - this.#at : size;
  }

  /**
   * The rest of the image that PRE_COPY sends. Nobody notes what changes behind the reader: that is
   * in what STOP_COPY sends, which is the whole image again.
   */
  get pending(): PendingBytes {
    const left = this.#images * this.#device.image.size - this.#at;
    return { initialBytes: this.#state === MigState.preCopy ? left : 0, dirtyBytes: 0 };
  }

  /**
   * Moves to a state by the shortest path. EINVAL for a state that the model does not have or
   * cannot reach; when a step fails the state is the last one reached, and the answer says why.
   */
  move(to: number): number {
    const path = states.path(this.#state, to);
    if (typeof path === "number") return path;
    for (const next of path) {
      const result = this.#step(next);
      if (result < 0) return result;
      this.#state = next;
    }
    return 0;
  }

  #step(to: MigState): number {
    switch (to) {
      case MigState.running:
        this.#device.image.discard();
        if (!this.running) this.#device.start();
        return 0;
      case MigState.preCopy:
        this.#begin(1);
        return 0;
      case MigState.stopCopy:
        this.#enterStopCopy();
        return 0;
      case MigState.resuming:
        this.#begin(0);
        this.#arrived = 0;
        this.#device.image.prepare();
        return 0;
      default:
        return this.#stop();
    }
  }

  #begin(images: number): void {
    this.#at = 0;
    this.#images = images;
  }

  /** An image that PRE_COPY has begun is sent to its end first: the other side counts on it. */
  #enterStopCopy(): void {
    const begun = this.#state === MigState.preCopy && this.#at > 0;
    if (this.running) this.#device.stop();
    if (begun) this.#images = 2;
    else this.#begin(1);
  }

  #stop(): number {
    if (this.running) this.#device.stop();
    return this.#state === MigState.resuming ? this.#takeUp() : 0;
  }

  /**
   * The end of RESUMING. A stream that does not end in a whole image of this device is refused and
   * forgotten: the state stays RESUMING, the device is as it was, and another stream can be sent.
   * When nothing was sent there is nothing to take up.
   */
  #takeUp(): number {
    const { image } = this.#device;
    if (this.#arrived === 0) return 0;
    const refused = this.#at === 0 ? image.check() : -errno.EINVAL;
    this.#arrived = 0;
    this.#at = 0;
    if (refused < 0) return refused;
    image.commit();
    const result = this.#device.restored();
    if (result < 0) this.#state = MigState.error;
    return result;
  }

  /** MIG_DATA_READ: how many bytes, fewer than `length` at the end; EINVAL in other states. */
  read(sink: MigrationSink, length: number): number {
    if (this.#state !== MigState.preCopy && this.#state !== MigState.stopCopy) {
      return -errno.EINVAL;
    }
    const { image } = this.#device;
    if (this.#images === 0 || length === 0) return 0;
    const rest = image.size - this.#at;
    if (length > rest && this.#images > 1) return this.#readOver(sink, rest, length);
    const count = Math.min(length, rest);
    image.lend(this.#at, count, sink);
    this.#advance(count);
    return count;
  }

  /** Reads over the seam of two images, of which a single loan cannot be made. */
  #readOver(sink: MigrationSink, rest: number, length: number): number {
    const { image } = this.#device;
    image.copy(this.#at, rest, sink.bytes, sink.at);
    this.#advance(rest);
    const more = Math.min(length - rest, image.size);
    image.copy(0, more, sink.bytes, sink.at + rest);
    this.#advance(more);
    return rest + more;
  }

  #advance(count: number): void {
    this.#at += count;
    if (this.#at < this.#device.image.size) return;
    this.#at = 0;
    this.#images -= 1;
  }

  /** MIG_DATA_WRITE: 0, or EINVAL in other states. The data is judged when RESUMING ends. */
  write(bytes: Uint8Array, at: number, length: number): number {
    if (this.#state !== MigState.resuming) return -errno.EINVAL;
    const { image } = this.#device;
    for (let done = 0; done < length; ) {
      const count = Math.min(length - done, image.size - this.#at);
      const result = image.load(this.#at, bytes, at + done, count);
      if (result < 0) return result;
      this.#at = (this.#at + count) % image.size;
      done += count;
    }
    this.#arrived += length;
    return 0;
  }

  /**
   * The state was replaced by a parked one: goes on running, or stays stopped. A copy that was
   * under way is not continued. EINVAL for a state that there is not.
   */
  takeUp(): number {
    const parked = this.#state;
    if (parked !== MigState.error && !states.has(parked)) return -errno.EINVAL;
    const runs = parked === MigState.running || parked === MigState.preCopy;
    if (!runs) this.#device.stop();
    if (parked !== MigState.error) this.#state = runs ? MigState.running : MigState.stop;
    this.#begin(0);
    return 0;
  }

  /** A device reset: RUNNING, whatever was. */
  reset(): void {
    this.#device.image.discard();
    if (!this.running) this.#device.start();
    this.#state = MigState.running;
    this.#begin(0);
  }
}
