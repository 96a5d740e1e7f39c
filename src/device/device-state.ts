import { assert } from "../base/assert.ts";
import { Arena } from "../sys/arena.ts";
import * as k from "../sys/constants.ts";
import { addSeals, createMemfd } from "../sys/descriptors.ts";
import { mmap } from "../sys/libc.ts";
import type { Sections, StateLayout } from "./state-layout.ts";

/** Bytes of one device's state: below what Node 20 can show as one buffer. */
export const stateBytesMax = 2 ** 32 - 4096;

/** States from this size on lie in huge pages. */
const hugeFromBytes = 4 * 1_048_576;

const seals = k.F_SEAL_SHRINK | k.F_SEAL_GROW | k.F_SEAL_SEAL;

/**
 * The one buffer that holds everything of a device that migrates, at an address that does not
 * change. Sections that a client may map are files laid into it.
 */
export class DeviceState<T extends Sections = Sections> {
  readonly layout: StateLayout<T>;
  /** Address of the first byte. */
  readonly address: number;
  /** Exactly the layout's size. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;

  constructor(layout: StateLayout<T>) {
    assert(layout.size <= stateBytesMax, `a device state of ${layout.size} bytes`);
    const arena = new Arena(layout.size);
    if (layout.size >= hugeFromBytes) arena.useHugePages();
    this.layout = layout;
    this.address = arena.address;
    this.bytes = arena.bytes.subarray(0, layout.size);
    this.view = new DataView(this.bytes.buffer, 0, layout.size);
    layout.stamp(this.view);
  }

  /**
   * Puts a file under a section of whole pages and returns its descriptor: what a client that maps
   * it writes is written here. The file is sealed, so no client can take pages away from under us.
   */
  share(name: keyof T & string): number {
    const section = this.layout.sections.find((each) => each.name === name);
    assert(section !== undefined && section.size % 4096 === 0, `section ${name} cannot be shared`);
    const fd = createMemfd(`vfio-ferry-${name}`, section.size);
    assert(fd >= 0, `no memory for section ${name}: ${fd}`);
    const at = this.address + section.at;
    const protection = k.PROT_READ | k.PROT_WRITE;
    const laid = mmap(at, section.size, protection, k.MAP_SHARED | k.MAP_FIXED, fd, 0);
    assert(laid === at && addSeals(fd, seals) === 0, `section ${name} cannot be mapped: ${laid}`);
    return fd;
  }
}
