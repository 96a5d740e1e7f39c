/** What a server says about its device: DEVICE_GET_INFO and what follows from it. */
import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import type { IoEventfd, Irq, Region } from "../device/vfio-device.ts";
import { DeviceInfo, IrqInfo, RegionFlags, RegionInfo } from "../spec/vfio.ts";
import {
  Command,
  IoEventfdFlags,
  IoFdType,
  RegionIoFds,
  SubRegionIoEventfd,
} from "../spec/vfio-user.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import type { Connection } from "./connection.ts";
import { parseRegionInfo, type RegionReply, regionInfoBytesMax } from "./region-info.ts";

/** A device with more regions or interrupt indices than these is not believed. */
export const regionsMax = 128;
export const irqsMax = 64;
/** Ioeventfds of one region. */
export const ioEventfdsMax = 512;

const { mask } = RegionFlags;

/** What is known of a device before it is used. */
export interface RemoteInfo {
  readonly flags: number;
  readonly regions: readonly Region[];
  readonly irqs: readonly Irq[];
}

function unusable(peer: string, command: string, result: number): FerryError {
  return new FerryError(
    "device-unusable",
    `${peer} answered ${command} with ${errnoName(result)}, so its device cannot be used.`,
  );
}

/** Asks for a region once, with room for `argsz` bytes of answer. */
function askRegion(connection: Connection, index: number, argsz: number): RegionReply | number {
  const prepared = connection.prepare(RegionInfo.size);
  if (prepared < 0) return prepared;
  RegionInfo.set(connection.requestView, connection.requestAt, {
    argsz,
    flags: 0,
    index,
    capOffset: 0,
    size: 0,
    offset: 0,
  });
  const length = connection.call(Command.deviceGetRegionInfo, RegionInfo.size, argsz);
  if (length < 0) return length;
  return parseRegionInfo(connection.replyView, connection.replyAt, length, index);
}

/** Asks for a region, and again with enough room when the first answer was cut short. */
function readRegion(connection: Connection, index: number): Region | number {
  let reply = askRegion(connection, index, RegionInfo.size);
  if (typeof reply === "number") return reply;
  if (reply.argsz > RegionInfo.size) {
    if (reply.argsz > regionInfoBytesMax) return -errno.EPROTO;
    reply = askRegion(connection, index, reply.argsz);
    if (typeof reply === "number") return reply;
  }
  const { flags, size, mmapOffset, areas } = reply;
  const fd = connection.takeFds(1)[0] ?? -1;
  const mappable = fd >= 0 && (flags & mask.mmap) !== 0;
  if (!mappable) closeFd(fd);
  return {
    size,
    readable: (flags & mask.read) !== 0,
    writable: (flags & mask.write) !== 0,
    mmap: mappable ? { fd, offset: mmapOffset, areas } : null,
  };
}

function readIrq(connection: Connection, index: number): Irq | number {
  const prepared = connection.prepare(IrqInfo.size);
  if (prepared < 0) return prepared;
  const request = { argsz: IrqInfo.size, flags: 0, index, count: 0 };
  IrqInfo.set(connection.requestView, connection.requestAt, request);
  const length = connection.call(Command.deviceGetIrqInfo, IrqInfo.size, IrqInfo.size);
  if (length < 0) return length;
  if (length < IrqInfo.size) return -errno.EPROTO;
  const { flags, count } = IrqInfo.get(connection.replyView, connection.replyAt);
  return { flags, count };
}

/**
 * Asks for everything that a device says about itself; a {@link FerryError} names what it refused.
 */
export function readRemoteInfo(connection: Connection, peer: string): RemoteInfo {
  const prepared = connection.prepare(DeviceInfo.size);
  if (prepared < 0) throw unusable(peer, "DEVICE_GET_INFO", prepared);
  const request = { argsz: DeviceInfo.size, flags: 0, numRegions: 0, numIrqs: 0 };
  DeviceInfo.set(connection.requestView, connection.requestAt, request);
  const length = connection.call(Command.deviceGetInfo, DeviceInfo.size, DeviceInfo.size);
  if (length < DeviceInfo.size) {
    throw unusable(peer, "DEVICE_GET_INFO", length < 0 ? length : -errno.EPROTO);
  }
  const info = DeviceInfo.get(connection.replyView, connection.replyAt);
  if (info.numRegions > regionsMax || info.numIrqs > irqsMax) {
    throw unusable(peer, `DEVICE_GET_INFO (${info.numRegions} regions)`, -errno.EPROTO);
  }
  const regions: Region[] = [];
  for (let index = 0; index < info.numRegions; index++) {
    const region = readRegion(connection, index);
    if (typeof region === "number") {
      for (const { mmap } of regions) closeFd(mmap?.fd ?? -1);
      throw unusable(peer, `DEVICE_GET_REGION_INFO of region ${index}`, region);
    }
    regions.push(region);
  }
  const irqs: Irq[] = [];
  for (let index = 0; index < info.numIrqs; index++) {
    const irq = readIrq(connection, index);
    if (typeof irq === "number") throw unusable(peer, `DEVICE_GET_IRQ_INFO of ${index}`, irq);
    irqs.push(irq);
  }
  return { flags: info.flags, regions, irqs };
}

function askIoEventfds(connection: Connection, index: number, argsz: number): number {
  const prepared = connection.prepare(RegionIoFds.size);
  if (prepared < 0) return prepared;
  const request = { argsz, flags: 0, index, count: 0 };
  RegionIoFds.set(connection.requestView, connection.requestAt, request);
  const length = connection.call(Command.deviceGetRegionIoFds, RegionIoFds.size, argsz);
  return length >= 0 && length < RegionIoFds.size ? -errno.EPROTO : length;
}

/**
 * The ioeventfds of a region; their descriptors are the caller's, one each though entries may share
 * an eventfd. Entries of other kinds are left out. A server that has none, or refuses, has none.
 */
export function readIoEventfds(connection: Connection, index: number): IoEventfd[] {
  const first = askIoEventfds(connection, index, RegionIoFds.size);
  if (first < 0) return [];
  const { count } = RegionIoFds.get(connection.replyView, connection.replyAt);
  if (count === 0 || count > ioEventfdsMax) return [];
  const argsz = RegionIoFds.size + count * SubRegionIoEventfd.size;
  const length = askIoEventfds(connection, index, argsz);
  if (length < argsz) return [];
  const fds = connection.takeFds(connection.ours.maxMsgFds);
  const entries: IoEventfd[] = [];
  for (let i = 0; i < count; i++) {
    const at = connection.replyAt + RegionIoFds.size + i * SubRegionIoEventfd.size;
    const entry = SubRegionIoEventfd.get(connection.replyView, at);
    if (entry.type !== IoFdType.ioeventfd) continue;
    const shared = fds[entry.fdIndex];
    const exact = (entry.flags & IoEventfdFlags.mask.datamatch) !== 0;
    entries.push({
      offset: entry.offset,
      size: entry.size,
      fd: shared === undefined ? -1 : duplicate(shared),
      datamatch: exact ? entry.datamatch : null,
    });
  }
  for (const fd of fds) closeFd(fd);
  return entries;
}
