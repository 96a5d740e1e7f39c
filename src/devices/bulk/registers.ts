/** The data sheet of the bulk device: what its two functions are driven by. */
import { registers } from "../../base/registers.ts";
import { array, struct, u8, u32, u53 } from "../../base/struct.ts";

/** What the guest drives: BAR0 of the function that it is given. */
export const Bulk = registers("bulk", 4096, {
  MAGIC: { at: 0x00, access: "ro", reset: 0x6b6c7562, doc: '"bulk"' },
  CAUSE: { at: 0x04, access: "w1c", bits: { done: 0 }, doc: "why it interrupts" },
  MEMORY_BYTES: { at: 0x08, size: 8, access: "ro", doc: "on-board memory" },
  WINDOW: { at: 0x10, access: "hook", doc: "which 64 KiB of the memory BAR2 shows" },
  COMMAND: { at: 0x14, access: "hook", doc: "1 fill, 2 guest to board, 3 board to guest" },
  SEQUENCE: { at: 0x18, access: "rw", doc: "the driver's number of the next command" },
  COMPLETED: { at: 0x1c, access: "ro", doc: "the number of the last command that ended" },
  STATUS: { at: 0x20, access: "ro", doc: "0 or an errno; EINPROGRESS while one runs" },
  VALUE: { at: 0x24, access: "rw", doc: "the byte to fill with" },
  BOARD_OFFSET: { at: 0x28, size: 8, access: "rw", doc: "where in on-board memory" },
  LENGTH: { at: 0x30, size: 8, access: "rw", doc: "bytes" },
  GUEST_ADDRESS: { at: 0x38, size: 8, access: "rw", doc: "where in guest memory" },
  DONE: { at: 0x40, size: 8, access: "ro", doc: "bytes of the command that are done" },
});

/** Values of `COMMAND`. */
export const BulkCommand = { fill: 1, toBoard: 2, toGuest: 3 } as const;

/** What migration drives: BAR0 of the other function, in an IOMMU group of its own. */
export const BulkControl = registers("bulk control", 4096, {
  MAGIC: { at: 0x00, access: "ro", reset: 0x636b6c62, doc: '"blkc"' },
  MEMORY_BYTES: { at: 0x08, size: 8, access: "ro", doc: "on-board memory" },
  PAUSE: { at: 0x10, access: "hook", doc: "0 run, 1 begin nothing, 2 stand still" },
  PAUSED: { at: 0x14, access: "ro", doc: "which of these is so" },
  TRACKING: { at: 0x18, access: "hook", doc: "1 notes changes from here on, 0 forgets them" },
  DIRTY_PAGES: { at: 0x1c, access: "ro", doc: "pages that are noted and were not taken" },
  COMMAND: { at: 0x20, access: "hook", doc: "one of BulkControlCommand" },
  RESULT: { at: 0x24, access: "ro", doc: "0 or an errno; EINPROGRESS while one runs" },
  BOARD_OFFSET: { at: 0x28, size: 8, access: "rw", doc: "where in on-board memory" },
  LENGTH: { at: 0x30, size: 8, access: "rw", doc: "bytes" },
  HOST_ADDRESS: { at: 0x38, size: 8, access: "rw", doc: "where in the host's memory" },
  ZERO: { at: 0x40, access: "ro", doc: "1 when what was taken is nothing but zeroes" },
});

/** Values of the control function's `COMMAND`. */
export const BulkControlCommand = {
  /**
   * Finds pages that changed, behind those that were found last, and says where they are; moves
   * them to HOST_ADDRESS, at most LENGTH bytes, unless they are zero. ENOENT when there are none.
   */
  take: 1,
  /**
   * Moves LENGTH bytes, at most a MiB, from HOST_ADDRESS to the board. EBUSY unless the device
   * stands still.
   */
  load: 2,
  /** Makes LENGTH bytes of the board zero, at most `bulkZeroBytesMax`, likewise. */
  zero: 3,
  /** Makes all of the board zero, likewise. */
  clear: 4,
  /** Moves what is not on the board, a `BulkFunctionState`, to HOST_ADDRESS. */
  saveFunction: 5,
  /** Moves it from there into the device. EINVAL when it makes no sense; then nothing was done. */
  loadFunction: 6,
} as const;

/** Values of `PAUSE`. */
export const BulkPause = { run: 0, beginNothing: 1, standStill: 2 } as const;

/** A page of on-board memory, as changes are noted. */
export const bulkPageBytes = 4096;

/** Zeroes that are found or made at once. */
export const bulkZeroBytesMax = 64 << 20;

/** A command of the guest's from its start to its end: what the registers said at its start. */
export const BulkRequest = struct("bulk request", 48, {
  /** One of `BulkCommand`; 0 when there is none. */
  command: u32,
  value: u32,
  sequence: u32,
  reserved: u32,
  boardOffset: u53,
  length: u53,
  guestAddress: u53,
  done: u53,
});

/** Everything of the guest's function that is neither on the board nor in configuration space. */
export const BulkFunctionState = struct("bulk function state", 128, {
  /** `Bulk`, as far as there are registers. */
  registers: array(u8, 72),
  request: array(u8, BulkRequest.size),
  /** Vectors that were raised and not sent. */
  pending: u32,
  reserved: u32,
});
