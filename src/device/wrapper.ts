import { errno } from "../base/errno.ts";
import type { MessageDma } from "../memory/transfer.ts";
import type {
  DmaMapping,
  IoEventfd,
  Irq,
  IrqRequest,
  LineState,
  MigrationSink,
  Region,
  VfioDevice,
  Watch,
  Wiring,
} from "./vfio-device.ts";

/** A device that passes everything on to another one; wrappers override what they change. */
export class Wrapper implements VfioDevice {
  inner: VfioDevice;

  constructor(inner: VfioDevice) {
    this.inner = inner;
  }

  get name(): string {
    return this.inner.name;
  }
  get flags(): number {
    return this.inner.flags;
  }
  get regions(): readonly Region[] {
    return this.inner.regions;
  }
  get irqs(): readonly Irq[] {
    return this.inner.irqs;
  }
  get busy(): boolean {
    return this.inner.busy;
  }
  get moving(): boolean {
    return this.inner.moving ?? false;
  }
  get counters(): Readonly<Record<string, number>> {
    return this.inner.counters ?? {};
  }
  get watches(): readonly Watch[] {
    return this.inner.watches;
  }
  get state(): Uint8Array | null {
    return this.inner.state;
  }

  read(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    return this.inner.read(region, offset, bytes, at, count);
  }
  write(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    return this.inner.write(region, offset, bytes, at, count);
  }
  ioEventfds(region: number): readonly IoEventfd[] {
    return this.inner.ioEventfds(region);
  }
  setIrqs(request: IrqRequest): number {
    return this.inner.setIrqs(request);
  }
  holdLine(held: boolean): LineState | null {
    return this.inner.holdLine?.(held) ?? null;
  }
  mapDma(mapping: DmaMapping): number {
    return this.inner.mapDma(mapping);
  }
  unmapDma(iova: number, size: number): number {
    return this.inner.unmapDma(iova, size);
  }
  unmapAllDma(): number {
    return this.inner.unmapAllDma();
  }
  reset(): number {
    return this.inner.reset();
  }
  feature(flags: number, bytes: Uint8Array, at: number, length: number, capacity: number): number {
    return this.inner.feature(flags, bytes, at, length, capacity);
  }
  settle(): number {
    return this.inner.settle?.() ?? 0;
  }
  readMigration(sink: MigrationSink, length: number): number {
    return this.inner.readMigration(sink, length);
  }
  writeMigration(bytes: Uint8Array, at: number, length: number): number {
    return this.inner.writeMigration(bytes, at, length);
  }
  attach(messages: MessageDma | null): void {
    this.inner.attach(messages);
  }
  detach(): void {
    this.inner.detach();
  }
  work(): void {
    this.inner.work();
  }
  wiring(): Wiring | null {
    return this.inner.wiring?.() ?? null;
  }
  wire(wiring: Wiring): number {
    return this.inner.wire?.(wiring) ?? -errno.EOPNOTSUPP;
  }
  rest(on: boolean): boolean {
    return this.inner.rest?.(on) ?? true;
  }
  park(): Wiring | null {
    return this.inner.park();
  }
  takeUp(wiring: Wiring, state: Uint8Array): number {
    return this.inner.takeUp(wiring, state);
  }
}
