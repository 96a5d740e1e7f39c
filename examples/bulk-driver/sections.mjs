// What the driver's streams consist of.
import { struct, u32, u53 } from "vfio-ferry";
import { BulkFunctionState, bulkPageBytes } from "vfio-ferry/devices/bulk";
import { headRoom, slotBytes } from "./control.mjs";

/** Of the layouts below. */
export const version = 1;
/** Pages that one section holds. */
export const pagesMax = (slotBytes - headRoom) / bulkPageBytes;

/** Kinds of sections; 0x100 is the first that is a driver's own. */
export const Kind = {
  /** First, once: what the pages are of. A `Board`. */
  board: 0x100,
  /** Pages that are not zero, behind their `Place`. */
  pages: 0x101,
  /** Pages that are zero: a `Place` and nothing else. */
  zeroes: 0x102,
  /** Last, once: a `BulkFunctionState` behind a `Tail`. */
  function: 0x103,
};

export const names = Object.fromEntries(Object.entries(Kind).map(([name, kind]) => [kind, name]));

export const Board = struct("bulk board", 16, { memoryBytes: u53, pageBytes: u32, reserved: u32 });
export const Place = struct("bulk place", 16, { offset: u53, length: u53 });
export const Tail = struct("bulk tail", 8, { sections: u32, reserved: u32 });

/** Bytes of each kind at least and at most. */
const sizes = {
  [Kind.board]: [Board.size, Board.size],
  [Kind.pages]: [Place.size + bulkPageBytes, Place.size + pagesMax * bulkPageBytes],
  [Kind.zeroes]: [Place.size, Place.size],
  [Kind.function]: [Tail.size + BulkFunctionState.size, Tail.size + BulkFunctionState.size],
};

/** A section of ours around some bytes. */
export const section = (kind, { bytes, address = 0 }) => ({
  kind,
  version,
  optional: false,
  bytes,
  address,
});

/** A view of a section's head. */
export const headOf = (bytes) => new DataView(bytes.buffer, bytes.byteOffset, bytes.length);

/** Why a section can be none of ours; null when it can. */
export function checkShape(section) {
  const [least, most] = sizes[section.kind];
  const { length } = section.bytes;
  if (section.version !== version) {
    return `its version is ${section.version}; ${version} can be read here`;
  }
  return length < least || length > most ? `it has ${length} bytes, not ${least} to ${most}` : null;
}

/** Why a place cannot be one on a board of `memoryBytes`; null when it can. */
export function checkPlace({ offset, length }, memoryBytes) {
  if (offset % bulkPageBytes !== 0) return `offset ${offset} is not at a page's start`;
  if (length === 0 || length % bulkPageBytes !== 0) return `length ${length} is no whole pages`;
  if (length > memoryBytes || offset > memoryBytes - length) {
    return `offset ${offset} and length ${length} lead beyond the board's ${memoryBytes} bytes`;
  }
  return null;
}
