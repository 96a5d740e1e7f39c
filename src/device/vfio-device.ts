/**
 * The one interface of the project: VFIO as synchronous calls. A box either is a `VfioDevice` (a
 * model, a kernel device, a remote one), wraps one, or drives one. MMIO is a question that a vCPU
 * waits on, so nothing here returns a promise. Results are 0 or a count, or a negated errno;
 * nothing that a guest or a VMM asks for throws.
 */
import type { MessageDma } from "../memory/transfer.ts";

/** A part of a region that a client may map, in bytes from the region's start. */
export interface MmapArea {
  readonly offset: number;
  readonly size: number;
}

/** How a region may be mapped. */
export interface MmapOffer {
  /** The file behind the region; the device keeps it, a client gets a duplicate. */
  readonly fd: number;
  /** Where the region starts in the file. */
  readonly offset: number;
  /** The parts that may be mapped; null means all of it. */
  readonly areas: readonly MmapArea[] | null;
}

/** A region as DEVICE_GET_REGION_INFO tells it; size 0 is a region that is not there. */
export interface Region {
  /** Bytes. */
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly mmap: MmapOffer | null;
}

/** An interrupt index as DEVICE_GET_IRQ_INFO tells it. */
export interface Irq {
  /** Vectors; 0 is an index that is not there. */
  readonly count: number;
  /** `IrqFlags` word. */
  readonly flags: number;
}

/** An eventfd that stands for a write of `datamatch` (or of anything) to a place of a region. */
export interface IoEventfd {
  readonly offset: number;
  readonly size: number;
  readonly fd: number;
  readonly datamatch: bigint | null;
}

/** DEVICE_SET_IRQS after validation: range, data and action agree with the irq's description. */
export interface IrqRequest {
  readonly index: number;
  readonly start: number;
  readonly count: number;
  /** One of `IrqSetFlags.mask.data*`. */
  readonly data: number;
  /** One of `IrqSetFlags.mask.action*`. */
  readonly action: number;
  /** DATA_BOOL: `count` bytes from `boolsAt` of `bytes`. */
  readonly bytes: Uint8Array;
  readonly boolsAt: number;
  /**
   * DATA_EVENTFD: `count` eventfds (EINVAL for other descriptors), or none to take the assigned
   * ones away. The device owns them from here on, whatever it answers.
   */
  readonly fds: readonly number[];
}

/** DMA_MAP after validation. */
export interface DmaMapping {
  /** Guest address of the first byte. */
  readonly iova: number;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  /**
   * The file behind the memory, or -1: then by messages only. The device owns it if it answers 0.
   */
  readonly fd: number;
  /** Where the memory starts in the file. */
  readonly offset: number;
  /** May the file be mapped, or only read and written? */
  readonly mayMap: boolean;
}

/** Where migration data goes: copied into `bytes`, or lent to be sent from where it lies. */
export interface MigrationSink {
  readonly bytes: Uint8Array;
  /** Where to copy to. */
  readonly at: number;
  /** Lends memory that stays as it is until the device's next call. */
  lend(address: number, length: number): void;
}

/** A descriptor that the driver of a device polls on the device's behalf. */
export interface Watch {
  readonly fd: number;
  /** True for one that a guest signals in place of a write to a register. */
  readonly doorbell?: boolean;
  /** Called when `fd` is readable; drains it. */
  ready(): void;
}

/** How a device's INTx line is with its client, whatever its level is. */
export interface LineState {
  /** The client was signalled and has not unmasked it since: for the guest it is up. */
  readonly up: boolean;
  /** A word of a BAR that can be read without effect; null when none is known. */
  readonly quiet: { readonly bar: number; readonly offset: number } | null;
}

/** What `feature` answers when its result comes later (`settle`); neither a length nor an errno. */
export const deferred = -0x10000;

/** A PCI function as VFIO shows it; the rules above hold for every member. */
export interface VfioDevice {
  /** For people: `hello`, `hisi-sec2 0000:75:00.1`. */
  readonly name: string;
  /** `DeviceFlags` word. */
  readonly flags: number;
  readonly regions: readonly Region[];
  readonly irqs: readonly Irq[];

  /**
   * Reads `count` bytes at `offset` of a region into `bytes` from `at`. The caller has checked the
   * range and the region's flags.
   */
  read(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number;
  /** Writes, likewise. */
  write(region: number, offset: number, bytes: Uint8Array, at: number, count: number): number;

  /** The ioeventfds of a region; from here on the device watches them. */
  ioEventfds(region: number): readonly IoEventfd[];
  setIrqs(request: IrqRequest): number;
  /**
   * Keeps the INTx line from being signalled, or lets it be: then it is, if it is still asserted.
   * Null for a device that cannot, or that does not know how it is.
   */
  holdLine?(held: boolean): LineState | null;

  mapDma(mapping: DmaMapping): number;
  /**
   * Takes one mapping away: ENOENT unless `iova` and `size` are exactly those of one. In-flight DMA
   * to it is ended first.
   */
  unmapDma(iova: number, size: number): number;
  unmapAllDma(): number;

  /**
   * Back to the state after power-on; mappings and interrupt wiring stay. Also leaves migration
   * state ERROR.
   */
  reset(): number;

  /**
   * DEVICE_FEATURE. `flags` is the `FeatureFlags` word with exactly one of get and set, or probe.
   * The feature's data lies in `bytes` from `at`, `length` bytes of it; an answer to get is written
   * to the same place, at most `capacity` bytes. Returns the answer's length, or ENOTTY for a
   * feature that the device does not have, EINVAL for an operation that the feature does not have.
   * A set that takes several turns of `work` answers `deferred`; then no other one is begun before
   * `settle` has given its result.
   */
  feature(flags: number, bytes: Uint8Array, at: number, length: number, capacity: number): number;
  /**
   * The result of the `feature` that was deferred, once: 0 or a negated errno; `deferred` while
   * there is none. It is asked after every turn, and not any more once the client has gone.
   */
  settle?(): number;
  /** Up to `length` bytes of migration data; fewer is the end of the stream. */
  readMigration(sink: MigrationSink, length: number): number;
  writeMigration(bytes: Uint8Array, at: number, length: number): number;

  /** Who carries DMA by messages; null when the driver of the device is gone. */
  attach(messages: MessageDma | null): void;
  /**
   * The client is gone: mappings, interrupt wiring and pending DMA end; the device's state stays.
   */
  detach(): void;

  /** True while `work` has something to do at once. */
  readonly busy: boolean;
  /**
   * True while a change of the migration state is under way: the device needs its turns then even
   * when its connection stands still.
   */
  readonly moving?: boolean;
  /**
   * One bounded slice of what doorbells started. Called after the reply to the access that started
   * it.
   */
  work(): void;
  /** What the device has counted since it was made, by name; none of it migrates. */
  readonly counters?: Readonly<Record<string, number>>;
  /** Descriptors to poll; a new array whenever they change. */
  readonly watches: readonly Watch[];

  /**
   * Everything of the device that migrates, one buffer; null for a device that keeps its state
   * elsewhere.
   */
  readonly state: Uint8Array | null;

  /**
   * What a client has connected, for another device that takes its place: nothing is let go of, and
   * the descriptors stay this device's. Null when it cannot go: while a dirty log is on.
   */
  wiring?(): Wiring | null;
  /** Takes such wiring, its descriptors too, which are gone when it does not fit: an errno. */
  wire?(wiring: Wiring): number;

  /**
   * Begins nothing more, as it is about to be parked; or goes on. True when parking would end
   * nothing that cannot run again, such as output that is being written over its own input.
   */
  rest?(on: boolean): boolean;
  /**
   * Lets go of mappings and interrupt wiring for a successor in another process: nothing is closed,
   * in-flight DMA is ended so that it runs again. Null when this device cannot be parked, or not
   * now: while migration data is copied, or a dirty log is on.
   */
  park(): Wiring | null;
  /**
   * Goes on where a parked device has stopped: takes the wiring (its descriptors are the device's
   * now) and the state. A negated errno when they do not fit; then the device is reset and unwired.
   */
  takeUp(wiring: Wiring, state: Uint8Array): number;
}

/** An interrupt vector that was wired to an eventfd. */
export interface IrqWire {
  readonly index: number;
  readonly vector: number;
  /** The eventfd to signal; -1 for none. */
  readonly trigger: number;
  /** The eventfd that unmasks INTx; -1 for none. */
  readonly unmask: number;
  readonly masked: boolean;
}

/** What a client has connected to a device: it goes along when a device is parked. */
export interface Wiring {
  readonly mappings: readonly DmaMapping[];
  readonly irqs: readonly IrqWire[];
  /** Descriptors of ioeventfds that the client holds, with the region that they belong to. */
  readonly ioEventfds: ReadonlyArray<IoEventfd & { readonly region: number }>;
  /** Files that the client may have mapped, which nobody can take back: each is its region's. */
  readonly files: ReadonlyArray<{ readonly region: number; readonly fd: number }>;
}
