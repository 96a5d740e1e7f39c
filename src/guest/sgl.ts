import { SglEntry, SglHeader, sglEntriesMax } from "../spec/hisi-sgl.ts";
import type { DmaArea, DmaBuffer } from "./dma-area.ts";

/** Bytes of a piece: buffers of a kernel lie in pages that are not next to each other. */
const pieceBytes = 4096;

const noReserved = [0n, 0n, 0n, 0n, 0n];
const noPadding = [0, 0, 0];

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
  SglHeader.set(view, list.at, {
    nextDma: 0,
    entrySumInChain: count,
    entrySumInSgl: count,
    entryLengthInSgl: count,
    padding: 0,
    reserved: noReserved,
    nextVirtual: 0n,
  });
  for (let i = 0; i < count; i++) {
    SglEntry.set(view, list.at + SglHeader.size + i * SglEntry.size, {
      buffer: iova + i * step,
      pageControl: 0n,
      length: Math.min(step, size - i * step),
      padding: noPadding,
    });
  }
  return list.iova;
}
