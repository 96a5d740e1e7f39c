/** DEVICE_FEATURE, MIG_DATA_READ, MIG_DATA_WRITE. */
import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { deferred, type MigrationSink } from "../device/vfio-device.ts";
import { DeviceFeature, FeatureFlags } from "../spec/vfio.ts";
import { MigData, OwnFeature } from "../spec/vfio-user.ts";
import { dataXferBytesMax } from "./limits.ts";
import type { Request } from "./request.ts";

const { mask } = FeatureFlags;

/**
 * The feature's data is served in place: the request's is copied to the reply, the answer
 * overwrites it. A set may be `deferred`; the session replies then when the device has its result.
 */
export function deviceFeature(request: Request): number {
  const { argsz, flags } = DeviceFeature.get(request.view, request.at);
  const dataBytes = request.length - DeviceFeature.size;
  const probe = (flags & mask.probe) !== 0;
  const get = (flags & mask.get) !== 0;
  const set = (flags & mask.set) !== 0;
  if (argsz < DeviceFeature.size || (flags & ~FeatureFlags.all) !== 0) return -errno.EINVAL;
  if (!probe && get === set) return -errno.EINVAL;
  if (set && !probe && argsz < request.length) return -errno.EINVAL;
  const { outbox, replyAt, device, peer } = request;
  const index = flags & mask.index;
  if (index === OwnFeature.precopyInfo && !peer.precopyInfo) return -errno.ENOTTY;
  if (index === OwnFeature.compatibility && !peer.irqMessages) return -errno.ENOTTY;
  const dataAt = replyAt + DeviceFeature.size;
  outbox.bytes.set(request.bytes.subarray(request.at, request.at + request.length), replyAt);
  const capacity = Math.min(argsz - DeviceFeature.size, dataXferBytesMax);
  const answered = device.feature(flags, outbox.bytes, dataAt, dataBytes, capacity);
  assert(answered !== deferred || (set && !probe), `${device.name} defers a feature that is read`);
  if (answered < 0) return answered;
  if (probe || set) return request.length;
  outbox.view.setUint32(replyAt, DeviceFeature.size + answered, true);
  return DeviceFeature.size + answered;
}

/** Where a device puts migration data: into the reply, or lent to be sent from where it lies. */
class ReplySink implements MigrationSink {
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  address = 0;
  lentBytes = 0;

  lend(address: number, length: number): void {
    this.address = address;
    this.lentBytes = length;
  }
}

const sink = new ReplySink();

/** MIG_DATA_READ: as much as there is, up to `size`. */
export function migDataRead(request: Request): number {
  const { argsz, size } = MigData.get(request.view, request.at);
  const limit = Math.min(dataXferBytesMax, request.peer.maxDataXferSize);
  if (size > limit || argsz < MigData.size + size) return -errno.EINVAL;
  const { outbox, replyAt } = request;
  sink.bytes = outbox.bytes;
  sink.at = replyAt + MigData.size;
  sink.lentBytes = 0;
  const got = request.device.readMigration(sink, size);
  if (got < 0) return got;
  outbox.view.setUint32(replyAt + MigData.offset.argsz, MigData.size + got, true);
  outbox.view.setUint32(replyAt + MigData.offset.size, got, true);
  if (sink.lentBytes === 0) return MigData.size + got;
  request.lentAddress = sink.address;
  request.lentBytes = sink.lentBytes;
  return MigData.size;
}

/** MIG_DATA_WRITE. */
export function migDataWrite(request: Request): number {
  const { size } = MigData.get(request.view, request.at);
  const limit = Math.min(dataXferBytesMax, request.peer.maxDataXferSize);
  if (size > limit || request.length !== MigData.size + size) return -errno.EINVAL;
  return request.device.writeMigration(request.bytes, request.at + MigData.size, size);
}
