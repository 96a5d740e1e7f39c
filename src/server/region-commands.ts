/** REGION_READ, REGION_WRITE, REGION_WRITE_MULTI: the hot ones. */
import { errno } from "../base/errno.ts";
import { readU53, writeU53 } from "../base/struct.ts";
import type { Region } from "../device/vfio-device.ts";
import { RegionAccess, RegionWriteMulti, RegionWriteMultiEntry } from "../spec/vfio-user.ts";
import { dataXferBytesMax } from "./limits.ts";
import type { Request } from "./request.ts";

const { offset: offsetAt, region: regionAt, count: countAt } = RegionAccess.offset;
const entry = RegionWriteMultiEntry.offset;
/** "each write is at most 8 bytes". */
const entryDataBytesMax = 8;

/** 0, or why `count` bytes at `offset` of a region cannot be accessed. */
function checkRange(region: Region | undefined, offset: number, count: number): number {
  if (region === undefined || count > dataXferBytesMax) return -errno.EINVAL;
  return offset + count > region.size ? -errno.EINVAL : 0;
}

/**
 * A device that fails a read answers all ones, as a bus does: a client may not survive an error.
 */
export function regionRead(request: Request): number {
  const { view, at, outbox, replyAt, device } = request;
  const offset = readU53(view, at + offsetAt);
  const index = view.getUint32(at + regionAt, true);
  const count = view.getUint32(at + countAt, true);
  const region = device.regions[index];
  const refused = checkRange(region, offset, count);
  if (refused !== 0) return refused;
  if (region?.readable !== true) return -errno.EINVAL;
  const reply = outbox.view;
  reply.setUint32(replyAt, view.getUint32(at, true), true);
  reply.setUint32(replyAt + 4, view.getUint32(at + 4, true), true);
  reply.setUint32(replyAt + regionAt, index, true);
  reply.setUint32(replyAt + countAt, count, true);
  const dataAt = replyAt + RegionAccess.size;
  if (count > 0 && device.read(index, offset, outbox.bytes, dataAt, count) < 0) {
    outbox.bytes.fill(0xff, dataAt, dataAt + count);
  }
  return RegionAccess.size + count;
}

/** REGION_WRITE. */
export function regionWrite(request: Request): number {
  const { view, at, length, outbox, replyAt, device } = request;
  const offset = readU53(view, at + offsetAt);
  const index = view.getUint32(at + regionAt, true);
  const count = view.getUint32(at + countAt, true);
  const region = device.regions[index];
  const refused = checkRange(region, offset, count);
  if (refused !== 0) return refused;
  if (region?.writable !== true || length !== RegionAccess.size + count) return -errno.EINVAL;
  if (count > 0) {
    const result = device.write(index, offset, request.bytes, at + RegionAccess.size, count);
    if (result < 0) return result;
  }
  const reply = outbox.view;
  reply.setUint32(replyAt, view.getUint32(at, true), true);
  reply.setUint32(replyAt + 4, view.getUint32(at + 4, true), true);
  reply.setUint32(replyAt + regionAt, index, true);
  reply.setUint32(replyAt + countAt, count, true);
  return RegionAccess.size;
}

/**
 * Writes in order and counts what was done. One that is refused keeps none of the others back: a
 * doorbell behind it must not get lost. Only when nothing was done is the answer an error.
 */
export function regionWriteMulti(request: Request): number {
  const { view, at, length, outbox, replyAt } = request;
  const count = readU53(view, at);
  if (length !== RegionWriteMulti.size + count * RegionWriteMultiEntry.size) return -errno.EINVAL;
  const end = at + length;
  let done = 0;
  let refused = 0;
  for (let from = at + RegionWriteMulti.size; from < end; from += RegionWriteMultiEntry.size) {
    const result = writeEntry(request, from);
    if (result < 0) refused = result;
    else done += 1;
  }
  if (done === 0 && refused < 0) return refused;
  writeU53(outbox.view, replyAt, done);
  return RegionWriteMulti.size;
}

function writeEntry({ view, bytes, device }: Request, at: number): number {
  const offset = readU53(view, at + entry.offset);
  const index = view.getUint32(at + entry.region, true);
  const count = view.getUint32(at + entry.count, true);
  const region = device.regions[index];
  if (count === 0 || count > entryDataBytesMax || region?.writable !== true) return -errno.EINVAL;
  const refused = checkRange(region, offset, count);
  return refused === 0 ? device.write(index, offset, bytes, at + entry.data, count) : refused;
}
