/** What a VMM does with a device, in few words: the tests of models speak through it. */
import { readSync, writeSync } from "node:fs";
import { errno } from "../../src/base/errno.ts";
import type { MigrationSink, VfioDevice } from "../../src/device/vfio-device.ts";
import { type MessageDma, pending, type Transfer } from "../../src/memory/transfer.ts";
import {
  Feature,
  FeatureFlags,
  IrqSetFlags,
  type MigState,
  PciRegion,
} from "../../src/spec/vfio.ts";
import * as k from "../../src/sys/constants.ts";
import {
  addSeals,
  closeFd,
  createEventfd,
  createMemfd,
  drainEventfd,
  duplicate,
} from "../../src/sys/descriptors.ts";
import { viewOf } from "../../src/sys/libc.ts";

const { mask: irqFlag } = IrqSetFlags;
const { mask: featureFlag } = FeatureFlags;

/** Guest memory in a sealed memfd, as QEMU gives it, seen from the guest. */
export class Guest {
  readonly fd: number;
  readonly iova: number;
  readonly size: number;

  constructor(iova: number, size: number) {
    this.iova = iova;
    this.size = size;
    this.fd = createMemfd("guest", size);
    addSeals(this.fd, k.F_SEAL_SHRINK);
  }

  read(iova: number, length: number): Buffer {
    const bytes = Buffer.alloc(length);
    readSync(this.fd, bytes, 0, length, iova - this.iova);
    return bytes;
  }

  write(iova: number, bytes: Uint8Array): void {
    writeSync(this.fd, bytes, 0, bytes.length, iova - this.iova);
  }
}

/** A VMM that carries DMA by messages when it is told to. */
export class Messenger implements MessageDma {
  readonly waiting: Transfer[] = [];
  readonly memory: Buffer;

  constructor(size: number) {
    this.memory = Buffer.alloc(size);
  }

  submit(transfer: Transfer): number {
    transfer.status = pending;
    this.waiting.push(transfer);
    return 0;
  }

  cancel(iova: number, size: number): void {
    for (const transfer of this.waiting.splice(0)) {
      const touches = transfer.iova < iova + size && iova < transfer.iova + transfer.length;
      if (touches) transfer.status = -errno.ECANCELED;
      else this.waiting.push(transfer);
    }
  }

  /** Answers the oldest transfer; `status` other than 0 fails it. */
  answer(status = 0): Transfer {
    const transfer = this.waiting.shift();
    if (transfer === undefined) throw new Error("the device has asked for nothing");
    const { iova, bytes, at, length } = transfer;
    if (status === 0 && transfer.direction === 0)
      bytes.set(this.memory.subarray(iova, iova + length), at);
    if (status === 0 && transfer.direction === 1)
      this.memory.set(bytes.subarray(at, at + length), iova);
    transfer.status = status;
    return transfer;
  }
}

export class Vmm {
  readonly device: VfioDevice;
  readonly #bytes = Buffer.alloc(8);

  constructor(device: VfioDevice) {
    this.device = device;
  }

  /** A region's bytes; throws the errno's number where the device refuses. */
  bytes(region: number, offset: number, count: number): Buffer {
    const bytes = Buffer.alloc(count + 2, 0xee);
    const result = this.device.read(region, offset, bytes, 1, count);
    if (result < 0) throw new Error(`read failed: ${result}`);
    if (bytes[0] !== 0xee || bytes[count + 1] !== 0xee) throw new Error("read too much");
    return bytes.subarray(1, count + 1);
  }

  read(region: number, offset: number, count = 4): number {
    return this.bytes(region, offset, count).readUIntLE(0, Math.min(count, 6));
  }

  /** Answers what the device answers. */
  write(region: number, offset: number, value: number, count = 4): number {
    if (count === 8) this.#bytes.writeBigUInt64LE(BigInt(value));
    else this.#bytes.writeUIntLE(value, 0, count);
    return this.device.write(region, offset, this.#bytes, 0, count);
  }

  config(offset: number, count = 4): number {
    return this.read(PciRegion.config, offset, count);
  }

  writeConfig(offset: number, value: number, count = 4): number {
    return this.write(PciRegion.config, offset, value, count);
  }

  /** Offset of a capability, walking the chain as a driver does; -1 where there is none. */
  capability(id: number): number {
    for (let at = this.config(0x34, 1); at !== 0; at = this.config(at + 1, 1)) {
      if (this.config(at, 1) === id) return at;
    }
    return -1;
  }

  extendedCapability(id: number): number {
    for (let at = 0x100; at !== 0; at = this.config(at) >>> 20) {
      if ((this.config(at) & 0xffff) === id) return at;
    }
    return -1;
  }

  /** Wires new eventfds to vectors; returns our ends of them. */
  wire(index: number, start: number, count: number): Eventfd[] {
    const eventfds = Array.from({ length: count }, () => new Eventfd());
    const fds = eventfds.map(({ fd }) => duplicate(fd));
    this.irqs(index, irqFlag.dataEventfd | irqFlag.actionTrigger, start, count, fds);
    return eventfds;
  }

  irqs(
    index: number,
    flags: number,
    start: number,
    count: number,
    fds: number[] = [],
    bools: number[] = [],
  ): number {
    const all = irqFlag.dataNone | irqFlag.dataBool | irqFlag.dataEventfd;
    const bytes = Uint8Array.from([0xee, ...bools, 0xee]);
    const request = { index, start, count, bytes, boolsAt: 1, fds };
    return this.device.setIrqs({ ...request, data: flags & all, action: flags & ~all });
  }

  disable(index: number): number {
    return this.irqs(index, irqFlag.dataNone | irqFlag.actionTrigger, 0, 0);
  }

  map(guest: Guest, access: { readable: boolean; writable: boolean } = both): number {
    const { iova, size } = guest;
    return this.device.mapDma({
      iova,
      size,
      ...access,
      fd: duplicate(guest.fd),
      offset: 0,
      mayMap: true,
    });
  }

  /** Maps memory that only messages reach. */
  mapForMessages(iova: number, size: number): number {
    const access = { readable: true, writable: true };
    return this.device.mapDma({ iova, size, ...access, fd: -1, offset: 0, mayMap: true });
  }

  /** Lets the device work until it waits or has done, as a server does between requests. */
  run(): void {
    for (let slices = 0; this.device.busy; slices++) {
      if (slices > 1_000_000) throw new Error("the device does not stop working");
      this.device.work();
    }
  }

  /** DEVICE_FEATURE GET of up to 4096 bytes, `question` in front. */
  get(feature: number, question: Uint8Array = new Uint8Array(0), capacity = 4096): Buffer | number {
    const bytes = Buffer.alloc(4096, 0xee);
    bytes.set(question, 8);
    const flags = featureFlag.get | feature;
    const result = this.device.feature(flags, bytes, 8, question.length, capacity);
    return result < 0 ? result : bytes.subarray(8, 8 + result);
  }

  set(feature: number, data: Uint8Array): number {
    const bytes = Buffer.alloc(data.length + 8);
    bytes.set(data, 8);
    const flags = featureFlag.set | feature;
    return this.device.feature(flags, bytes, 8, data.length, data.length);
  }

  get state(): number {
    const answer = this.get(Feature.migDeviceState);
    return typeof answer === "number" ? answer : answer.readUInt32LE(0);
  }

  /** Moves the device; 0 or a negated errno. */
  move(state: MigState): number {
    const data = Buffer.alloc(8);
    data.writeUInt32LE(state);
    return Math.min(0, this.set(Feature.migDeviceState, data));
  }

  /** Reads migration data to the end, in pieces of `chunk` bytes. */
  save(chunk = 4096): Buffer {
    const sink = new CopySink(chunk);
    const parts: Buffer[] = [];
    for (;;) {
      const count = this.device.readMigration(sink, chunk);
      if (count < 0) throw new Error(`MIG_DATA_READ failed: ${count}`);
      parts.push(sink.take(count));
      if (count < chunk) return Buffer.concat(parts);
    }
  }

  /** Writes migration data in pieces; 0 or the first negated errno. */
  load(stream: Uint8Array, chunk = 4096): number {
    for (let at = 0; at < stream.length; at += chunk) {
      const count = Math.min(chunk, stream.length - at);
      const result = this.device.writeMigration(stream, at, count);
      if (result !== 0) return result;
    }
    return 0;
  }
}

const both = { readable: true, writable: true };

/** Takes data whichever way it is given, at once, as a server that sends it. */
export class CopySink implements MigrationSink {
  readonly bytes: Buffer;
  readonly at = 16;
  #lent: Buffer | null = null;

  constructor(size: number) {
    this.bytes = Buffer.alloc(size + this.at);
  }

  lend(address: number, length: number): void {
    this.#lent = Buffer.from(new Uint8Array(viewOf(address, length)));
  }

  take(count: number): Buffer {
    const lent = this.#lent;
    this.#lent = null;
    if (lent === null) return Buffer.from(this.bytes.subarray(this.at, this.at + count));
    if (lent.length !== count) throw new Error(`lent ${lent.length} bytes, said ${count}`);
    return lent;
  }
}

/** Our end of an eventfd. */
export class Eventfd {
  readonly fd: number;

  constructor() {
    this.fd = createEventfd();
  }

  /** How often it was signalled since the last time. */
  take(): number {
    return drainEventfd(this.fd);
  }

  close(): void {
    closeFd(this.fd);
  }
}
