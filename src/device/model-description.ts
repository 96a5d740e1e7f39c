/** What a model is, as a table. */
import { type BarShape, configBytes, type FunctionDescription } from "./config-space.ts";
import { interruptBytes, interruptCounts } from "./interrupts.ts";
import type { IoEventfdDescription } from "./io-eventfds.ts";
import { migrationBytes } from "./migration-model.ts";
import { type Sections, StateLayout } from "./state-layout.ts";
import type { MmapArea } from "./vfio-device.ts";

/** A base address register of a model and the memory behind it. */
export interface BarDescription extends BarShape {
  /**
   * May clients map it: all of it, or these parts? Not unless told. A mapping cannot be taken back,
   * so this is for clients that are trusted not to count on it while the device stands still.
   */
  readonly mapped?: boolean | readonly MmapArea[];
  /** One of the model's own sections that lies behind it; unless told, one is made for it. */
  readonly section?: string;
}

/** A PCI function that is made of parts. */
export interface ModelDescription extends Omit<FunctionDescription, "bars" | "romBytes"> {
  /** For people. */
  readonly name: string;
  /** Counts up when the meaning of the state changes: a state of another version is refused. */
  readonly version: number;
  readonly bars: Readonly<Partial<Record<number, BarDescription>>>;
  /** The expansion ROM's contents. */
  readonly rom?: Uint8Array;
  /** Doorbells that a client may ring without a message. */
  readonly ioEventfds?: readonly IoEventfdDescription[];
  /** State of the model's own, besides what lies behind its BARs: name and bytes. */
  readonly sections?: Sections;
  /** Takes all of the state's memory at once and keeps it, instead of what is touched. */
  readonly prealloc?: boolean;
}

/** The name of the section behind a BAR. */
export const sectionOf = (bar: number | string, { section }: BarDescription): string =>
  section ?? `bar${bar}`;

/** Everything that such a model has to remember. */
export function layoutOf(description: ModelDescription): StateLayout {
  const bars = Object.entries(description.bars).filter(([, shape]) => shape !== undefined);
  return new StateLayout(description, {
    migration: migrationBytes,
    config: configBytes(description.capabilities),
    interrupts: interruptBytes(interruptCounts(description)),
    ...Object.fromEntries(
      bars.map(([bar, shape]) => [sectionOf(bar, shape as BarDescription), shape?.size ?? 0]),
    ),
    ...description.sections,
  });
}
