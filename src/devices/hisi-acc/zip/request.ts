import {
  ZipBuffer,
  ZipDw7,
  ZipDw8,
  ZipDw9,
  ZipQueue,
  ZipSqe,
  zipBytesMax,
  zipSqeType,
  zipWindowBits,
} from "../../../spec/hisi-zip.ts";
import { zipFormats } from "./formats.ts";

/**
 * The generic deflate of Linux decompresses with a 2 KiB window, so a guest that falls back to it
 * must not be given streams that look further back.
 */
const kernelWindowBits = 11;

const at = ZipSqe.offset;

/** A submission queue entry as this engine understands it. */
export interface ZipRequestFields {
  readonly compresses: boolean;
  readonly requestType: number;
  readonly windowBits: number;
  readonly isList: boolean;
  readonly sourceAddress: number;
  /** Bytes of the source list to skip. */
  readonly sourceOffset: number;
  readonly sourceBytes: number;
  readonly targetAddress: number;
  readonly targetOffset: number;
  /** Bytes of output at most. */
  readonly targetBytes: number;
}

const windowBitsOf = (requestType: number, window: number): number | undefined =>
  zipFormats[requestType]?.trailerBytes === 0 ? kernelWindowBits : zipWindowBits[window];

/**
 * Null for a request that this engine does not do: of another kind, too long, or part of a stream.
 */
export function parseRequest(sqe: DataView, algType: number): ZipRequestFields | null {
  const dw7 = ZipDw7.unpack(sqe.getUint32(at.dw7, true));
  const { destOffset } = ZipDw8.unpack(sqe.getUint32(at.dw8, true));
  const { requestType, bufferType, window } = ZipDw9.unpack(sqe.getUint32(at.dw9, true));
  const sourceBytes = sqe.getUint32(at.inputDataLength, true);
  const windowBits = windowBitsOf(requestType, window);
  const directed = algType === ZipQueue.compress || algType === ZipQueue.decompress;
  const buffers = bufferType === ZipBuffer.flat || bufferType === ZipBuffer.sgl;
  if (zipFormats[requestType] === undefined || windowBits === undefined) return null;
  if (dw7.sqeType !== zipSqeType || dw7.stateful || !directed || !buffers) return null;
  if (sourceBytes > zipBytesMax) return null;
  const isList = bufferType === ZipBuffer.sgl;
  return {
    compresses: algType === ZipQueue.compress,
    requestType,
    windowBits,
    isList,
    sourceAddress: ZipSqe.fields.sourceAddr.read(sqe, at.sourceAddr),
    sourceOffset: isList ? dw7.sourceOffset : 0,
    sourceBytes,
    targetAddress: ZipSqe.fields.destAddr.read(sqe, at.destAddr),
    targetOffset: isList ? destOffset : 0,
    targetBytes: Math.min(sqe.getUint32(at.destAvailOut, true), zipBytesMax),
  };
}
