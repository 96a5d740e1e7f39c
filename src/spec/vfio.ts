/**
 * VFIO as vfio-user carries it: Linux `include/uapi/linux/vfio.h` (7.3) without its ioctl numbers.
 * Sizes are those of the kernel's structures on the wire; pointers are replaced by trailing data.
 */
import { bits } from "../base/bits.ts";
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

/**
 * `struct vfio_precopy_info`: what PRE_COPY has still to send. The kernel answers it to an ioctl of
 * its own (`VFIO_MIG_GET_PRECOPY_INFO`), in PRE_COPY and PRE_COPY_P2P.
 */
export const PrecopyInfo = struct("vfio_precopy_info", 24, {
  argsz: u32,
  flags: u32,
  initialBytes: u53,
  dirtyBytes: u53,
});

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

/** A direct move between two states, and which optional states a device has, or lacks, for it. */
export interface MigArc {
  readonly from: MigState;
  readonly to: MigState;
  /** `MigrationFlags` words. */
  readonly needs: number;
  readonly lacks?: number;
}

const { p2p, preCopy } = MigrationFlags.mask;
const arc = (from: MigState, to: MigState, needs: number, lacks = 0): MigArc => ({
  from,
  to,
  needs,
  lacks,
});

/** All arcs (vfio.h, `enum vfio_device_mig_state`). ERROR is left by a reset only. */
export const migArcs: readonly MigArc[] = [
  arc(MigState.stop, MigState.running, 0, p2p),
  arc(MigState.stop, MigState.stopCopy, 0),
  arc(MigState.stop, MigState.resuming, 0),
  arc(MigState.stopCopy, MigState.stop, 0),
  arc(MigState.resuming, MigState.stop, 0),
  arc(MigState.running, MigState.stop, 0, p2p),
  arc(MigState.running, MigState.runningP2p, p2p),
  arc(MigState.runningP2p, MigState.running, p2p),
  arc(MigState.runningP2p, MigState.stop, p2p),
  arc(MigState.stop, MigState.runningP2p, p2p),
  arc(MigState.running, MigState.preCopy, preCopy),
  arc(MigState.preCopy, MigState.running, preCopy),
  arc(MigState.preCopy, MigState.stopCopy, preCopy, p2p),
  arc(MigState.preCopy, MigState.preCopyP2p, preCopy | p2p),
  arc(MigState.preCopyP2p, MigState.preCopy, preCopy | p2p),
  arc(MigState.preCopyP2p, MigState.runningP2p, preCopy | p2p),
  arc(MigState.runningP2p, MigState.preCopyP2p, preCopy | p2p),
  arc(MigState.preCopyP2p, MigState.stopCopy, preCopy | p2p),
];

/** These have a path, and are refused all the same. */
export const migForbidden: ReadonlyArray<readonly [MigState, MigState]> = [
  [MigState.stopCopy, MigState.preCopy],
  [MigState.stopCopy, MigState.preCopyP2p],
];

/** The kernel's spelling of a state, for people. */
export function migStateName(state: number): string {
  const entry = Object.entries(MigState).find(([, value]) => value === state);
  return entry === undefined
    ? `state ${state}`
    : entry[0].replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();
}

/**
 * `struct vfio_device_migration_info` of the first migration API, which Linux has given up: the
 * head of a region of its own, with data behind it.
 */
export const MigrationInfoV1 = struct("vfio_device_migration_info", 32, {
  deviceState: u32,
  reserved: u32,
  pendingBytes: u53,
  dataOffset: u53,
  dataSize: u53,
});
/** `VFIO_DEVICE_STATE_V1_*`. SAVING with RESUMING is what a device in ERROR says. */
export const DeviceStateV1 = bits({ running: 0, saving: 1, resuming: 2 });
