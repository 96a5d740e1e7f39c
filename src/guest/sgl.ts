import { writeU53 } from "../base/struct.ts";
import { SglEntry, SglHeader, sglEntriesMax } from "../spec/hisi-sgl.ts";
import type { DmaArea, DmaBuffer } from "./dma-area.ts";

/** Bytes of a piece: buffers of a kernel lie in pages that are not next to each other. */
const pieceBytes = 4096;

/** Bytes of memory that a list takes for a buffer of `size` bytes. */
export const sglBytes = (size: number): number =>
  SglHeader.size + Math.max(1, Math.ceil(size / pieceLength(size))) * SglEntry.size;

/** As long as is needed for the list not to be too long. */
const pieceLength = (size: number): number =>
  Math.max(pieceBytes, Math.ceil(size / sglEntriesMax / pieceBytes) * pieceBytes);

/** Describes a buffer as a scatter-gather list of pages: the list's address. */
export function writeSgl(memory: DmaArea, { iova, size }: DmaBuffer): number {
  const step = pieceLength(size);
  const count = Math.max(1, Math.ceil(size / step));
  const list = memory.allocate(sglBytes(size));
  const { view } = memory.ram;
  const { entrySumInChain, entrySumInSgl, entryLengthInSgl } = SglHeader.offset;
  view.setUint16(list.at + entrySumInChain, count, true);
  view.setUint16(list.at + entrySumInSgl, count, true);
  view.setUint16(list.at + entryLengthInSgl, count, true);
  for (let i = 0; i < count; i++) {
    const at = list.at + SglHeader.size + i * SglEntry.size;
    writeU53(view, at + SglEntry.offset.buffer, iova + i * step);
    view.setUint32(at + SglEntry.offset.length, Math.min(step, size - i * step), true);
  }
  return list.iova;
}
