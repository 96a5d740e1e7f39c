/** The reply to DEVICE_GET_REGION_INFO, as a server may have sent it: anything. */
import { errno } from "../base/errno.ts";
import type { MmapArea } from "../device/vfio-device.ts";
import { RegionCap, RegionFlags, RegionInfo, SparseMmapArea, SparseMmapCap } from "../spec/vfio.ts";

/** The longest region info that is asked for: 1021 sparse areas. */
export const regionInfoBytesMax = 16_384;
/** Capabilities of one region. */
export const capabilitiesMax = 32;

/** A region as its server describes it. */
export interface RegionReply {
  /** Bytes that the whole answer needs; more than it has when it was cut short. */
  readonly argsz: number;
  readonly size: number;
  readonly flags: number;
  /** Where the region starts in the descriptor that came along. */
  readonly mmapOffset: number;
  /** The parts that may be mapped; null when there is no list of them. */
  readonly areas: readonly MmapArea[] | null;
}

/** The areas of a sparse mmap capability, or EPROTO for one that does not hold together. */
function sparseAreas(
  view: DataView,
  at: number,
  length: number,
  size: number,
): MmapArea[] | number {
  if (length < SparseMmapCap.size) return -errno.EPROTO;
  const { nrAreas } = SparseMmapCap.get(view, at);
  if (nrAreas > (length - SparseMmapCap.size) / SparseMmapArea.size) return -errno.EPROTO;
  const areas: MmapArea[] = [];
  for (let i = 0; i < nrAreas; i++) {
    const area = SparseMmapArea.get(view, at + SparseMmapCap.size + i * SparseMmapArea.size);
    if (area.size > size || area.offset > size - area.size) return -errno.EPROTO;
    areas.push(area);
  }
  return areas;
}

/** Walks the capability chain, which only goes forward, for the sparse mmap capability. */
function findAreas(
  view: DataView,
  at: number,
  length: number,
  capOffset: number,
  size: number,
): MmapArea[] | number | null {
  let offset = capOffset;
  for (let i = 0; i < capabilitiesMax && offset !== 0; i++) {
    if (offset < RegionInfo.size || offset + 8 > length || offset % 4 !== 0) return -errno.EPROTO;
    const id = view.getUint16(at + offset + SparseMmapCap.offset.id, true);
    if (id === RegionCap.sparseMmap) return sparseAreas(view, at + offset, length - offset, size);
    const next = view.getUint32(at + offset + SparseMmapCap.offset.next, true);
    if (next !== 0 && next <= offset) return -errno.EPROTO;
    offset = next;
  }
  return offset === 0 ? null : -errno.EPROTO;
}

/** Decodes `length` bytes of payload that describe region `index`, or EPROTO. */
export function parseRegionInfo(
  view: DataView,
  at: number,
  length: number,
  index: number,
): RegionReply | number {
  if (length < RegionInfo.size) return -errno.EPROTO;
  const info = RegionInfo.get(view, at);
  if (info.index !== index || info.argsz < RegionInfo.size) return -errno.EPROTO;
  if (!Number.isSafeInteger(info.size) || !Number.isSafeInteger(info.offset)) return -errno.EPROTO;
  const described = (info.flags & RegionFlags.mask.caps) !== 0 && info.argsz <= length;
  const areas = described ? findAreas(view, at, length, info.capOffset, info.size) : null;
  if (typeof areas === "number") return areas;
  const { argsz, size, flags, offset } = info;
  return { argsz, size, flags, mmapOffset: offset, areas };
}
