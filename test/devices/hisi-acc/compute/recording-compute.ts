import { buffersOf, unshared } from "../../../../src/devices/hisi-acc/compute-mail.ts";
import { operations, perform } from "../../../../src/devices/hisi-acc/compute-operations.ts";
import type {
  Computation,
  ComputeService,
  Engine,
  GuestReader,
  Outcome,
} from "../../../../src/devices/hisi-acc/engine.ts";

/** Computes here, after a yield, with everything handed over as to a thread and back. */
export class RecordingCompute implements ComputeService {
  readonly costs: number[] = [];
  /** What to answer instead of a result. */
  failure: number | null = null;

  *compute(cost: number, { operation, input }: Computation): Generator<void, unknown> {
    this.costs.push(cost);
    yield;
    if (this.failure !== null) return this.failure;
    return handOver(perform(operations, { operation, input: handOver(input) }));
  }
}

function handOver(value: unknown): unknown {
  const own = unshared(value);
  return structuredClone(own, { transfer: buffersOf(own) });
}

/** Runs a request to its end, or gives it up after so many yields: then the answer is null. */
export function serve(
  engine: Engine,
  sqe: DataView,
  algType: number,
  memory: GuestReader,
  compute: ComputeService = new RecordingCompute(),
  yields = Number.POSITIVE_INFINITY,
): Outcome | number | null {
  const running = engine.serve(sqe, algType, memory, compute);
  for (let left = yields; ; left--) {
    if (left < 0) {
      running.return(0);
      return null;
    }
    const { done, value } = running.next();
    if (done) return value;
  }
}
