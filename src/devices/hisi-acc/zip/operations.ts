/** The computations of ZIP, for the device's thread and for compute workers. */
import { constants, deflateRawSync, type InputType, inflateRawSync } from "node:zlib";
import { ZipStatus } from "../../../spec/hisi-zip.ts";
import { type ZipFormat, zipFormats } from "./formats.ts";

export const compressOperation = "zip-compress";
export const decompressOperation = "zip-decompress";

/** One request's arithmetic. */
export interface ZipWork {
  /** A key of `zipFormats`. */
  readonly requestType: number;
  readonly source: Uint8Array;
  /** Of the output of a compression. */
  readonly windowBits: number;
  /** Bytes that the output may have; at least 1. */
  readonly outputMax: number;
}

/** What became of it; `output` is empty unless the status is a success. */
export interface ZipResult {
  readonly status: ZipStatus;
  /** Bytes of the source that belong to the stream. */
  readonly consumed: number;
  readonly output: Uint8Array;
}

/**
 * An accelerator is there to be fast; the time that this level takes depends little on the data.
 */
const level = constants.Z_BEST_SPEED;
/** A deflate stream may refer back so far, whoever made it. */
const inflateWindowBits = 15;
/** Room behind the last byte of output, without which zlib is asked once more in vain. */
const slackBytes = 64;
/** Stored blocks need 5 bytes each; the smallest are what fits zlib's pending buffer. */
const storedOverhead = (bytes: number): number => Math.ceil(bytes / 4096) * 8 + slackBytes;

const nothing = new Uint8Array(0);
const failed = (status: ZipStatus): ZipResult => ({ status, consumed: 0, output: nothing });

const formatOf = (requestType: number): ZipFormat => zipFormats[requestType] as ZipFormat;

/** What a call of node:zlib came to, when it came to nothing. */
function statusOf(thrown: unknown): ZipStatus {
  const tooLong = (thrown as NodeJS.ErrnoException).code === "ERR_BUFFER_TOO_LARGE";
  return tooLong ? ZipStatus.destinationTooSmall : ZipStatus.notDecodable;
}

/** Deflates into at most `outputMax` bytes, trailer included. */
export function compress({ requestType, source, windowBits, outputMax }: ZipWork): ZipResult {
  const { trailerBytes, writeTrailer } = formatOf(requestType);
  const bodyMax = outputMax - trailerBytes;
  if (bodyMax <= 0) return failed(ZipStatus.destinationTooSmall);
  let body: Uint8Array;
  try {
    const chunkSize = Math.min(source.length + storedOverhead(source.length), bodyMax + slackBytes);
    body = deflateRawSync(source, { level, windowBits, maxOutputLength: bodyMax, chunkSize });
  } catch (thrown) {
    return failed(statusOf(thrown));
  }
  let output = body;
  if (trailerBytes > 0) {
    output = new Uint8Array(body.length + trailerBytes);
    output.set(body);
    writeTrailer(source, new DataView(output.buffer), body.length);
  }
  const grown = output.length > source.length;
  const status = grown ? ZipStatus.negativeCompression : ZipStatus.ok;
  return { status, consumed: source.length, output };
}

/** With `info` the output comes along with the engine, which knows how much it was fed. */
interface Inflated {
  readonly buffer: Uint8Array;
  readonly engine: { readonly bytesWritten: number };
}

function inflate(source: InputType, outputMax: number): Inflated {
  const options = {
    windowBits: inflateWindowBits,
    maxOutputLength: outputMax,
    chunkSize: outputMax + slackBytes,
    info: true,
  };
  return inflateRawSync(source, options) as unknown as Inflated;
}

/** Inflates one stream into at most `outputMax` bytes. */
export function decompress({ requestType, source, outputMax }: ZipWork): ZipResult {
  let inflated: Inflated;
  try {
    inflated = inflate(source, outputMax);
  } catch (thrown) {
    return failed(statusOf(thrown));
  }
  const { buffer: output, engine } = inflated;
  const { trailerBytes, writeTrailer } = formatOf(requestType);
  const consumed = engine.bytesWritten + trailerBytes;
  if (consumed > source.length) return failed(ZipStatus.notDecodable);
  const trailer = new Uint8Array(trailerBytes);
  writeTrailer(output, new DataView(trailer.buffer), 0);
  const matches = trailer.every((byte, at) => byte === source[engine.bytesWritten + at]);
  return matches ? { status: ZipStatus.ok, consumed, output } : failed(ZipStatus.checksumMismatch);
}

export const zipOperations = {
  [compressOperation]: compress,
  [decompressOperation]: decompress,
} as const;
