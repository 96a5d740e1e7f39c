/**
 * VFIO as vfio-user carries it: Linux `include/uapi/linux/vfio.h` (7.3) without its ioctl numbers.
 * Sizes are those of the kernel's structures on the wire; pointers are replaced by trailing data.
 */
import { bits } from "../base/bits.ts";
import type { Moves } from "../base/state-machine.ts";
import { i32, struct, u16, u32, u53 } from "../base/struct.ts";

/** Regions of a PCI device (`VFIO_PCI_*_REGION_INDEX`). */
export const PciRegion = {
  bar0: 0,
  bar1: 1,
  bar2: 2,
  bar3: 3,
  bar4: 4,
  bar5: 5,
  rom: 6,
  config: 7,
  vga: 8,
} as const;
export const pciRegions = 9;

/** Interrupts of a PCI device (`VFIO_PCI_*_IRQ_INDEX`). */
export const PciIrq = { intx: 0, msi: 1, msix: 2, err: 3, req: 4 } as const;
export const pciIrqs = 5;

/** `struct vfio_device_info` without the fields that vfio-user leaves out. */
export const DeviceInfo = struct("vfio_device_info", 16, {
  argsz: u32,
  flags: u32,
  numRegions: u32,
  numIrqs: u32,
});
export const DeviceFlags = bits({ reset: 0, pci: 1 });

/** `struct vfio_region_info`. `offset` is the base offset in the region's fd for mmap. */
export const RegionInfo = struct("vfio_region_info", 32, {
  argsz: u32,
  flags: u32,
  index: u32,
  capOffset: u32,
  size: u53,
  offset: u53,
});
export const RegionFlags = bits({ read: 0, write: 1, mmap: 2, caps: 3 });

/** `struct vfio_info_cap_header` with the head of `vfio_region_info_cap_sparse_mmap`. */
export const SparseMmapCap = struct("vfio_region_info_cap_sparse_mmap", 16, {
  id: u16,
  version: u16,
  next: u32,
  nrAreas: u32,
  reserved: u32,
});
export const SparseMmapArea = struct("vfio_region_sparse_mmap_area", 16, {
  offset: u53,
  size: u53,
});
/** `VFIO_REGION_INFO_CAP_*` ids. */
export const RegionCap = { sparseMmap: 1 } as const;

/** `struct vfio_irq_info`. */
export const IrqInfo = struct("vfio_irq_info", 16, {
  argsz: u32,
  flags: u32,
  index: u32,
  count: u32,
});
export const IrqFlags = bits({ eventfd: 0, maskable: 1, automasked: 2, noresize: 3 });

/** `struct vfio_irq_set`; data follows. */
export const IrqSet = struct("vfio_irq_set", 20, {
  argsz: u32,
  flags: u32,
  index: u32,
  start: u32,
  count: u32,
});
export const IrqSetFlags = bits({
  dataNone: 0,
  dataBool: 1,
  dataEventfd: 2,
  actionMask: 3,
  actionUnmask: 4,
  actionTrigger: 5,
});
export const irqSetData =
  IrqSetFlags.mask.dataNone | IrqSetFlags.mask.dataBool | IrqSetFlags.mask.dataEventfd;
export const irqSetAction =
  IrqSetFlags.mask.actionMask | IrqSetFlags.mask.actionUnmask | IrqSetFlags.mask.actionTrigger;

/** `struct vfio_device_feature`; the feature's own data follows. */
export const DeviceFeature = struct("vfio_device_feature", 8, { argsz: u32, flags: u32 });
export const FeatureFlags = bits({ index: [15, 0], get: 16, set: 17, probe: 18 });

/** Feature numbers (`VFIO_DEVICE_FEATURE_*`) that make sense over a socket. */
export const Feature = {
  migration: 1,
  migDeviceState: 2,
  dmaLoggingStart: 6,
  dmaLoggingStop: 7,
  dmaLoggingReport: 8,
  migDataSize: 9,
} as const;

/** `struct vfio_device_feature_migration`: which optional states the device has. */
export const FeatureMigration = struct("vfio_device_feature_migration", 8, { flags: u53 });
export const MigrationFlags = bits({ stopCopy: 0, p2p: 1, preCopy: 2 });

/** `struct vfio_device_feature_mig_state`; `dataFd` is not used over a socket. */
export const FeatureMigState = struct("vfio_device_feature_mig_state", 8, {
  deviceState: u32,
  dataFd: i32,
});

/** `struct vfio_device_feature_dma_logging_control`, its ranges following in place of a pointer. */
export const DmaLoggingControl = struct("vfio_device_feature_dma_logging_control", 16, {
  pageSize: u53,
  numRanges: u32,
  reserved: u32,
});
/** `struct vfio_device_feature_dma_logging_range`. */
export const DmaLoggingRange = struct("vfio_device_feature_dma_logging_range", 16, {
  iova: u53,
  length: u53,
});
/** `struct vfio_device_feature_dma_logging_report`, its bitmap following in place of a pointer. */
export const DmaLoggingReport = struct("vfio_device_feature_dma_logging_report", 24, {
  iova: u53,
  length: u53,
  pageSize: u53,
});

/** `enum vfio_device_mig_state`. */
export const MigState = {
  error: 0,
  stop: 1,
  running: 2,
  stopCopy: 3,
  resuming: 4,
  runningP2p: 5,
  preCopy: 6,
  preCopyP2p: 7,
} as const;
export type MigState = (typeof MigState)[keyof typeof MigState];

/**
 * Direct moves of a device without P2P states. ERROR is left by a reset only. The order in
 * RUNNING's
 * row makes RUNNING→STOP_COPY go through STOP (vfio.h, "arcs").
 */
export const migMoves: Moves<MigState> = new Map<MigState, readonly MigState[]>([
  [MigState.stop, [MigState.running, MigState.stopCopy, MigState.resuming]],
  [MigState.running, [MigState.stop, MigState.preCopy]],
  [MigState.stopCopy, [MigState.stop]],
  [MigState.resuming, [MigState.stop]],
  [MigState.preCopy, [MigState.running, MigState.stopCopy]],
]);

/** The saving states may be the end of a composed move but never a stage of it. */
export const migInterior = (state: MigState): boolean =>
  state !== MigState.preCopy && state !== MigState.stopCopy;

/** STOP_COPY→PRE_COPY has a path, and is refused all the same. */
export const migForbidden: ReadonlyArray<readonly [MigState, MigState]> = [
  [MigState.stopCopy, MigState.preCopy],
];

/** The kernel's spelling of a state, for people. */
export function migStateName(state: number): string {
  const entry = Object.entries(MigState).find(([, value]) => value === state);
  return entry === undefined
    ? `state ${state}`
    : entry[0].replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();
}
