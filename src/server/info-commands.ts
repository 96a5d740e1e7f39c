/** DEVICE_GET_INFO, GET_REGION_INFO, GET_REGION_IO_FDS, GET_IRQ_INFO, DEVICE_RESET. */
import { errno } from "../base/errno.ts";
import type { IoEventfd, MmapArea, Region } from "../device/vfio-device.ts";
import {
  DeviceInfo,
  IrqInfo,
  RegionCap,
  RegionFlags,
  RegionInfo,
  SparseMmapArea,
  SparseMmapCap,
} from "../spec/vfio.ts";
import {
  IoEventfdFlags,
  IoFdType,
  noFdIndex,
  RegionIoFds,
  SubRegionIoEventfd,
} from "../spec/vfio-user.ts";
import { dataXferBytesMax } from "./limits.ts";
import type { Request } from "./request.ts";

/** DEVICE_GET_INFO. */
export function deviceGetInfo(request: Request): number {
  const { argsz } = DeviceInfo.get(request.view, request.at);
  if (argsz < DeviceInfo.size) return -errno.EINVAL;
  const { flags, regions, irqs } = request.device;
  DeviceInfo.set(request.outbox.view, request.replyAt, {
    argsz: DeviceInfo.size,
    flags,
    numRegions: regions.length,
    numIrqs: irqs.length,
  });
  return DeviceInfo.size;
}

function regionFlags(region: Region): number {
  const { mask } = RegionFlags;
  return (
    (region.readable ? mask.read : 0) |
    (region.writable ? mask.write : 0) |
    (region.mmap === null ? 0 : mask.mmap) |
    (region.mmap?.areas ? mask.caps : 0)
  );
}

/**
 * The region, and its mappable parts if the client has room for them. A client with too little room
 * learns the size that it needs; QEMU also wants to see the capability's offset then.
 */
export function deviceGetRegionInfo(request: Request): number {
  const { argsz, index } = RegionInfo.get(request.view, request.at);
  const region = request.device.regions[index];
  if (argsz < RegionInfo.size || region === undefined) return -errno.EINVAL;
  const areas = region.mmap?.areas ?? [];
  const capBytes = areas.length === 0 ? 0 : SparseMmapCap.size + areas.length * SparseMmapArea.size;
  const needed = RegionInfo.size + capBytes;
  RegionInfo.set(request.outbox.view, request.replyAt, {
    argsz: needed,
    flags: regionFlags(region),
    index,
    capOffset: capBytes === 0 ? 0 : RegionInfo.size,
    size: region.size,
    offset: region.mmap?.offset ?? 0,
  });
  if (argsz < needed) return RegionInfo.size;
  if (capBytes > 0) writeAreas(request, areas);
  if (region.mmap !== null) request.replyFds = [region.mmap.fd];
  return needed;
}

function writeAreas({ outbox, replyAt }: Request, areas: readonly MmapArea[]): void {
  const at = replyAt + RegionInfo.size;
  SparseMmapCap.set(outbox.view, at, {
    id: RegionCap.sparseMmap,
    version: 1,
    next: 0,
    nrAreas: areas.length,
    reserved: 0,
  });
  for (const [i, area] of areas.entries()) {
    SparseMmapArea.set(outbox.view, at + SparseMmapCap.size + i * SparseMmapArea.size, area);
  }
}

/** DEVICE_GET_REGION_IO_FDS. */
export function deviceGetRegionIoFds(request: Request): number {
  const { argsz, flags, index, count } = RegionIoFds.get(request.view, request.at);
  const region = request.device.regions[index];
  if (argsz < RegionIoFds.size || argsz > dataXferBytesMax) return -errno.EINVAL;
  if (flags !== 0 || count !== 0 || region === undefined || region.size === 0) {
    return -errno.EINVAL;
  }
  const entries = request.device.ioEventfds(index);
  const fds = [...new Set(entries.map(({ fd }) => fd).filter((fd) => fd >= 0))];
  if (fds.length > request.peer.maxMsgFds) return -errno.E2BIG;
  const needed = RegionIoFds.size + entries.length * SubRegionIoEventfd.size;
  RegionIoFds.set(request.outbox.view, request.replyAt, {
    argsz: needed,
    flags: 0,
    index,
    count: entries.length,
  });
  if (argsz < needed) return RegionIoFds.size;
  for (const [i, each] of entries.entries()) writeIoEventfd(request, i, each, fds);
  if (fds.length > 0) request.replyFds = fds;
  return needed;
}

function writeIoEventfd(
  { outbox, replyAt }: Request,
  place: number,
  { offset, size, fd, datamatch }: IoEventfd,
  fds: readonly number[],
): void {
  const at = replyAt + RegionIoFds.size + place * SubRegionIoEventfd.size;
  SubRegionIoEventfd.set(outbox.view, at, {
    offset,
    size,
    fdIndex: fd < 0 ? noFdIndex : fds.indexOf(fd),
    type: IoFdType.ioeventfd,
    flags: datamatch === null ? 0 : IoEventfdFlags.mask.datamatch,
    padding: 0,
    datamatch: datamatch ?? 0n,
  });
}

/** DEVICE_GET_IRQ_INFO. */
export function deviceGetIrqInfo(request: Request): number {
  const { argsz, index } = IrqInfo.get(request.view, request.at);
  const irq = request.device.irqs[index];
  if (argsz < IrqInfo.size || irq === undefined) return -errno.EINVAL;
  IrqInfo.set(request.outbox.view, request.replyAt, {
    argsz: IrqInfo.size,
    flags: irq.flags,
    index,
    count: irq.count,
  });
  return IrqInfo.size;
}

/** DEVICE_RESET. */
export const deviceReset = (request: Request): number => request.device.reset();
