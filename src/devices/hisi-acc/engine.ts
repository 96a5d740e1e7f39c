/**
 * What stands between the queue manager and an accelerator's arithmetic. A request is all or
 * nothing: an engine reads everything that it needs, computes, and hands back what is to be
 * written;
 * the queue manager alone writes to guest memory, in one slice. A request that is aborted before
 * that has written nothing and can run again, here or on a migration target, even in place.
 */

/**
 * Guest memory as an engine reads it, into `bytes` from `at`: 0 or a negated errno. Usage:
 * `const result = memory.readNow(...part) ?? (yield* memory.read(...part))`.
 */
export interface GuestReader {
  /** Null when the read has to wait; otherwise it takes neither a generator nor a turn. */
  readNow(iova: number, bytes: Uint8Array, at: number, length: number): number | null;
  /** Yields while the VMM has not answered, and between the parts of what is long. */
  read(iova: number, bytes: Uint8Array, at: number, length: number): Generator<void, number>;
}

/**
 * One piece of output. Its bytes stay as they are until the queue manager has written them, which
 * messages can delay: `length` bytes of `bytes` from `at` go to guest memory at `iova`.
 */
export interface GuestWrite {
  readonly iova: number;
  readonly bytes: Uint8Array;
  readonly at: number;
  readonly length: number;
}

/** A finished request. */
export interface Outcome {
  /** Output, written in this order before the status. */
  readonly writes: readonly GuestWrite[];
  /** The part of the submission queue entry that the device writes back. */
  readonly status: { readonly offset: number; readonly bytes: Uint8Array };
}

/** Work that is too long for the device's thread: a name in `compute.ts` and plain data. */
export interface Computation {
  readonly operation: string;
  readonly input: unknown;
}

/** Where long computations run; the generator yields until the answer is there. */
export interface ComputeService {
  /**
   * Runs here and now when `cost` (nanoseconds, estimated) is small, in a compute worker otherwise.
   * Answers what the operation gave, or a negated errno. Byte arrays of the input are handed over.
   */
  compute(cost: number, computation: Computation): Generator<void, unknown>;
}

/** What a function of the PF's family is: SEC2, ZIP or HPRE. */
export interface EngineDescription {
  /** `hisi-sec2`. */
  readonly name: string;
  /** PCI device id of the VF; the vendor is 0x19e5. */
  readonly deviceId: number;
  readonly classCode: number;
  /** Bytes of a submission queue entry: 64 or 128. */
  readonly sqeBytes: number;
  /** Where in it the guest's own number of the request is: 8 bytes that the engine ignores. */
  readonly tagAt: number;
  /** Engine capability registers, by BAR2 offset (0x3124 to 0x3170). */
  readonly capabilities: Readonly<Record<number, number>>;
}

/**
 * The arithmetic of one accelerator. It keeps nothing between requests that matters to a result.
 */
export interface Engine {
  readonly description: EngineDescription;
  /**
   * Serves one request. `sqe` is a private copy of the entry, so the guest cannot change it any
   * more;
   * `algType` is what the queue's context says ([11:8] of w13). A fault of guest memory ends the
   * generator by returning its negated errno: the queue manager then stops the queue (AEQE "CQE
   * error"). Everything else, malformed requests too, is an outcome with the engine's own status.
   */
  serve(
    sqe: DataView,
    algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number>;
  /** An outcome is written and the guest told: for whoever keeps account. */
  completed?(outcome: Outcome): void;
}
