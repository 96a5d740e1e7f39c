/** The HPRE engine: public key arithmetic, as the kernel driver `hisi_hpre` and UADK ask for it. */
import {
  HpreDw0,
  HpreError,
  HpreSqe,
  hpreCapabilities,
  hpreClassCode,
  hpreDeviceId,
  hpreDone,
  hpreLengthUnit,
} from "../../../spec/hisi-hpre.ts";
import type {
  ComputeService,
  Engine,
  EngineDescription,
  GuestReader,
  GuestWrite,
  Outcome,
} from "../engine.ts";
import type { HpreResult } from "./operations.ts";
import { hpreTasks } from "./tasks.ts";

const at = HpreSqe.offset;
const { error: errorBits, moreErrors, done } = HpreDw0.mask;
const kept = ~(errorBits | moreErrors | done);

function outcome(sqe: DataView, error: HpreError, writes: readonly GuestWrite[]): Outcome {
  const bytes = new Uint8Array(4);
  const dw0 = (sqe.getUint32(at.dw0, true) & kept) | HpreDw0.pack({ error, done: hpreDone });
  new DataView(bytes.buffer).setUint32(0, dw0, true);
  return { writes, status: { offset: at.dw0, bytes } };
}

/** Reads HPRE's requests, has them computed and writes their results. */
export class HpreEngine implements Engine {
  readonly description: EngineDescription = {
    name: "hisi-hpre",
    deviceId: hpreDeviceId,
    classCode: hpreClassCode,
    sqeBytes: HpreSqe.size,
    tagAt: HpreSqe.offset.tag,
    capabilities: hpreCapabilities,
  };

  /** As `Engine.serve`. */
  *serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const task = hpreTasks[HpreDw0.unpack(sqe.getUint32(at.dw0, true)).algorithm];
    if (task === undefined || task.queue !== algType) return outcome(sqe, HpreError.algorithm, []);
    const size = (sqe.getUint8(at.taskLen1) + 1) * hpreLengthUnit;
    if (!task.sizes.includes(size)) return outcome(sqe, HpreError.length, []);

    const key = new Uint8Array(task.keyNumbers * size);
    let read = yield* memory.read(HpreSqe.fields.keyAddr.read(sqe, at.keyAddr), key, 0, key.length);
    if (read < 0) return read;
    const operand = new Uint8Array(Math.max(task.inNumbers, 1) * size);
    if (task.operand === undefined) {
      const address = HpreSqe.fields.inAddr.read(sqe, at.inAddr);
      read = yield* memory.read(address, operand, 0, operand.length);
      if (read < 0) return read;
    } else {
      operand[operand.length - 1] = task.operand;
    }

    const input = { key, operand, size };
    const { operation } = task;
    const result = yield* compute.compute(task.cost(input), { operation, input });
    if (typeof result === "number") return outcome(sqe, HpreError.unavailable, []);
    const { error, output } = result as HpreResult;
    if (error !== HpreError.none) return outcome(sqe, error, []);
    const iova = HpreSqe.fields.outAddr.read(sqe, at.outAddr);
    return outcome(sqe, error, [{ iova, bytes: output, at: 0, length: output.length }]);
  }
}
