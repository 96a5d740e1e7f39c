/** DMA_MAP and DMA_UNMAP. */
import { errno } from "../base/errno.ts";
import { writeU53 } from "../base/struct.ts";
import { DmaLoggingReport, Feature, FeatureFlags } from "../spec/vfio.ts";
import { DmaMap, DmaMapFlags, DmaUnmap, DmaUnmapBitmap, DmaUnmapFlags } from "../spec/vfio-user.ts";
import { dataXferBytesMax } from "./limits.ts";
import type { Request } from "./request.ts";

const { mask } = DmaMapFlags;

/** DMA_MAP, with a file or, for access by messages, without one. */
export function dmaMap(request: Request): number {
  const { argsz, flags, offset, address, size } = DmaMap.get(request.view, request.at);
  const fd = request.fds[0] ?? -1;
  const wantsFile = (flags & (mask.mmap | mask.fileIo)) !== 0;
  if (argsz < DmaMap.size || (flags & ~DmaMapFlags.all) !== 0) return -errno.EINVAL;
  if (request.fds.length > 1 || (wantsFile && fd < 0)) return -errno.EINVAL;
  if (size === 0 || !Number.isSafeInteger(address + size)) return -errno.EINVAL;
  const result = request.device.mapDma({
    iova: address,
    size,
    readable: (flags & mask.read) !== 0,
    writable: (flags & mask.write) !== 0,
    fd,
    offset,
    mayMap: !wantsFile || (flags & mask.mmap) !== 0,
  });
  if (result < 0) return result;
  request.fds = [];
  return 0;
}

/** DMA_UNMAP: one mapping, all of them, or with its dirty pages. */
export function dmaUnmap(request: Request): number {
  const { argsz, flags, address, size } = DmaUnmap.get(request.view, request.at);
  if (argsz < DmaUnmap.size || argsz > dataXferBytesMax) return -errno.EINVAL;
  request.echo(0, DmaUnmap.size);
  switch (flags) {
    case 0:
      return unmapOne(request, address, size);
    case DmaUnmapFlags.mask.all:
      if (address !== 0 || size !== 0) return -errno.EINVAL;
      return request.device.unmapAllDma() || DmaUnmap.size;
    case DmaUnmapFlags.mask.getDirtyBitmap:
      return unmapWithBitmap(request, argsz, address, size);
    default:
      return -errno.EINVAL;
  }
}

const unmapOne = (request: Request, address: number, size: number): number =>
  request.device.unmapDma(address, size) || DmaUnmap.size;

/** The bitmap of what the device wrote, taken before the mapping goes. */
function unmapWithBitmap(request: Request, argsz: number, address: number, size: number): number {
  const head = DmaUnmap.size + DmaUnmapBitmap.size;
  if (request.length < head) return -errno.EINVAL;
  const { pageSize, size: bitmapBytes } = DmaUnmapBitmap.get(
    request.view,
    request.at + DmaUnmap.size,
  );
  if (head + bitmapBytes > argsz) return -errno.EINVAL;
  const { outbox, replyAt } = request;
  const reportAt = replyAt + head - DmaLoggingReport.size;
  writeU53(outbox.view, reportAt + DmaLoggingReport.offset.iova, address);
  writeU53(outbox.view, reportAt + DmaLoggingReport.offset.length, size);
  writeU53(outbox.view, reportAt + DmaLoggingReport.offset.pageSize, pageSize);
  const flags = FeatureFlags.mask.get | Feature.dmaLoggingReport;
  const capacity = DmaLoggingReport.size + bitmapBytes;
  const { device } = request;
  const reported = device.feature(flags, outbox.bytes, reportAt, DmaLoggingReport.size, capacity);
  if (reported < 0) return -errno.EINVAL;
  const result = device.unmapDma(address, size);
  if (result < 0) return result;
  request.echo(0, head);
  outbox.bytes.fill(0, reportAt + reported, replyAt + head + bitmapBytes);
  return head + bitmapBytes;
}
