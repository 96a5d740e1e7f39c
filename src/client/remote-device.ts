import { errno } from "../base/errno.ts";
import { writeU53 } from "../base/struct.ts";
import type { PendingBytes } from "../device/migration-model.ts";
import type {
  DmaMapping,
  IoEventfd,
  Irq,
  IrqRequest,
  MigrationSink,
  Region,
  VfioDevice,
  Watch,
  Wiring,
} from "../device/vfio-device.ts";
import { addressEnd } from "../memory/dma-map.ts";
import type { MessageDma } from "../memory/transfer.ts";
import { DeviceFeature, FeatureFlags, IrqSet, IrqSetFlags, PrecopyInfo } from "../spec/vfio.ts";
import {
  Command,
  DmaMap,
  DmaMapFlags,
  DmaUnmap,
  DmaUnmapFlags,
  MigData,
  OwnFeature,
  RegionAccess,
  RegionWriteMulti,
  RegionWriteMultiEntry,
} from "../spec/vfio-user.ts";
import { SCM_MAX_FD } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import type { Connection } from "./connection.ts";
import { MemoryPort } from "./memory-port.ts";
import { readIoEventfds, readRemoteInfo } from "./remote-info.ts";

const noFds: readonly number[] = [];
/** What takes every eventfd of an index away. */
const disable: IrqRequest = {
  index: 0,
  start: 0,
  count: 0,
  data: IrqSetFlags.mask.dataNone,
  action: IrqSetFlags.mask.actionTrigger,
  bytes: new Uint8Array(0),
  boolsAt: 0,
  fds: noFds,
};
/** Up to here a loop over the bytes is faster than a view and a copy, and allocates nothing. */
const loopBytes = 32;

/** One write of a REGION_WRITE_MULTI: 1 to 8 bytes, little-endian in `data`. */
export interface RegionWrite {
  readonly region: number;
  readonly offset: number;
  readonly count: number;
  readonly data: bigint;
}

function copy(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  to: number,
  count: number,
): void {
  if (count > loopBytes) target.set(source.subarray(from, from + count), to);
  else for (let i = 0; i < count; i++) target[to + i] = source[from + i] as number;
}

/**
 * A device behind a vfio-user socket. Whoever drives it needs not know: every call is one exchange
 * of messages, or several when the data is larger than a message may be. It serves the server's DMA
 * from the mappings' files, and carries it on to `attach`'s messages where there is no file.
 */
export class RemoteDevice implements VfioDevice {
  readonly name: string;
  readonly flags: number;
  readonly regions: readonly Region[];
  readonly irqs: readonly Irq[];
  readonly watches: readonly Watch[];
  readonly state = null;
  readonly connection: Connection;
  readonly #port: MemoryPort;

  /** Asks a negotiated connection for its device; a FerryError says why it cannot be used. */
  constructor(connection: Connection, name: string, port = new MemoryPort()) {
    this.#port = port;
    const { flags, regions, irqs } = readRemoteInfo(connection, name);
    this.connection = connection;
    this.name = name;
    this.flags = flags;
    this.regions = regions;
    this.irqs = irqs;
    const fds = connection.twinFd < 0 ? [connection.fd] : [connection.fd, connection.twinFd];
    this.watches = fds.map((fd) => ({ fd, ready: () => void connection.poll() }));
    connection.dma = this.#port;
  }

  read(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    const { connection } = this;
    for (let done = 0; done < count || done === 0; ) {
      const piece = Math.min(count - done, connection.dataBytesMax);
      const prepared = this.#prepareAccess(region, offset + done, piece, 0);
      if (prepared < 0) return prepared;
      const expected = RegionAccess.size + piece;
      const length = connection.call(Command.regionRead, RegionAccess.size, expected);
      if (length < 0) return length;
      if (piece === 0) return 0;
      if (length !== expected) return -errno.EPROTO;
      const from = connection.replyAt + RegionAccess.size;
      copy(connection.replyBytes, from, bytes, at + done, piece);
      done += piece;
    }
    return count;
  }

  write(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    const { connection } = this;
    for (let done = 0; done < count || done === 0; ) {
      const piece = Math.min(count - done, connection.dataBytesMax);
      const prepared = this.#prepareWrite(region, offset + done, bytes, at + done, piece);
      if (prepared < 0) return prepared;
      const sent = RegionAccess.size + piece;
      const length = connection.call(Command.regionWrite, sent, RegionAccess.size);
      if (length < 0) return length;
      if (piece === 0) return 0;
      done += piece;
    }
    return count;
  }

  /**
   * Writes at most one message of data without waiting for an answer: `count` or a negated errno.
   */
  post(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (count > this.connection.dataBytesMax) return -errno.E2BIG;
    const prepared = this.#prepareWrite(region, offset, bytes, at, count);
    if (prepared < 0) return prepared;
    const posted = this.connection.post(Command.regionWrite, RegionAccess.size + count);
    return posted < 0 ? posted : count;
  }

  #prepareWrite(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    const { connection } = this;
    const prepared = this.#prepareAccess(region, offset, count, count);
    if (prepared < 0) return prepared;
    const target = connection.requestAt + RegionAccess.size;
    copy(bytes, at, connection.requestBytes, target, count);
    return 0;
  }

  #prepareAccess(region: number, offset: number, count: number, dataBytes: number): number {
    const { connection } = this;
    const prepared = connection.prepare(RegionAccess.size + dataBytes);
    if (prepared < 0) return prepared;
    const view = connection.requestView;
    const at = connection.requestAt;
    writeU53(view, at + RegionAccess.offset.offset, offset);
    view.setUint32(at + RegionAccess.offset.region, region, true);
    view.setUint32(at + RegionAccess.offset.count, count, true);
    return 0;
  }

  /** Several small writes in one message: how many were done, EOPNOTSUPP where it cannot. */
  writeMultiple(writes: readonly RegionWrite[]): number {
    const { connection } = this;
    if (!connection.server.writeMultiple) return -errno.EOPNOTSUPP;
    const length = RegionWriteMulti.size + writes.length * RegionWriteMultiEntry.size;
    if (length > connection.dataBytesMax) return -errno.E2BIG;
    const prepared = connection.prepare(length);
    if (prepared < 0) return prepared;
    const { requestView: view, requestAt: at } = connection;
    RegionWriteMulti.set(view, at, { count: writes.length });
    for (const [i, write] of writes.entries()) {
      const place = at + RegionWriteMulti.size + i * RegionWriteMultiEntry.size;
      RegionWriteMultiEntry.set(view, place, write);
    }
    const result = connection.call(Command.regionWriteMulti, length, RegionWriteMulti.size);
    if (result < 0) return result;
    if (result < RegionWriteMulti.size) return -errno.EPROTO;
    return RegionWriteMulti.get(connection.replyView, connection.replyAt).count;
  }

  ioEventfds(region: number): readonly IoEventfd[] {
    return readIoEventfds(this.connection, region);
  }

  setIrqs(request: IrqRequest): number {
    const result = this.#setIrqs(request);
    for (const fd of request.fds) closeFd(fd);
    return result;
  }

  /** Eventfds go in pieces of as many as the server takes at once. */
  #setIrqs(request: IrqRequest): number {
    const { fds, count, start } = request;
    if (fds.length === 0) return this.#setSomeIrqs(request, start, count, noFds);
    const step = Math.min(this.connection.server.maxMsgFds, SCM_MAX_FD);
    if (step === 0) return -errno.EOPNOTSUPP;
    for (let done = 0; done < fds.length; done += step) {
      const piece = fds.slice(done, done + step);
      const result = this.#setSomeIrqs(request, start + done, piece.length, piece);
      if (result < 0) return result;
    }
    return 0;
  }

  #setSomeIrqs(request: IrqRequest, start: number, count: number, fds: readonly number[]): number {
    const { connection } = this;
    const { index, data, action, bytes, boolsAt } = request;
    const bools = (data & IrqSetFlags.mask.dataBool) === 0 ? 0 : count;
    const length = IrqSet.size + bools;
    const prepared = connection.prepare(length);
    if (prepared < 0) return prepared;
    const { requestView: view, requestAt: at } = connection;
    IrqSet.set(view, at, { argsz: length, flags: data | action, index, start, count });
    copy(bytes, boolsAt, connection.requestBytes, at + IrqSet.size, bools);
    return Math.min(0, connection.call(Command.deviceSetIrqs, length, IrqSet.size, fds));
  }

  mapDma(mapping: DmaMapping): number {
    const { connection } = this;
    const { iova, size, readable, writable, fd, offset, mayMap } = mapping;
    const prepared = connection.prepare(DmaMap.size);
    if (prepared < 0) return prepared;
    const sent = fd >= 0 && connection.server.maxMsgFds > 0;
    const flags =
      (readable ? DmaMapFlags.mask.read : 0) |
      (writable ? DmaMapFlags.mask.write : 0) |
      (sent && !mayMap ? DmaMapFlags.mask.fileIo : 0);
    DmaMap.set(connection.requestView, connection.requestAt, {
      argsz: DmaMap.size,
      flags,
      offset: sent ? offset : 0,
      address: iova,
      size,
    });
    const fds = sent ? [fd] : noFds;
    const result = connection.call(Command.dmaMap, DmaMap.size, DmaMap.size, fds);
    if (result < 0) return result;
    const mapped = this.#port.memory.map(mapping);
    if (mapped < 0) this.#unmap(0, iova, size);
    return mapped;
  }

  /** DMA that was carried on ends first: the server may wait for it before it answers. */
  unmapDma(iova: number, size: number): number {
    this.#port.cancel(iova, size);
    const result = this.#unmap(0, iova, size);
    if (result < 0) return result;
    this.#port.memory.unmap(iova, size);
    return 0;
  }

  /** Where the server has no message for it, mapping by mapping. */
  unmapAllDma(): number {
    this.#port.cancel(0, addressEnd);
    let result = this.#unmap(DmaUnmapFlags.mask.all, 0, 0);
    if (result === -errno.EINVAL) {
      result = 0;
      const { regions } = this.#port.memory;
      for (const { iova, size } of [...regions]) result ||= this.#unmap(0, iova, size);
    }
    if (result < 0) return result;
    this.#port.memory.unmapAll();
    return 0;
  }

  #unmap(flags: number, address: number, size: number): number {
    const { connection } = this;
    const prepared = connection.prepare(DmaUnmap.size);
    if (prepared < 0) return prepared;
    const request = { argsz: DmaUnmap.size, flags, address, size };
    DmaUnmap.set(connection.requestView, connection.requestAt, request);
    return Math.min(0, connection.call(Command.dmaUnmap, DmaUnmap.size, DmaUnmap.size));
  }

  reset(): number {
    this.#port.cancel(0, addressEnd);
    const prepared = this.connection.prepare(0);
    return prepared < 0 ? prepared : Math.min(0, this.connection.call(Command.deviceReset, 0, 0));
  }

  /** What PRE_COPY has still to send, or a negated errno; null where that was not agreed on. */
  precopyInfo(): PendingBytes | number | null {
    if (!this.connection.server.precopyInfo) return null;
    const bytes = new Uint8Array(PrecopyInfo.size);
    const flags = FeatureFlags.mask.get | OwnFeature.precopyInfo;
    const length = this.feature(flags, bytes, 0, 0, bytes.length);
    if (length < 0) return length;
    if (length < PrecopyInfo.size) return -errno.EPROTO;
    const { initialBytes, dirtyBytes } = PrecopyInfo.get(new DataView(bytes.buffer), 0);
    return { initialBytes, dirtyBytes };
  }

  feature(flags: number, bytes: Uint8Array, at: number, length: number, capacity: number): number {
    const { connection } = this;
    const isOwn = (flags & FeatureFlags.mask.index) === OwnFeature.precopyInfo;
    if (isOwn && !connection.server.precopyInfo) return -errno.ENOTTY;
    const get = (flags & FeatureFlags.mask.get) !== 0;
    const answerMax = Math.min(get ? capacity : length, connection.dataBytesMax);
    const request = DeviceFeature.size + length;
    const prepared = connection.prepare(request);
    if (prepared < 0) return prepared;
    const { requestView: view, requestAt } = connection;
    const argsz = DeviceFeature.size + Math.max(length, answerMax);
    DeviceFeature.set(view, requestAt, { argsz, flags });
    copy(bytes, at, connection.requestBytes, requestAt + DeviceFeature.size, length);
    const result = connection.call(Command.deviceFeature, request, argsz);
    if (result < 0) return result;
    if (result < DeviceFeature.size) return -errno.EPROTO;
    const answer = Math.min(result - DeviceFeature.size, capacity);
    copy(connection.replyBytes, connection.replyAt + DeviceFeature.size, bytes, at, answer);
    return answer;
  }

  readMigration(sink: MigrationSink, length: number): number {
    const { connection } = this;
    for (let done = 0; done < length; ) {
      const size = Math.min(length - done, connection.dataBytesMax);
      const prepared = connection.prepare(MigData.size);
      if (prepared < 0) return prepared;
      const argsz = MigData.size + size;
      MigData.set(connection.requestView, connection.requestAt, { argsz, size });
      const result = connection.call(Command.migDataRead, MigData.size, argsz);
      if (result < 0) return result;
      if (result < MigData.size) return -errno.EPROTO;
      const got = MigData.get(connection.replyView, connection.replyAt).size;
      if (got > size || got > result - MigData.size) return -errno.EPROTO;
      const from = connection.replyAt + MigData.size;
      copy(connection.replyBytes, from, sink.bytes, sink.at + done, got);
      done += got;
      if (got < size) return done;
    }
    return length;
  }

  writeMigration(bytes: Uint8Array, at: number, length: number): number {
    const { connection } = this;
    for (let done = 0; done < length; ) {
      const size = Math.min(length - done, connection.dataBytesMax);
      const argsz = MigData.size + size;
      const prepared = connection.prepare(argsz);
      if (prepared < 0) return prepared;
      const { requestAt } = connection;
      MigData.set(connection.requestView, requestAt, { argsz, size });
      copy(bytes, at + done, connection.requestBytes, requestAt + MigData.size, size);
      const result = connection.call(Command.migDataWrite, argsz, MigData.size);
      if (result < 0) return result;
      done += size;
    }
    return length;
  }

  attach(messages: MessageDma | null): void {
    this.#port.attach(messages);
  }

  /** A lost connection has ended all of this at the server already. */
  detach(): void {
    for (const [index, { count }] of this.irqs.entries()) {
      if (count > 0) this.#setSomeIrqs({ ...disable, index }, 0, 0, noFds);
    }
    if (this.unmapAllDma() < 0) this.#port.memory.unmapAll();
    this.#port.attach(null);
  }

  get busy(): boolean {
    return this.#port.settled;
  }

  /** Answers the server's DMA that was carried on and has ended. */
  work(): void {
    if (!this.#port.settled) return;
    this.#port.settle();
    this.connection.poll();
  }

  /** A connection to another server cannot be handed to a successor. */
  park(): Wiring | null {
    return null;
  }

  takeUp(): number {
    return -errno.EOPNOTSUPP;
  }

  /** Ends the connection and closes what came with the device. */
  close(): void {
    for (const { mmap } of this.regions) closeFd(mmap?.fd ?? -1);
    this.#port.memory.unmapAll();
    this.connection.close();
  }
}
