import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { Window } from "../sys/window.ts";
import type { DeviceState } from "./device-state.ts";
import type { MigrationImage } from "./migration-model.ts";
import { StateHeader } from "./state-layout.ts";
import type { MigrationSink } from "./vfio-device.ts";

/**
 * A device's state buffer as the image that migrates. What arrives is staged apart, so that a stream
 * that is refused has changed nothing; it is refused at its header, before the rest is sent.
 */
export class StateImage implements MigrationImage {
  readonly size: number;
  readonly #state: DeviceState;
  #staging: Window | null = null;

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

  load(offset: number, bytes: Uint8Array, at: number, length: number): number {
    this.#staging ??= Window.reserve(this.size);
    if (this.#staging === null) return -errno.ENOMEM;
    this.#staging.bytes.set(bytes.subarray(at, at + length), offset);
    const complete = offset < StateHeader.size && offset + length >= StateHeader.size;
    return complete ? this.#state.layout.accepts(this.#staging.view) : 0;
  }

  commit(): void {
    assert(this.#staging !== null, "an image is committed that was not loaded");
    this.#state.bytes.set(this.#staging.bytes.subarray(0, this.size));
    this.discard();
  }

  discard(): void {
    this.#staging?.blank();
  }
}
