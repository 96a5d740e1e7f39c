/**
 * The vfio-user protocol 0.x: QEMU 11.1 `docs/interop/vfio-user.rst`. Structures are packed and
 * little-endian; offsets count from the end of the header.
 */
import { bits } from "../base/bits.ts";
import { struct, u16, u32, u53, u64 } from "../base/struct.ts";

/**
 * Commands ("Message format", table of commands). 14 was DIRTY_PAGES of the first migration API.
 */
export const Command = {
  version: 1,
  dmaMap: 2,
  dmaUnmap: 3,
  deviceGetInfo: 4,
  deviceGetRegionInfo: 5,
  deviceGetRegionIoFds: 6,
  deviceGetIrqInfo: 7,
  deviceSetIrqs: 8,
  regionRead: 9,
  regionWrite: 10,
  dmaRead: 11,
  dmaWrite: 12,
  deviceReset: 13,
  regionWriteMulti: 15,
  deviceFeature: 16,
  migDataRead: 17,
  migDataWrite: 18,
} as const;
export type Command = (typeof Command)[keyof typeof Command];

/**
 * The document's spelling of a command: `DEVICE_GET_INFO`; unknown numbers survive as `command 99`.
 */
export function commandName(command: number): string {
  const entry = Object.entries({ ...Command, ...OwnCommand }).find(
    ([, value]) => value === command,
  );
  return entry === undefined
    ? `command ${command}`
    : entry[0].replace(/([a-z])([A-Z])/g, "$1_$2").toUpperCase();
}

/** "Header": every message starts with it. `error` is an errno when the error flag is set. */
export const Header = struct("vfio_user_header", 16, {
  messageId: u16,
  command: u16,
  messageSize: u32,
  flags: u32,
  error: u32,
});
export const HeaderFlags = bits({ type: [3, 0], noReply: 4, error: 5 });
export const MessageType = { command: 0, reply: 1 } as const;

/** "VFIO_USER_VERSION": capabilities follow as a NUL-terminated JSON text. */
export const Version = struct("vfio_user_version", 4, { major: u16, minor: u16 });

/** "VFIO_USER_DMA_MAP". `offset` is where the mapping starts in the fd that came along. */
export const DmaMap = struct("vfio_user_dma_map", 32, {
  argsz: u32,
  flags: u32,
  offset: u53,
  address: u53,
  size: u53,
});
/** `mmap` and `fileIo` say how the fd may be used; neither set means: mmap if an fd came. */
export const DmaMapFlags = bits({ read: 0, write: 1, mmap: 2, fileIo: 3 });

/** "VFIO_USER_DMA_UNMAP". */
export const DmaUnmap = struct("vfio_user_dma_unmap", 24, {
  argsz: u32,
  flags: u32,
  address: u53,
  size: u53,
});
/** As the kernel and QEMU number them (`VFIO_DMA_UNMAP_FLAG_*`). */
export const DmaUnmapFlags = bits({ getDirtyBitmap: 0, all: 1 });
/**
 * `struct vfio_bitmap` behind a DMA_UNMAP with `getDirtyBitmap`; the bitmap follows in the reply.
 */
export const DmaUnmapBitmap = struct("vfio_user_bitmap", 16, { pageSize: u53, size: u53 });

/** "VFIO_USER_DEVICE_GET_REGION_IO_FDS". */
export const RegionIoFds = struct("vfio_user_region_io_fds", 16, {
  argsz: u32,
  flags: u32,
  index: u32,
  count: u32,
});
/** One ioeventfd of a region; 40 bytes as the document has it (the C library sends 48). */
export const SubRegionIoEventfd = struct("vfio_user_sub_region_ioeventfd", 40, {
  offset: u53,
  size: u53,
  fdIndex: u32,
  type: u32,
  flags: u32,
  padding: u32,
  datamatch: u64,
});
export const IoFdType = { ioeventfd: 0, ioregionfd: 1 } as const;
export const IoEventfdFlags = bits({ datamatch: 0, pio: 1 });

/**
 * "VFIO_USER_REGION_READ" and "VFIO_USER_REGION_WRITE"; data follows a write and a read's reply.
 */
export const RegionAccess = struct("vfio_user_region_access", 16, {
  offset: u53,
  region: u32,
  count: u32,
});

/** "VFIO_USER_DMA_READ" and "VFIO_USER_DMA_WRITE", sent by the server. */
export const DmaAccess = struct("vfio_user_dma_access", 16, { address: u53, count: u53 });

/** "VFIO_USER_REGION_WRITE_MULTI": the head, then `count` entries of up to 8 bytes each. */
export const RegionWriteMulti = struct("vfio_user_write_multi", 8, { count: u53 });
export const RegionWriteMultiEntry = struct("vfio_user_write_multi_entry", 24, {
  offset: u53,
  region: u32,
  count: u32,
  data: u64,
});

/** "VFIO_USER_MIG_DATA_READ" and "VFIO_USER_MIG_DATA_WRITE"; data follows. */
export const MigData = struct("vfio_user_mig_data", 8, { argsz: u32, size: u32 });

/**
 * Features of DEVICE_FEATURE that are this project's own: the document has nothing like them, and
 * Linux, which counts from 0, will not come near. A server serves them to a client that has agreed
 * on them in VERSION, under `ownCapability`, and to nobody else.
 */
export const OwnFeature = {
  /** GET `struct vfio_precopy_info`, as VFIO_MIG_GET_PRECOPY_INFO. Agreed as `precopy_info`. */
  precopyInfo: 0x8000,
  /**
   * GET a JSON text: what the stream of MIG_DATA_READ says first of itself, for whoever passes it
   * on. Of a device whose stream is this project's, for a client that has agreed on `irq_messages`.
   */
  compatibility: 0x8001,
} as const;
/** The capability key that holds what is this project's own: `{"precopy_info": true}`. */
export const ownCapability = "vfio_ferry";

/**
 * Commands that are this project's own, agreed on under `ownCapability` too.
 */
export const OwnCommand = {
  /**
   * Server to client, never answered: 1 to `interruptEntriesMax` of `Interrupt`. Agreed as
   * `irq_messages`: then DEVICE_SET_IRQS with DATA_EVENTFD and ACTION_TRIGGER carries a byte a
   * vector in place of its descriptor, 1 to have messages of it and 0 not to.
   */
  interrupt: 0x8000,
} as const;
/** A vector that was raised `count` times. */
export const Interrupt = struct("ferry_interrupt", 12, { index: u32, vector: u32, count: u32 });
export const interruptEntriesMax = 512;

/** The fd list entry of an unassigned eventfd in a reply. */
export const noFdIndex = 0xffff_ffff;

/** "Negotiation": capability keys with the document's defaults. */
export const capabilityDefaults = {
  max_msg_fds: 1,
  max_data_xfer_size: 1_048_576,
  max_dma_maps: 65_535,
  pgsizes: 4096,
  write_multiple: false,
} as const;
