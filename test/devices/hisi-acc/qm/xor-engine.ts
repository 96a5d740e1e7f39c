/** An accelerator that is easy to check: it exclusive-ors a flat buffer with one byte. */
import type { Watch } from "../../../../src/device/vfio-device.ts";
import { inlineCostMax } from "../../../../src/devices/hisi-acc/compute.ts";
import type {
  Computation,
  ComputeService,
  Engine,
  GuestReader,
  Outcome,
} from "../../../../src/devices/hisi-acc/engine.ts";
import type { ComputePort } from "../../../../src/devices/hisi-acc/qm/compute-port.ts";

export const xorSqe = {
  bytes: 128,
  source: 0x00,
  target: 0x08,
  length: 0x10,
  key: 0x14,
  /** 1: the computation is a long one; 2: the longest that is done in the device's thread. */
  long: 0x18,
  tag: 0x20,
  status: 0x70,
  /** What the status is when it is done; the queue's algorithm type is added. */
  done: 0x100,
} as const;
const lengthMax = 1 << 22;
const costs = [0, 1e9, inlineCostMax];

export class XorEngine implements Engine {
  readonly description = {
    name: "xor",
    deviceId: 0xa2ff,
    classCode: 0x120000,
    sqeBytes: xorSqe.bytes,
    tagAt: xorSqe.tag,
    capabilities: { 12580: 0x7c77, 12612: 0x2, 12656: 0xf },
  };
  /** Entries that were served to their end, by their key. */
  readonly served: number[] = [];

  *serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const source = Number(sqe.getBigUint64(xorSqe.source, true));
    const target = Number(sqe.getBigUint64(xorSqe.target, true));
    const length = Math.min(sqe.getUint32(xorSqe.length, true), lengthMax);
    const key = sqe.getUint8(xorSqe.key);
    const bytes = new Uint8Array(length);
    const result = yield* memory.read(source, bytes, 0, length);
    if (result < 0) return result;
    const cost = costs[sqe.getUint8(xorSqe.long)] ?? 0;
    if (cost > 0) yield* compute.compute(cost, { operation: "xor", input: key });
    for (let i = 0; i < length; i++) bytes[i] = (bytes[i] as number) ^ key;
    this.served.push(key);
    const status = new Uint8Array(4);
    new DataView(status.buffer).setUint32(0, xorSqe.done + algType, true);
    const writes = [{ iova: target, bytes, at: 0, length }];
    return { writes, status: { offset: xorSqe.status, bytes: status } };
  }
}

/** Long computations end when the test says so. */
export class ManualCompute implements ComputePort {
  settled = 0;
  watches: readonly Watch[] = [];
  readonly waiting: Computation[] = [];
  /** Told of what is computed in the device's thread. */
  inline: (cost: number) => void = () => {};

  *compute(cost: number, computation: Computation): Generator<void, unknown> {
    if (cost <= inlineCostMax) return this.inline(cost);
    this.waiting.push(computation);
    try {
      while (this.waiting.includes(computation)) yield;
      return null;
    } finally {
      const at = this.waiting.indexOf(computation);
      if (at >= 0) this.waiting.splice(at, 1);
    }
  }

  discard(_bytes: Uint8Array): void {}

  /** Ends the oldest one. */
  finish(): void {
    this.waiting.shift();
    this.settled += 1;
  }
}
