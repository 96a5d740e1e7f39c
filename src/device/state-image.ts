import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { Window } from "../sys/window.ts";
import type { DeviceState } from "./device-state.ts";
import type { MigrationImage } from "./migration-model.ts";
import type { MigrationSink } from "./vfio-device.ts";

/** So much room for an image is made present before it arrives; a larger one's as it comes. */
const preparedBytesMax = 2 ** 28;

/**
 * A device's state buffer as the image that migrates. What arrives is staged apart, so that a
 * stream that is refused has changed nothing.
 */
export class StateImage implements MigrationImage {
  readonly size: number;
  readonly #state: DeviceState;
  #staging: Window | null = null;
  #used = false;

  constructor(state: DeviceState) {
    this.#state = state;
    this.size = state.layout.size;
  }

  lend(offset: number, length: number, sink: MigrationSink): void {
    sink.lend(this.#state.address + offset, length);
  }

  copy(offset: number, length: number, bytes: Uint8Array, at: number): void {
    bytes.set(this.#state.bytes.subarray(offset, offset + length), at);
  }

  prepare(): void {
    this.#staging ??= Window.reserve(this.size);
    this.#staging?.useHugePages();
    this.#staging?.populate(0, Math.min(this.size, preparedBytesMax), true);
    this.#used = true;
  }

  load(offset: number, bytes: Uint8Array, at: number, length: number): number {
    if (this.#staging === null) return -errno.ENOMEM;
    this.#staging.bytes.set(bytes.subarray(at, at + length), offset);
    return 0;
  }

  check(): number {
    return this.#staging === null ? -errno.ENOMEM : this.#state.layout.accepts(this.#staging.view);
  }

  commit(): void {
    assert(this.#staging !== null, "an image is committed that was not loaded");
    this.#state.bytes.set(this.#staging.bytes.subarray(0, this.size));
  }

  discard(): void {
    if (this.#used) this.#staging?.blank();
    this.#used = false;
  }
}
