import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { struct, u32, u53 } from "../base/struct.ts";

/** Named pieces of a device's state with their sizes in bytes, in the order that they lie. */
export type Sections = Readonly<Record<string, number>>;

/** Who a state belongs to. */
export interface StateIdentity {
  readonly vendor: number;
  readonly device: number;
  /** The model's own count of what its state means; a state of another version is refused. */
  readonly version: number;
}

/** What a state buffer begins with. */
export const StateHeader = struct("state header", 32, {
  magic: u32,
  /** Of this header and of how sections are laid. */
  format: u32,
  vendor: u32,
  device: u32,
  version: u32,
  /** FNV-1a of the sections' names, places and sizes. */
  layout: u32,
  /** Bytes of the whole buffer. */
  size: u53,
});

const magic = 0x79727266;
const format = 1;
/** A section starts at a multiple of this, a large one at a page, so that it can be mapped. */
const alignment = 64;
const pageBytes = 4096;

/** FNV-1a, 32 bits. */
function checksum(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return hash >>> 0;
}

const alignUp = (at: number, to: number): number => Math.ceil(at / to) * to;

/** One section at its place. */
export interface StateSection {
  readonly name: string;
  /** Byte offset in the buffer. */
  readonly at: number;
  readonly size: number;
}

/**
 * Everything of a device that migrates, laid out in one buffer by a table: to save a device is to
 * copy it. The buffer begins with a header that says whose it is, so that another device's, or
 * another version's, is refused before anything of it is believed.
 */
export class StateLayout<T extends Sections = Sections> {
  readonly identity: StateIdentity;
  readonly sections: readonly StateSection[];
  /** Bytes of the whole buffer. */
  readonly size: number;
  /** Name to byte offset. */
  readonly at: { readonly [K in keyof T]: number };
  readonly #checksum: number;

  constructor(identity: StateIdentity, sections: T) {
    this.identity = identity;
    let end: number = StateHeader.size;
    this.sections = Object.entries(sections).map(([name, size]) => {
      assert(Number.isInteger(size) && size >= 0, `state section ${name}: ${size} bytes`);
      const at = alignUp(end, size >= pageBytes ? pageBytes : alignment);
      end = at + size;
      return { name, at, size };
    });
    this.size = alignUp(end, alignment);
    this.at = Object.fromEntries(this.sections.map(({ name, at }) => [name, at])) as typeof this.at;
    this.#checksum = checksum(
      this.sections.map(({ name, at, size }) => `${name}@${at}+${size}`).join(" "),
    );
  }

  /** Writes the header to the buffer's start. */
  stamp(view: DataView): void {
    const { vendor, device, version } = this.identity;
    const layout = this.#checksum;
    StateHeader.set(view, 0, { magic, format, vendor, device, version, layout, size: this.size });
  }

  /**
   * Whether a buffer, at least its header, is of this layout: 0, or EINVAL for one of another
   * device, version or layout.
   */
  accepts(view: DataView): number {
    if (view.byteLength < StateHeader.size) return -errno.EINVAL;
    const header = StateHeader.get(view, 0);
    const { vendor, device, version } = this.identity;
    const same =
      header.magic === magic &&
      header.format === format &&
      header.vendor === vendor &&
      header.device === device &&
      header.version === version &&
      header.layout === this.#checksum &&
      header.size === this.size;
    return same ? 0 : -errno.EINVAL;
  }

  /** One line a section: name, place and size. */
  describe(): string[] {
    return this.sections.map(
      ({ name, at, size }) => `${name} at 0x${at.toString(16)}, ${size} bytes`,
    );
  }
}
