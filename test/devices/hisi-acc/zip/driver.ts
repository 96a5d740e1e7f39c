import type { Outcome } from "../../../../src/devices/hisi-acc/engine.ts";
import { ZipEngine } from "../../../../src/devices/hisi-acc/zip/engine.ts";
import {
  ZipBuffer,
  ZipDw3,
  ZipDw7,
  ZipDw8,
  ZipDw9,
  ZipQueue,
  ZipRequest,
  ZipSqe,
  zipSqeType,
} from "../../../../src/spec/hisi-zip.ts";
import { RecordingCompute, serve } from "../compute/recording-compute.ts";
import { FakeGuest, GuestBuffer } from "../sec2/guest.ts";

/** What a driver asks for. */
export interface ZipAsk {
  readonly compress?: boolean;
  readonly type?: number;
  readonly source: Uint8Array;
  /** Bytes of the target buffer. */
  readonly capacity: number;
  /** Lengths of the segments; flat buffers unless both are told. */
  readonly sourceSegments?: readonly number[];
  readonly targetSegments?: readonly number[];
  /** Bytes of the lists to skip. */
  readonly sourceOffset?: number;
  readonly targetOffset?: number;
  readonly window?: number;
  /** The output goes where the source is. */
  readonly inPlace?: boolean;
  /** Entries as the driver would not write them. */
  readonly lies?: Readonly<Partial<Record<keyof typeof ZipSqe.fields, number>>>;
}

/** What the driver finds when the request has ended. */
export interface ZipAnswer {
  readonly status: number;
  readonly consumed: number;
  readonly produced: number;
  readonly output: Uint8Array;
}

const tag = 0xffff_8000_1234_5678n;
const untouched = 0xee;

export class ZipDriver {
  readonly engine = new ZipEngine();
  readonly compute = new RecordingCompute();
  readonly guest: FakeGuest;
  target: GuestBuffer;

  constructor(memoryBytes = 1 << 20) {
    this.guest = new FakeGuest(memoryBytes);
    this.target = new GuestBuffer(this.guest, new Uint8Array(0), null);
  }

  /** Lays a request out in guest memory. */
  submit(ask: ZipAsk): DataView {
    const { source, capacity, sourceSegments, targetSegments, window = 0 } = ask;
    const isList = sourceSegments !== undefined && targetSegments !== undefined;
    this.guest.reset();
    const from = new GuestBuffer(this.guest, source, isList ? sourceSegments : null);
    const blank = new Uint8Array(capacity).fill(untouched);
    this.target =
      ask.inPlace === true
        ? from
        : new GuestBuffer(this.guest, blank, isList ? targetSegments : null);
    const sqe = new DataView(new ArrayBuffer(ZipSqe.size));
    const zeros = Object.fromEntries(Object.keys(ZipSqe.fields).map((name) => [name, 0]));
    ZipSqe.set(sqe, 0, {
      ...(zeros as unknown as ReturnType<typeof ZipSqe.get>),
      compDataLength: 0x1234,
      dw3: ZipDw3.pack({ status: 0x77 }),
      inputDataLength: source.length - (ask.sourceOffset ?? 0),
      dw7: ZipDw7.pack({ sourceOffset: ask.sourceOffset ?? 0, sqeType: zipSqeType }),
      dw8: ZipDw8.pack({ destOffset: ask.targetOffset ?? 0 }),
      dw9: ZipDw9.pack({
        requestType: ask.type ?? ZipRequest.deflate,
        bufferType: isList ? ZipBuffer.sgl : ZipBuffer.flat,
        window,
      }),
      destAvailOut: capacity - (ask.targetOffset ?? 0),
      sourceAddr: from.address,
      destAddr: this.target.address,
      ...ask.lies,
      tag,
    });
    return sqe;
  }

  serve(sqe: DataView, compress: boolean, yields?: number): Outcome | number | null {
    const queue = compress ? ZipQueue.compress : ZipQueue.decompress;
    return serve(this.engine, sqe, queue, this.guest, this.compute, yields);
  }

  /** Writes an outcome as the queue manager does, and reads what a driver reads. */
  complete(sqe: DataView, outcome: Outcome | number | null): ZipAnswer {
    if (outcome === null || typeof outcome === "number") {
      throw new Error(`the request ended with ${outcome}`);
    }
    this.guest.apply(outcome);
    const { offset, bytes } = outcome.status;
    new Uint8Array(sqe.buffer).set(bytes, offset);
    const { consumed, produced, compDataLength, dw3, ...rest } = ZipSqe.get(sqe, 0);
    if (rest.tag !== tag || compDataLength !== 0x1234) throw new Error("the entry was changed");
    const { status } = ZipDw3.unpack(dw3);
    return { status, consumed, produced, output: this.target.content(produced) };
  }

  run(ask: ZipAsk): ZipAnswer {
    const sqe = this.submit(ask);
    return this.complete(sqe, this.serve(sqe, ask.compress ?? false));
  }

  /** Bytes of the target that were written. */
  written(capacity: number): number {
    return this.target.content(capacity).findLastIndex((byte) => byte !== untouched) + 1;
  }
}
