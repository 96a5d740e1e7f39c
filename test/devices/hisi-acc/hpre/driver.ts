import type { Outcome } from "../../../../src/devices/hisi-acc/engine.ts";
import { HpreEngine } from "../../../../src/devices/hisi-acc/hpre/engine.ts";
import {
  HpreAlgorithm,
  HpreDw0,
  HpreQueue,
  HpreSqe,
  hpreLengthUnit,
  type PrimeCurve,
} from "../../../../src/spec/hisi-hpre.ts";
import { RecordingCompute, serve } from "../compute/recording-compute.ts";
import { FakeGuest } from "../sec2/guest.ts";

/** What a driver asks for; numbers become bytes of the request's size. */
export interface HpreAsk {
  readonly algorithm: number;
  /** Bytes of a number; of the parts of a CRT key it is half. */
  readonly size: number;
  readonly key: readonly bigint[];
  /** None: the driver gives no input address. */
  readonly input?: readonly bigint[];
  /** Numbers that the output has. */
  readonly outputs?: number;
  /** The output goes where the input is, which has the same length. */
  readonly inPlace?: boolean;
  /** Entries as the driver would not write them. */
  readonly lies?: Readonly<Partial<Record<"keyAddr" | "inAddr" | "taskLen1", number>>>;
}

/** What the driver finds when the request has ended. */
export interface HpreAnswer {
  readonly error: number;
  readonly output: readonly bigint[];
  /** False while the output buffer is as it was. */
  readonly written: boolean;
}

const tag = 0xffff_8000_1234_5678n;
const untouched = 0xee;
const submitted = 1;
const done = 3;

const bytesOf = (value: bigint, size: number): Uint8Array =>
  Buffer.from(value.toString(16).padStart(2 * size, "0"), "hex");
const numberOf = (bytes: Uint8Array): bigint => BigInt(`0x${Buffer.from(bytes).toString("hex")}`);

export class HpreDriver {
  readonly engine = new HpreEngine();
  readonly compute = new RecordingCompute();
  readonly guest = new FakeGuest(1 << 16);
  #out = 0;
  #ask: HpreAsk | null = null;

  /** Lays a request out in guest memory. */
  submit(ask: HpreAsk): DataView {
    const { algorithm, size, key, input, outputs = 1, lies } = ask;
    const part = algorithm === HpreAlgorithm.rsaCrt ? size / 2 : size;
    const place = (numbers: readonly bigint[], width: number) =>
      this.guest.place(Buffer.concat(numbers.map((each) => bytesOf(each, width))));
    this.guest.reset();
    const blank = new Uint8Array(outputs * size).fill(untouched);
    const inAddr = input === undefined ? 0 : place(input, size);
    this.#ask = ask;
    this.#out = ask.inPlace === true ? inAddr : this.guest.place(blank);
    const sqe = new DataView(new ArrayBuffer(HpreSqe.size));
    HpreSqe.set(sqe, 0, {
      dw0: HpreDw0.pack({ algorithm, done: submitted }),
      taskLen1: size / hpreLengthUnit - 1,
      taskLen2: 0,
      mrttestNum: 0,
      resv1: 0x80,
      keyAddr: place(key, part),
      inAddr,
      outAddr: this.#out,
      tag,
      reserved: [0, 0, 0, 0, 0, 0],
      ...lies,
    });
    return sqe;
  }

  serve(sqe: DataView, yields?: number): Outcome | number | null {
    const algorithm = this.#ask?.algorithm ?? 0;
    const ecc = algorithm === HpreAlgorithm.eccMultiply || algorithm === HpreAlgorithm.x25519;
    const queue = ecc ? HpreQueue.ecc : HpreQueue.rsaAndDh;
    return serve(this.engine, sqe, queue, this.guest, this.compute, yields);
  }

  /** Writes an outcome as the queue manager does, and reads what a driver reads. */
  complete(sqe: DataView, outcome: Outcome | number | null): HpreAnswer {
    if (outcome === null || typeof outcome === "number" || this.#ask === null) {
      throw new Error(`the request ended with ${outcome}`);
    }
    const before = HpreSqe.get(sqe, 0);
    this.guest.apply(outcome);
    const { offset, bytes } = outcome.status;
    new Uint8Array(sqe.buffer).set(bytes, offset);
    const { dw0, ...rest } = HpreSqe.get(sqe, 0);
    const fields = HpreDw0.unpack(dw0);
    const { size, outputs = 1, algorithm } = this.#ask;
    const changed = rest.tag !== tag || rest.taskLen1 !== before.taskLen1 || rest.resv1 !== 0x80;
    if (changed || fields.algorithm !== algorithm) throw new Error("the entry was changed");
    if (fields.done !== done || fields.moreErrors !== 0) throw new Error("the entry is not done");
    const out = this.guest.bytes.subarray(this.#out, this.#out + outputs * size);
    const output = Array.from({ length: outputs }, (_, i) =>
      numberOf(out.subarray(i * size, (i + 1) * size)),
    );
    return { error: fields.error, output, written: out.some((byte) => byte !== untouched) };
  }

  run(ask: HpreAsk): HpreAnswer {
    const sqe = this.submit(ask);
    return this.complete(sqe, this.serve(sqe));
  }

  /** A point times a scalar, as the driver asks for it: P-192 in 32 bytes. */
  multiply({ p, a, b, bytes }: PrimeCurve, scalar: bigint, x: bigint, y: bigint): HpreAnswer {
    return this.run({
      algorithm: HpreAlgorithm.eccMultiply,
      size: Math.max(bytes, 32),
      key: [p, a, scalar, b],
      input: [x, y],
      outputs: 2,
    });
  }
}
