import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import type { Hooks, RegisterBank, RegisterValue } from "../base/register-bank.ts";
import type { Registers, RegisterTable } from "../base/registers.ts";
import { GuestMemory } from "../memory/guest-memory.ts";
import type { MessageDma } from "../memory/transfer.ts";
import { DeviceFlags, MigState, PciRegion, pciRegions } from "../spec/vfio.ts";
import { Bar, copyBytes } from "./bar.ts";
import { ConfigSpace, romSize } from "./config-space.ts";
import { DeviceFeatures } from "./device-features.ts";
import { DeviceState } from "./device-state.ts";
import { DmaStep } from "./dma-step.ts";
import { Interrupts, interruptCounts } from "./interrupts.ts";
import { IoEventfds } from "./io-eventfds.ts";
import { MigrationModel } from "./migration-model.ts";
import { layoutOf, type ModelDescription, sectionOf } from "./model-description.ts";
import { ModelWiring } from "./model-wiring.ts";
import { Shadow } from "./shadow.ts";
import { StateImage } from "./state-image.ts";
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

const noWatches: readonly Watch[] = [];
const noRegion: Region = { size: 0, readable: false, writable: false, mmap: null };

/**
 * A PCI function made of parts: configuration space, memory behind its BARs, interrupts, guest
 * memory, migration. A model derives from it, gives its table, lays registers over its BARs and
 * does its work in slices. What it must remember lies in its state and nowhere else.
 */
export abstract class PciModel implements VfioDevice {
  readonly name: string;
  readonly flags = DeviceFlags.mask.reset | DeviceFlags.mask.pci;
  readonly regions: readonly Region[];
  readonly memory = new GuestMemory();
  readonly interrupts: Interrupts;
  readonly config: ConfigSpace;
  /** For models that do one piece of DMA at a time. */
  protected readonly dma = new DmaStep(this.memory);
  readonly #state: DeviceState;
  readonly #ownSections: readonly string[];
  readonly #bars: readonly (Bar | undefined)[];
  readonly #rom: Uint8Array;
  readonly #migration: MigrationModel;
  readonly #features: DeviceFeatures;
  readonly #ioEventfds: IoEventfds;
  readonly #wiring: ModelWiring;
  /** What `watches` was made of, to make it anew only when that has changed. */
  #watched: readonly [readonly Watch[], readonly Watch[]] = [[], []];
  #watches: readonly Watch[] = [];

  constructor(description: ModelDescription) {
    const state = new DeviceState(layoutOf(description), description.prealloc);
    this.#ownSections = Object.keys(description.sections ?? {});
    this.name = description.name;
    this.#state = state;
    this.#rom = new Uint8Array(romSize(description.rom));
    this.#rom.set(description.rom ?? []);
    this.#bars = Array.from({ length: PciRegion.rom }, (_, bar) => this.#bar(bar, description));
    const romBytes = this.#rom.length;
    this.config = new ConfigSpace({ ...description, romBytes }, state.view, this.#at("config"), {
      interruptsChanged: () => this.interrupts.update(),
      msiPending: () => this.interrupts.msiPending,
      functionLevelReset: () => this.reset(),
    });
    this.#ioEventfds = new IoEventfds(description.ioEventfds ?? [], (bar, offset, value, size) =>
      this.write(bar, offset, value, 0, size),
    );
    const counts = interruptCounts(description);
    this.interrupts = new Interrupts(counts, this.config, state.view, this.#at("interrupts"));
    this.#wiring = new ModelWiring(this.memory, this.interrupts, this.#ioEventfds, this.#bars);
    const device = {
      image: new StateImage(state),
      stop: () => this.#stop(),
      start: () => this.#start(),
      restored: () => this.#restored(),
    };
    this.#migration = new MigrationModel(device, state.view, this.#at("migration"));
    this.#features = new DeviceFeatures(this.#migration, this.memory);
    this.regions = Array.from({ length: pciRegions }, (_, index) =>
      this.#region(index, description),
    );
  }

  #at(section: string): number {
    return this.#state.layout.at[section] as number;
  }

  #bar(bar: number, { bars }: ModelDescription): Bar | undefined {
    const shape = bars[bar];
    if (shape === undefined) return undefined;
    const name = sectionOf(bar, shape);
    const section = this.section(name);
    assert(section.length >= shape.size, `${this.name}: ${name} is less than BAR${bar}`);
    const shared = (shape.mapped ?? false) !== false;
    const shadow = shared ? new Shadow(name, section) : null;
    return new Bar(this.#state, this.#at(name), shape, shadow);
  }

  #region(index: number, { bars }: ModelDescription): Region {
    const access = { readable: true, writable: true, mmap: null };
    if (index === PciRegion.config) return { ...access, size: this.config.size };
    if (index === PciRegion.rom && this.#rom.length > 0) {
      return { ...access, size: this.#rom.length, writable: false };
    }
    const bar = this.#bars[index];
    if (bar === undefined) return noRegion;
    const mapped = bars[index]?.mapped ?? false;
    const areas = typeof mapped === "boolean" ? null : mapped;
    const mmap = mapped === false ? null : bar.offer(areas);
    return { ...access, size: bar.size, mmap };
  }

  /** Lays registers over the start of a BAR's memory. */
  protected bank<T extends Registers>(
    bar: number,
    table: RegisterTable<T>,
    hooks: Hooks<T>,
  ): RegisterBank<T> {
    const memory = this.#bars[bar];
    assert(memory !== undefined, `${this.name}: no BAR${bar} for ${table.name}`);
    return memory.lay(table, hooks);
  }

  /** What clients map of a BAR; null when they cannot. */
  protected shadow(bar: number): Shadow | null {
    return this.#bars[bar]?.shadow ?? null;
  }

  /** Turns a BAR to the part of its section that starts at `offset`. */
  protected turn(bar: number, section: string, offset: number): void {
    this.#bars[bar]?.turn(this.#at(section) + offset);
  }

  /** Makes a section of the model's own state zero. */
  protected clear(name: string): void {
    const at = this.#at(name);
    this.#state.clear(at, at + this.section(name).length);
  }

  /** A section of the model's own state. */
  protected section(name: string): Uint8Array<ArrayBuffer> {
    const section = this.#state.layout.sections.find((each) => each.name === name);
    assert(section !== undefined, `${this.name}: no section ${name}`);
    return this.#state.bytes.subarray(section.at, section.at + section.size);
  }

  /** True while `slice` has something to do: not while it only waits for an answer. */
  protected get hasWork(): boolean {
    return false;
  }

  /** One bounded slice of work. */
  protected slice(): void {}

  /** Transfers in flight were ended: what they were for is to be started again. */
  protected onAbort(): void {}

  /** Power-on: BARs are reset already. Nothing of a guest's stays in the model's own sections. */
  protected onReset(): void {
    for (const name of this.#ownSections) this.section(name).fill(0);
  }

  /** The state is another one: checks it, and answers a negated errno if it makes no sense. */
  protected onRestored(): number {
    return 0;
  }

  get counters(): Readonly<Record<string, number>> {
    return {};
  }

  get irqs(): readonly Irq[] {
    return this.interrupts.irqs;
  }

  /** A stopped device looks at no doorbell: what is rung meanwhile is found when it runs again. */
  get watches(): readonly Watch[] {
    const interrupts = this.interrupts.watches;
    const doorbells = this.#migration.running ? this.#ioEventfds.watches : noWatches;
    const [before, rungBefore] = this.#watched;
    if (before !== interrupts || rungBefore !== doorbells) {
      this.#watched = [interrupts, doorbells];
      this.#watches = [...interrupts, ...doorbells];
    }
    return this.#watches;
  }

  get state(): Uint8Array {
    for (const bar of this.#bars) bar?.capture();
    return this.#state.bytes;
  }

  read(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (region === PciRegion.config) return this.config.read(offset, bytes, at, count);
    if (offset + count > (this.regions[region]?.size ?? 0)) return -errno.EINVAL;
    if (region === PciRegion.rom) copyBytes(this.#rom, offset, bytes, at, count);
    else this.#bars[region]?.read(offset, bytes, at, count);
    return 0;
  }

  /** While the device is stopped for migration a write to a BAR has no effect. */
  write(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (region === PciRegion.config) return this.config.write(offset, bytes, at, count);
    const bar = this.#bars[region];
    if (bar === undefined || offset + count > bar.size) return -errno.EINVAL;
    if (this.#migration.running) bar.write(offset, bytes, at, count);
    return 0;
  }

  ioEventfds(region: number): readonly IoEventfd[] {
    return this.#ioEventfds.of(region);
  }

  setIrqs(request: IrqRequest): number {
    return this.interrupts.setIrqs(request);
  }

  holdLine(held: boolean): LineState {
    return this.#wiring.holdLine(held);
  }

  mapDma(mapping: DmaMapping): number {
    return this.memory.map(mapping);
  }

  unmapDma(iova: number, size: number): number {
    return this.memory.unmap(iova, size);
  }

  unmapAllDma(): number {
    return this.memory.unmapAll();
  }

  feature(flags: number, bytes: Uint8Array, at: number, length: number, capacity: number): number {
    return this.#features.serve(flags, bytes, at, length, capacity);
  }

  readMigration(sink: MigrationSink, length: number): number {
    return this.#migration.read(sink, length);
  }

  writeMigration(bytes: Uint8Array, at: number, length: number): number {
    return this.#migration.write(bytes, at, length);
  }

  get busy(): boolean {
    return this.#migration.running && this.hasWork;
  }

  work(): void {
    if (this.busy) this.slice();
  }

  /** Ends what is in flight, so that it can run again. */
  protected abort(): void {
    this.memory.messages?.cancel(0, Number.POSITIVE_INFINITY);
    this.dma.abort();
    this.onAbort();
  }

  #stop(): void {
    this.abort();
    this.interrupts.stop();
    for (const bar of this.#bars) bar?.stop();
  }

  #start(): void {
    for (const bar of this.#bars) bar?.start();
    this.interrupts.start();
  }

  #restored(): number {
    this.config.restored();
    for (const bar of this.#bars) bar?.restored();
    this.interrupts.restored();
    const result = this.onRestored();
    if (result < 0) this.reset();
    return result;
  }

  reset(): number {
    this.abort();
    this.config.reset();
    this.interrupts.reset();
    for (const bar of this.#bars) bar?.reset();
    this.onReset();
    this.#migration.reset();
    return 0;
  }

  attach(messages: MessageDma | null): void {
    this.memory.messages = messages;
  }

  detach(): void {
    this.abort();
    this.memory.unmapAll();
    this.memory.loggingStop();
    this.interrupts.unwire();
    this.#ioEventfds.close();
  }

  park(): Wiring | null {
    const { state } = this.#migration;
    const moving = state !== MigState.running && state !== MigState.stop;
    if (moving || this.memory.logging) return null;
    this.abort();
    return this.#wiring.park();
  }

  wiring(): Wiring | null {
    return this.#wiring.copy();
  }

  wire(wiring: Wiring): number {
    return this.#wiring.take(wiring);
  }

  takeUp(wiring: Wiring, state: Uint8Array): number {
    const result = this.#wiring.takeUp(wiring, () => this.#takeState(state));
    if (result < 0) {
      this.reset();
      this.detach();
    }
    if (this.#migration.running) this.#wiring.join();
    return result;
  }

  #takeState(bytes: Uint8Array): number {
    const { layout } = this.#state;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    if (bytes.length !== layout.size || layout.accepts(view) < 0) return -errno.EINVAL;
    this.#state.bytes.set(bytes);
    return this.#restored() || this.#migration.takeUp();
  }

  /** The registers of configuration space, or of a BAR, for people. */
  describe(region: number): RegisterValue[] {
    if (region === PciRegion.config) return this.config.describe();
    return this.#bars[region]?.describe() ?? [];
  }
}
