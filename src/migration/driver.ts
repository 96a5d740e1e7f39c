/**
 * What a vendor implements to have a device migrated. A driver reaches the device through its
 * control plane only (`Planes`). It runs in the device's own thread, in slices: whatever waits is a
 * step that yields, and what a step waits for has a budget.
 */
import type { Planes } from "./planes.ts";

/**
 * Work in slices: it yields where it must wait for the device, and ends with 0 or a negated errno.
 * One that is cut off ends by `return`, so that a `finally` inside of it still runs.
 */
export type Step = Generator<void, number>;

/** A part of a migration that either succeeds within its budget or is undone. */
export interface Phase {
  /** What `run` may take, in milliseconds, whatever the guest does. */
  readonly budgetMs: number;
  run(): Step;
  /** Takes back what `run` did, all of it or a part; it has the same budget. */
  undo(): Step;
}

/** The phases of a driver, in the order of a migration. */
export interface Phases {
  /** Source: nothing new is begun. The VMM's access to what is frozen has ended already. */
  readonly freeze: Phase;
  /** Source: what is under way is finished, or ended so that it can run again. */
  readonly quiesce: Phase;
  /** Source: reads the state that `next` then gives out. The device stands still. */
  readonly save: Phase;
  /** Target: puts what was accepted and checked into the device, which stands still. */
  readonly load: Phase;
  /** Both: what stood still, loaded or as it was, goes on. Raises what is pending, kicks queues. */
  readonly thaw: Phase;
}

/** A piece of a stream. */
export interface Section {
  /** What it is: below 0x100 the envelope's own (`StreamSection`), above it the driver's. */
  readonly kind: number;
  /** Of the kind's layout. */
  readonly version: number;
  /** True for what a target that does not know it may leave out. */
  readonly optional: boolean;
  /** Stays as it is until the driver's next call. */
  readonly bytes: Uint8Array;
  /** Where `bytes` lie, if they may be sent from there; 0 if they are to be copied. */
  readonly address: number;
}

/** What PRE_COPY has still to send, in bytes (`struct vfio_precopy_info`). */
export interface Pending {
  /** What a target needs before it makes sense to stop. */
  readonly initialBytes: number;
  /** What has changed, and would be sent once more. */
  readonly dirtyBytes: number;
}

/** What must agree on both sides before a byte moves; every value is compared by `judge`. */
export interface Compatibility {
  /** Name of the driver. */
  readonly driver: string;
  /** Of the driver's streams: what it writes, and the oldest that it reads. */
  readonly version: number;
  readonly oldestVersion: number;
  /** PCI vendor, device and revision. */
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Facts by name, for people too: `queues: 256`. At most 64 of them. */
  readonly facts: Readonly<Record<string, number | string>>;
}

/** A migration driver of one device. Nothing here throws, whatever the guest or a stream says. */
export interface MigrationDriver extends Phases {
  readonly compatibility: Compatibility;
  /** Why a state of theirs cannot be loaded here, as a sentence; null when it can. */
  judge(theirs: Compatibility): string | null;

  /** What the driver's sections are called, by kind, for people. */
  readonly sectionNames?: Readonly<Record<number, string>>;

  /** `MigrationFlags` that the driver adds to STOP_COPY. */
  readonly flags: number;
  /**
   * True for a device that has VFIO's migration itself: a VMM that asks for it is served by the
   * device, and the driver does the same as such a VMM.
   */
  readonly native: boolean;

  /**
   * The device's own stream is one of ours already, because another host's driver has made it: it
   * is passed on as it is. Not a stream's sections are given to `accept` then but pieces of it.
   */
  readonly passesOn?: boolean;

  /** PRE_COPY begins or ends: changes are to be noted, or need not be any more. */
  track(on: boolean): number;
  /** What PRE_COPY has still to send; asked in the states PRE_COPY and PRE_COPY_P2P. */
  readonly pending: Pending;
  /** Bytes that STOP_COPY would send now, as far as can be told without touching the device. */
  readonly stopCopyBytes: number;
  /**
   * The next piece to send; null when there is nothing new (PRE_COPY), or nothing more at all
   * (STOP_COPY, after `save`).
   */
  next(): Section | null;

  /**
   * Keeps a section of a stream apart from the device, or does to a device that is to be reset
   * anyway what a refusal takes back. A sentence when it makes no sense.
   */
  accept(section: Section): string | null;
  /** After the last section: whether everything is there and fits the device; touches nothing. */
  check(): string | null;
  /**
   * Forgets what was saved or accepted: called when a stream is given up, and once the device runs
   * again. What `accept` has done to the device is taken back; what `load` has done stays.
   */
  discard(): void;

  /**
   * The whole function was reset, by the guest or the VMM: whatever the driver believed of it, that
   * it is paused for example, is no longer so. What was saved or accepted is forgotten.
   */
  wasReset?(): void;
}

/** A kind of driver, as a module registers it: built in, or from another package. */
export interface DriverKind {
  /** `hisi-acc`; what `--driver` takes. */
  readonly name: string;
  /** Which devices it is for: PCI vendor and device ids. */
  readonly ids: ReadonlyArray<readonly [vendor: number, device: number]>;
  /** Takes a device on. A FerryError says what the planes lack. */
  create(planes: Planes): MigrationDriver;
}
