/**
 * The HiSilicon ZIP compression accelerator, revision V3: Linux 6.12
 * `drivers/crypto/hisilicon/zip/zip.h` and `zip_crypto.c`; the names of fields that the kernel
 * leaves alone are those of UADK's `drv/hisi_comp.c`.
 */
import { bits } from "../base/bits.ts";
import { struct, u32, u53, u64 } from "../base/struct.ts";

/** PCI device id of the VF, and its class: processing accelerator. */
export const zipDeviceId = 0xa251;
export const zipClassCode = 0x120000;

/**
 * The submission queue entry. The device writes `consumed`, `produced`, `compDataLength` and `dw3`;
 * `tag` is the driver's own.
 */
export const ZipSqe = struct("hisi_zip_sqe", 128, {
  consumed: u32,
  produced: u32,
  compDataLength: u32,
  dw3: u32,
  inputDataLength: u32,
  dw5: u32,
  dw6: u32,
  dw7: u32,
  dw8: u32,
  dw9: u32,
  dw10: u32,
  dw11: u32,
  dw12: u32,
  dw13: u32,
  destAvailOut: u32,
  ctxDw0: u32,
  compHeadAddr: u53,
  sourceAddr: u53,
  destAddr: u53,
  streamCtxAddr: u53,
  literalsAddr: u53,
  tag: u64,
  ctxDw1: u32,
  ctxDw2: u32,
  isize: u32,
  checksum: u32,
});

/** `dw3`. */
export const ZipDw3 = bits({ status: [7, 0], lastBlock: 8 });
/**
 * `dw7`. `flush` is 1 for the last piece of a stream; the kernel's requests are whole streams with
 * 0.
 */
export const ZipDw7 = bits({
  sourceOffset: [23, 0],
  flush: 25,
  stateful: 26,
  newStream: 27,
  sqeType: [31, 28],
});
/** `dw8`. */
export const ZipDw8 = bits({ destOffset: [23, 0] });
/** `dw9`. */
export const ZipDw9 = bits({ requestType: [7, 0], bufferType: [11, 8], window: [15, 12] });

/** Values of `ZipDw9.requestType` that make streams; 4 is LZ4, and 0x40 to 0x43 are bare LZ77. */
export const ZipRequest = { deflate: 1, zlib: 2, gzip: 3 } as const;
/** Values of `ZipDw9.bufferType`. */
export const ZipBuffer = { flat: 0, sgl: 1 } as const;
/** The value of `ZipDw7.sqeType` for revision V3. */
export const zipSqeType = 3;
/** The SQ context's algorithm type: the direction of all requests of a queue. */
export const ZipQueue = { compress: 0, decompress: 1 } as const;

/** `ZipDw9.window` to what holds such a window: 4, 8, 16, 24 and 32 KiB as powers of two. */
export const zipWindowBits = [12, 13, 14, 15, 15] as const;

/**
 * Values of `ZipDw3.status`. The kernel's driver takes `ok` and `negativeCompression` (the output
 * is longer than the input) for success and everything else for EIO. `notDecodable` and
 * `unsupported` are this model's own choice of number; no driver looks at them.
 */
export const ZipStatus = {
  ok: 0x00,
  notDecodable: 0x03,
  negativeCompression: 0x0d,
  destinationTooSmall: 0x0e,
  checksumMismatch: 0x10,
  unsupported: 0xff,
} as const;
export type ZipStatus = (typeof ZipStatus)[keyof typeof ZipStatus];

/** The longest source and destination of a request (`HZ_MAX_SIZE`). */
export const zipBytesMax = 8 * 1024 * 1024;

/** Engine capability registers of BAR2: those of revision V3. */
export const zipCapabilities: Readonly<Record<number, number>> = Object.fromEntries([
  [0x3124, 0x7c77],
  [0x3128, 0x6c77],
  [0x312c, 0x8],
  [0x3130, 0x1ffe],
  [0x3134, 0x7fe],
  [0x3138, 0x1],
  [0x313c, 0x1205_0203],
  [0x3140, 0x001c_0003],
  [0x3144, 0x30],
  [0x3148, 0x3f],
  [0x314c, 0xd5],
  [0x3150, 0xd5],
  [0x3154, 0x2a],
  [0x3158, 0x2a],
  [0x315c, 0x2a],
]);
