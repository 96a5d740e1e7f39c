import { assert } from "../base/assert.ts";
import * as k from "../sys/constants.ts";
import { addSeals, createMemfd, duplicate } from "../sys/descriptors.ts";
import { Window } from "../sys/window.ts";
import type { Mapping } from "./guest-memory.ts";

const pageBytes = 4096;

/**
 * Memory of this process that a device reaches by DMA of its own: a control function's, into which
 * it moves what migrates. It is a file, for devices in other processes, and has an address, so that
 * what lies in it can be sent from there.
 */
export class HostMemory {
  readonly size: number;
  readonly address: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #fd: number;

  /** `size` is in bytes, a multiple of the page size; it lives as long as the process. */
  constructor(size: number) {
    assert(size > 0 && size % pageBytes === 0, `host memory of ${size} bytes is no whole pages`);
    const fd = createMemfd("vfio-ferry-host-memory", size);
    const window = Window.reserve(size);
    assert(fd >= 0 && window !== null, `no host memory of ${size} bytes: ${fd}`);
    const laid = window.lay(fd, 0, size, true);
    const populated = laid === 0 ? window.populate(0, size, true) : laid;
    const seals = k.F_SEAL_SHRINK | k.F_SEAL_GROW | k.F_SEAL_SEAL;
    assert(populated === 0 && addSeals(fd, seals) === 0, `no host memory: ${populated}`);
    this.size = size;
    this.address = window.address;
    this.bytes = window.bytes;
    this.view = window.view;
    this.#fd = fd;
  }

  /** All of it at a device's address `iova`, for `mapDma`; the descriptor is the device's then. */
  mapping(iova: number): Mapping {
    const { size } = this;
    const rights = { readable: true, writable: true, mayMap: true };
    return { iova, size, ...rights, fd: duplicate(this.#fd), offset: 0 };
  }
}
