import { crc32 } from "node:zlib";
import { ZipRequest } from "../../../spec/hisi-zip.ts";
import { adler32 } from "./checksums.ts";

/** A stream format: what comes behind the deflate stream that all of them are. */
export interface ZipFormat {
  readonly trailerBytes: number;
  /** Writes the trailer of the uncompressed `plain` to `view` from `at`. */
  writeTrailer(plain: Uint8Array, view: DataView, at: number): void;
}

/**
 * By request type. The header of a zlib or gzip stream is not here: drivers write it themselves,
 * skip it themselves, and give the device what lies behind it.
 */
export const zipFormats: Readonly<Record<number, ZipFormat>> = {
  [ZipRequest.deflate]: { trailerBytes: 0, writeTrailer: () => {} },
  // RFC 1950, section 2.2.
  [ZipRequest.zlib]: {
    trailerBytes: 4,
    writeTrailer: (plain, view, at) => view.setUint32(at, adler32(plain), false),
  },
  // RFC 1952, section 2.3.1: CRC32 and ISIZE, the length modulo 2^32.
  [ZipRequest.gzip]: {
    trailerBytes: 8,
    writeTrailer(plain, view, at) {
      view.setUint32(at, crc32(plain), true);
      view.setUint32(at + 4, plain.length, true);
    },
  },
};
