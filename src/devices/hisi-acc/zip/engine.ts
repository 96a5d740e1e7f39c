/** The ZIP engine: deflate streams, as the kernel driver `hisi_zip` and UADK ask for them. */
import {
  ZipDw3,
  ZipSqe,
  ZipStatus,
  zipCapabilities,
  zipClassCode,
  zipDeviceId,
} from "../../../spec/hisi-zip.ts";
import { inlineCostMax } from "../compute.ts";
import type {
  ComputeService,
  Engine,
  EngineDescription,
  GuestReader,
  GuestWrite,
  Outcome,
} from "../engine.ts";
import { Segments } from "../sgl.ts";
import { compressOperation, decompressOperation, type ZipResult } from "./operations.ts";
import { parseRequest, type ZipRequestFields } from "./request.ts";

/** Nanoseconds that arithmetic takes: for each request, each byte of input and each of output. */
const baseCost = 40_000;
const compressCostPerByte = 16;
const decompressCostPerInputByte = 4;
const decompressCostPerOutputByte = 1;
/** Bytes of output that a byte of a deflate stream can make at most. */
const expansionMax = 1032;

/** Segments of jobs that are kept for the next requests. */
const keptJobs = 8;

/** A source up to this length is read into memory that the job keeps. */
const keptSourceBytes = 131_072;

/** Where the source and the output of a request in progress lie, and memory for the source. */
class ZipJob {
  readonly source = new Segments();
  readonly target = new Segments();
  #kept = new Uint8Array(0);

  /** Memory for `length` bytes; what is handed over to a compute worker is never kept. */
  room(length: number, isHandedOver: boolean): Uint8Array {
    if (isHandedOver || length > keptSourceBytes) return Buffer.allocUnsafeSlow(length);
    if (this.#kept.length < length) this.#kept = new Uint8Array(keptSourceBytes);
    return this.#kept.subarray(0, length);
  }
}

const statusBytes = ZipSqe.offset.inputDataLength;

function outcome(
  sqe: DataView,
  status: ZipStatus,
  consumed: number,
  produced: number,
  writes: readonly GuestWrite[],
): Outcome {
  const bytes = new Uint8Array(statusBytes);
  const view = new DataView(bytes.buffer);
  const { compDataLength } = ZipSqe.offset;
  view.setUint32(ZipSqe.offset.consumed, consumed, true);
  view.setUint32(ZipSqe.offset.produced, produced, true);
  view.setUint32(compDataLength, sqe.getUint32(compDataLength, true), true);
  view.setUint32(ZipSqe.offset.dw3, ZipDw3.pack({ status, lastBlock: produced > 0 }), true);
  return { writes, status: { offset: ZipSqe.offset.consumed, bytes } };
}

const refusal = (sqe: DataView, status: ZipStatus): Outcome => outcome(sqe, status, 0, 0, []);

/** Finds a buffer of the request's; 0, a positive `ZipStatus`, or a negated errno. */
function* locate(
  memory: GuestReader,
  segments: Segments,
  isList: boolean,
  address: number,
  flatBytes: number,
): Generator<void, number> {
  segments.setFlat(address, flatBytes);
  if (!isList) return 0;
  const result = yield* segments.readList(memory, address);
  return result > 0 ? ZipStatus.unsupported : result;
}

function costOf({ compresses, sourceBytes }: ZipRequestFields, outputMax: number): number {
  if (compresses) return baseCost + sourceBytes * compressCostPerByte;
  const output = Math.min(outputMax, sourceBytes * expansionMax);
  return baseCost + sourceBytes * decompressCostPerInputByte + output * decompressCostPerOutputByte;
}

/** Reads ZIP's requests, has them computed and writes their results. */
export class ZipEngine implements Engine {
  readonly description: EngineDescription = {
    name: "hisi-zip",
    deviceId: zipDeviceId,
    classCode: zipClassCode,
    sqeBytes: ZipSqe.size,
    tagAt: ZipSqe.offset.tag,
    capabilities: zipCapabilities,
  };
  readonly #jobs: ZipJob[] = [];

  /**
   * As `Engine.serve`. A job whose request is aborted is not used again: an answer that a VMM still
   * owes may yet be written into its memory.
   */
  *serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const request = parseRequest(sqe, algType);
    if (request === null) return refusal(sqe, ZipStatus.unsupported);
    const job = this.#jobs.pop() ?? new ZipJob();
    const result = yield* this.#run(sqe, request, job, memory, compute);
    if (this.#jobs.length < keptJobs) this.#jobs.push(job);
    return result;
  }

  *#run(
    sqe: DataView,
    request: ZipRequestFields,
    job: ZipJob,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const { source, target } = job;
    const { isList, sourceAddress, sourceOffset, sourceBytes } = request;
    const { targetAddress, targetOffset, targetBytes } = request;
    let found = yield* locate(memory, source, isList, sourceAddress, sourceBytes);
    if (found === 0) found = yield* locate(memory, target, isList, targetAddress, targetBytes);
    if (found === 0 && sourceOffset + sourceBytes > source.totalBytes) {
      found = ZipStatus.unsupported;
    }
    const outputMax = Math.min(targetBytes, target.totalBytes - targetOffset);
    if (found === 0 && outputMax <= 0) found = ZipStatus.destinationTooSmall;
    if (found !== 0) return found < 0 ? found : refusal(sqe, found as ZipStatus);

    const cost = costOf(request, outputMax);
    const bytes = job.room(sourceBytes, cost > inlineCostMax);
    const read = yield* source.gather(memory, sourceOffset, bytes, 0, sourceBytes);
    if (read < 0) return read;
    const { compresses, requestType, windowBits } = request;
    const result = yield* compute.compute(cost, {
      operation: compresses ? compressOperation : decompressOperation,
      input: { requestType, source: bytes, windowBits, outputMax },
    });
    if (typeof result === "number") return refusal(sqe, ZipStatus.unsupported);
    const { status, consumed, output } = result as ZipResult;
    const writes: GuestWrite[] = [];
    target.scatter(targetOffset, output, 0, output.length, writes);
    return outcome(sqe, status, consumed, output.length, writes);
  }
}
