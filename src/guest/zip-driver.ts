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
import type { Call } from "./call.ts";
import type { DmaArea } from "./dma-area.ts";
import { type EngineDriverOptions, engineDefaults } from "./engine-options.ts";
import { QmDriver } from "./qm-driver.ts";
import type { Decode, QueuePair } from "./queue-pair.ts";
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
  sqe: DataView,
  at: number,
  memory: DmaArea,
): Decode<Uint8Array> {
  const target = memory.allocate(outputBytesMax);
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
    const { dw3, produced } = ZipSqe.get(sqe, at);
    const { status } = ZipDw3.unpack(dw3);
    const isGood = status === ZipStatus.ok || status === ZipStatus.negativeCompression;
    if (isGood && produced <= outputBytesMax) return memory.copy(target, produced);
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
    const queue = { sqeBytes: ZipSqe.size, depth, requestBytes };
    this.#compress = this.qm.createQueue({ ...queue, algType: ZipQueue.compress });
    this.#decompress = this.qm.createQueue({ ...queue, algType: ZipQueue.decompress });
  }

  /** Compresses to a raw DEFLATE stream. */
  submitDeflate(data: Uint8Array): Call<Uint8Array> {
    const outputBytesMax = data.length + growth(data.length);
    return this.#compress.submit((...place) => encode(data, outputBytesMax, ...place));
  }

  /** Decompresses a raw DEFLATE stream of at most `outputBytesMax` bytes of data. */
  submitInflate(stream: Uint8Array, outputBytesMax: number): Call<Uint8Array> {
    return this.#decompress.submit((...place) => encode(stream, outputBytesMax, ...place));
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
