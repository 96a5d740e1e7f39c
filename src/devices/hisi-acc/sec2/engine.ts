/** The SEC2 engine: ciphers and AEADs of the kernel driver `hisi_sec2`. */
import { assert } from "../../../base/assert.ts";
import { errno } from "../../../base/errno.ts";
import {
  type AlgorithmName,
  algorithmCapabilities,
  Bd3,
  DoneFlag,
  DoneKind,
  ErrorType,
  fixedCapabilities,
  icvMismatch,
  Mode,
  sec2ClassCode,
  sec2DeviceId,
} from "../../../spec/hisi-sec2.ts";
import type {
  ComputeService,
  Engine,
  EngineDescription,
  GuestReader,
  GuestWrite,
  Outcome,
} from "../engine.ts";
import type { Segments } from "../sgl.ts";
import { ccmLengthBytes } from "./ccm.ts";
import type { CipherResult } from "./cipher-work.ts";
import type { Descriptor } from "./descriptor.ts";
import { Job } from "./job.ts";
import { KeyedCiphers } from "./keyed-ciphers.ts";
import { cipherOperation } from "./operations.ts";
import { algorithmBitmap, availableAlgorithms, Kind, perform } from "./transforms.ts";

/** Nanoseconds; a request that is estimated to take longer goes to the compute service. */
export const directCostMax = 200_000;
/** Nanoseconds that any request is estimated to take. */
const baseCost = 3000;
/** Jobs that are kept for the next requests; so many are in progress at once without a new one. */
const keptJobs = 8;

type Status = Outcome["status"];

/** What the device writes back: `doneFlag`, `errorType` and `warningType`. */
function statusOf(flag: number, icv: number, error: ErrorType): Status {
  const bytes = new Uint8Array(4);
  const view = new DataView(bytes.buffer);
  view.setUint16(0, DoneFlag.pack({ done: true, icv, flag }), true);
  view.setUint8(Bd3.offset.errorType - Bd3.offset.doneFlag, error);
  return { offset: Bd3.offset.doneFlag, bytes };
}

const cipherDone = statusOf(DoneKind.cipher, 0, ErrorType.none);
const aeadDone = statusOf(DoneKind.aead, 0, ErrorType.none);
const mismatch: Outcome = {
  writes: [],
  status: statusOf(DoneKind.aead, icvMismatch, ErrorType.none),
};
const refusals = new Map<number, Outcome>(
  Object.values(ErrorType).map((error) => [error, { writes: [], status: statusOf(0, 0, error) }]),
);
const refusal = (error: number): Outcome => refusals.get(error) as Outcome;

/** Which algorithms to offer; all that this Node can do, unless told. */
export interface Sec2Options {
  readonly algorithms?: readonly AlgorithmName[];
}

/** The algorithms to offer; one that this Node cannot do is a mistake of the caller's. */
function offeredAlgorithms(asked: readonly AlgorithmName[] | undefined): AlgorithmName[] {
  const available = availableAlgorithms();
  for (const name of asked ?? []) {
    assert(available.includes(name), `sec2: this Node's OpenSSL cannot do ${name}`);
  }
  return asked === undefined ? available : [...asked];
}

function describe(algorithms: readonly AlgorithmName[]): EngineDescription {
  const [low, high] = algorithmBitmap(algorithms);
  const bitmaps = algorithmCapabilities.flatMap(([atLow, atHigh]) => [
    [atLow, low],
    [atHigh, high],
  ]);
  return {
    name: "hisi-sec2",
    deviceId: sec2DeviceId,
    classCode: sec2ClassCode,
    sqeBytes: Bd3.size,
    tagAt: Bd3.offset.tag,
    capabilities: Object.fromEntries([...fixedCapabilities, ...bitmaps]),
  };
}

/** The estimated nanoseconds of a request. */
const costOf = ({ transform, cipherBytes, authBytes }: Descriptor): number =>
  baseCost + cipherBytes * transform.costPerByte + authBytes * transform.costPerAuthByte;

/** Finds the segments of a buffer of the request's; 0, an `ErrorType`, or a negated errno. */
function* locate(
  memory: GuestReader,
  segments: Segments,
  isList: boolean,
  address: number,
  needed: number,
): Generator<void, number> {
  if (!isList) {
    segments.setFlat(address, needed);
    return 0;
  }
  const result = yield* segments.readList(memory, address);
  if (result !== 0) return result < 0 ? result : ErrorType.sgl;
  return segments.totalBytes < needed ? ErrorType.dataLength : 0;
}

/** Reads SEC2's requests, has them computed and writes their results. */
export class Sec2Engine implements Engine {
  readonly description: EngineDescription;
  readonly #offered: ReadonlySet<AlgorithmName>;
  readonly #ciphers = new KeyedCiphers();
  readonly #jobs: Job[] = [];

  constructor(options: Sec2Options = {}) {
    const algorithms = offeredAlgorithms(options.algorithms);
    this.#offered = new Set(algorithms);
    this.description = describe(algorithms);
  }

  /**
   * As `Engine.serve`. A job whose request is aborted is not used again: an answer that a VMM still
   * owes may yet be written into its memory.
   */
  *serve(
    sqe: DataView,
    _algType: number,
    memory: GuestReader,
    compute: ComputeService,
  ): Generator<void, Outcome | number> {
    const job = this.#jobs.pop() ?? new Job(this.#offered);
    const error = job.descriptor.parse(sqe);
    let outcome: Outcome | number = refusal(error);
    if (error === ErrorType.none) {
      const result = yield* this.#read(job, memory);
      if (result < 0) outcome = result;
      else if (result > 0) outcome = refusal(result);
      else outcome = this.#finish(job, this.#perform(job) ?? (yield* this.#compute(job, compute)));
    }
    job.releaseImage();
    if (this.#jobs.length < keptJobs) this.#jobs.push(job);
    return outcome;
  }

  /** Reads everything that the request needs; 0, an `ErrorType`, or a negated errno. */
  *#read(job: Job, memory: GuestReader): Generator<void, number> {
    const { descriptor, source } = job;
    const { cipherOffset, cipherBytes, imageBytes } = descriptor;
    if (imageBytes > 0) {
      const { sourceIsList, sourceAddress } = descriptor;
      const result = yield* locate(memory, source, sourceIsList, sourceAddress, imageBytes);
      if (result !== 0) return result;
    }
    if (cipherBytes > 0 && !descriptor.inPlace) {
      const { targetIsList, targetAddress } = descriptor;
      const needed = cipherOffset + cipherBytes;
      const result = yield* locate(memory, job.target, targetIsList, targetAddress, needed);
      if (result !== 0) return result;
    }
    const parameters = yield* this.#readParameters(job, memory);
    if (parameters !== 0 || imageBytes === 0) return parameters;
    job.prepareImage(imageBytes);
    return yield* source.gather(memory, 0, job.image, 0, imageBytes);
  }

  /** Reads keys, IVs and the expected tag, and checks what can be checked of them. */
  *#readParameters(job: Job, memory: GuestReader): Generator<void, number> {
    const { descriptor } = job;
    const { transform, keyBytes, authKeyBytes, macBytes } = descriptor;
    let result =
      memory.readNow(descriptor.keyAddress, job.key, 0, keyBytes) ??
      (yield* memory.read(descriptor.keyAddress, job.key, 0, keyBytes));
    job.completeKey();
    if (result === 0 && transform.ivBytes > 0) {
      result =
        memory.readNow(descriptor.ivAddress, job.iv, 0, transform.ivBytes) ??
        (yield* memory.read(descriptor.ivAddress, job.iv, 0, transform.ivBytes));
    }
    if (result === 0 && transform.mode === Mode.ccm) {
      result =
        memory.readNow(descriptor.authIvAddress, job.authIv, 0, job.authIv.length) ??
        (yield* memory.read(descriptor.authIvAddress, job.authIv, 0, job.authIv.length));
      const lengthBytes = ccmLengthBytes(job.iv);
      if (result === 0 && lengthBytes === 0) result = ErrorType.iv;
      if (result === 0 && descriptor.cipherBytes >= 2 ** (8 * lengthBytes)) {
        result = ErrorType.dataLength;
      }
    }
    if (result === 0 && authKeyBytes > 0) {
      result =
        memory.readNow(descriptor.authKeyAddress, job.authKey, 0, authKeyBytes) ??
        (yield* memory.read(descriptor.authKeyAddress, job.authKey, 0, authKeyBytes));
    }
    if (result === 0 && macBytes > 0 && !descriptor.encrypt) {
      result =
        memory.readNow(descriptor.macAddress, job.mac, 0, macBytes) ??
        (yield* memory.read(descriptor.macAddress, job.mac, 0, macBytes));
    }
    return result;
  }

  /** The result of a short computation; null for a longer one. */
  #perform(job: Job): CipherResult | null {
    return costOf(job.descriptor) <= directCostMax ? perform(this.#ciphers, job) : null;
  }

  /** The result, or the negated errno of a computation that was given up. */
  *#compute(job: Job, compute: ComputeService): Generator<void, CipherResult | number> {
    const cost = costOf(job.descriptor);
    const computation = { operation: cipherOperation, input: job.toWork() };
    return (yield* compute.compute(cost, computation)) as CipherResult | number;
  }

  #finish({ descriptor, target }: Job, result: CipherResult | number): Outcome | number {
    if (result === -errno.ECANCELED) return result;
    if (typeof result === "number") return refusal(ErrorType.device);
    const { data, mac, matches } = result;
    if (!matches) return mismatch;
    const writes: GuestWrite[] = [];
    target.scatter(descriptor.cipherOffset, data, 0, descriptor.cipherBytes, writes);
    if (mac !== null && descriptor.macBytes > 0) {
      const { macAddress, macBytes } = descriptor;
      writes.push({ iova: macAddress, bytes: mac, at: 0, length: macBytes });
    }
    const cipher = descriptor.transform.kind === Kind.cipher;
    return { writes, status: cipher ? cipherDone : aeadDone };
  }
}
