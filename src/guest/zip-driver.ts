import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import {
  ZipBuffer,
  ZipDw3,
  ZipDw7,
  ZipDw9,
  ZipQueue,
  ZipRequest,
  ZipSqe,
  ZipStatus,
  zipDeviceId,
  zipSqeType,
} from "../spec/hisi-zip.ts";
import type { Call, Decode } from "./call.ts";
import type { DmaArea } from "./dma-area.ts";
import { type EngineDriverOptions, engineDefaults } from "./engine-options.ts";
import { QmDriver } from "./qm-driver.ts";
import type { QueuePair } from "./queue-pair.ts";
import { sglBytes, writeSgl } from "./sgl.ts";

/** Data that does not shrink becomes longer by so much at most: headers of stored blocks. */
const growth = (bytes: number): number => 256 + Math.ceil(bytes / 64);
/** What buffers and lists are rounded up to. */
const slackBytes = 512;
const offset = ZipSqe.offset;

/** Writes a request for one whole raw DEFLATE stream, in either direction. */
function encode(
  source: Uint8Array,
  outputBytesMax: number,
  output: Uint8Array | null,
  sqe: DataView,
  at: number,
  memory: DmaArea,
): Decode<Uint8Array> {
  const target = memory.reserve(outputBytesMax);
  const requestType = ZipRequest.deflate;
  const set = (field: number, value: number): void => sqe.setUint32(at + field, value, true);
  set(offset.inputDataLength, source.length);
  set(offset.destAvailOut, outputBytesMax);
  set(offset.dw7, ZipDw7.pack({ sqeType: zipSqeType }));
  set(offset.dw9, ZipDw9.pack({ requestType, bufferType: ZipBuffer.sgl }));
  const { sourceAddr, destAddr } = ZipSqe.fields;
  sourceAddr.write(sqe, at + offset.sourceAddr, writeSgl(memory, memory.place(source)));
  destAddr.write(sqe, at + offset.destAddr, writeSgl(memory, target));
  return () => {
    const produced = sqe.getUint32(at + offset.produced, true);
    const { status } = ZipDw3.unpack(sqe.getUint32(at + offset.dw3, true));
    const isGood = status === ZipStatus.ok || status === ZipStatus.negativeCompression;
    if (isGood && produced <= outputBytesMax) {
      const result = output?.subarray(0, produced) ?? Buffer.allocUnsafeSlow(produced);
      return memory.copyTo(result, target, 0);
    }
    throw new FerryError("request-failed", `ZIP refused the request: status ${status}.`);
  };
}

/** Drives ZIP, the compression accelerator: a queue for each direction. */
export class ZipDriver {
  readonly qm: QmDriver;
  readonly #compress: QueuePair;
  readonly #decompress: QueuePair;

  constructor(device: VfioDevice, options: EngineDriverOptions = {}) {
    const { depth, dataBytesMax } = { ...engineDefaults, ...options };
    this.qm = new QmDriver(device, zipDeviceId, options);
    const longest = dataBytesMax + growth(dataBytesMax);
    const requestBytes = 2 * (longest + sglBytes(longest) + slackBytes);
    const entry = { sqeBytes: ZipSqe.size, tagAt: offset.tag };
    const queue = { ...entry, depth, requestBytes };
    this.#compress = this.qm.createQueue({ ...queue, algType: ZipQueue.compress });
    this.#decompress = this.qm.createQueue({ ...queue, algType: ZipQueue.decompress });
  }

  /** Compresses to a raw DEFLATE stream, into `output` if it is given: no longer than that. */
  submitDeflate(data: Uint8Array, output: Uint8Array | null = null): Call<Uint8Array> {
    const outputBytesMax = output?.length ?? data.length + growth(data.length);
    return this.#compress.submit((sqe, at, memory) =>
      encode(data, outputBytesMax, output, sqe, at, memory),
    );
  }

  /** Decompresses a raw DEFLATE stream of at most `outputBytesMax` bytes of data, likewise. */
  submitInflate(
    stream: Uint8Array,
    outputBytesMax: number,
    output: Uint8Array | null = null,
  ): Call<Uint8Array> {
    return this.#decompress.submit((sqe, at, memory) =>
      encode(stream, outputBytesMax, output, sqe, at, memory),
    );
  }

  deflate(data: Uint8Array): Uint8Array {
    return this.qm.wait(this.submitDeflate(data));
  }

  inflate(stream: Uint8Array, outputBytesMax: number): Uint8Array {
    return this.qm.wait(this.submitInflate(stream, outputBytesMax));
  }

  close(): void {
    this.qm.close();
  }
}
