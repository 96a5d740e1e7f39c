/** A guest and its driver, as small as the engine's contract lets them be. */
import { errno } from "../../../../src/base/errno.ts";
import type {
  Computation,
  ComputeService,
  GuestReader,
  Outcome,
} from "../../../../src/devices/hisi-acc/engine.ts";
import type { Sec2Engine } from "../../../../src/devices/hisi-acc/sec2/engine.ts";
import { sec2Operations } from "../../../../src/devices/hisi-acc/sec2/operations.ts";
import {
  AddressType,
  Algorithm,
  type AlgorithmName,
  Auth,
  AuthAlgorithm,
  AuthMacKey,
  Bd3,
  BdParam,
  bdType3,
  CIcvKey,
  Cipher,
  CModeAlg,
  counterRollOver,
  DoneFlag,
  HukIvSeq,
  Mode,
  Sequence,
} from "../../../../src/spec/hisi-sec2.ts";
import { SglEntry, SglHeader } from "../../../../src/spec/hisi-sgl.ts";

const joined = (parts: readonly Uint8Array[]): Uint8Array => new Uint8Array(Buffer.concat(parts));

/** Guest memory of its own; a read may have to be asked for again some times. */
export class FakeGuest implements GuestReader {
  readonly bytes: Uint8Array;
  readonly view: DataView;
  /** How often a read yields before it is answered. */
  yieldsPerRead = 0;
  reads = 0;
  #next = 64;

  constructor(size = 1 << 20) {
    this.bytes = new Uint8Array(size);
    this.view = new DataView(this.bytes.buffer);
  }

  readNow(iova: number, bytes: Uint8Array, at: number, length: number): number | null {
    if (this.yieldsPerRead > 0) return null;
    this.reads += 1;
    if (iova + length > this.bytes.length) return -errno.EFAULT;
    bytes.set(this.bytes.subarray(iova, iova + length), at);
    return 0;
  }

  *read(iova: number, bytes: Uint8Array, at: number, length: number): Generator<void, number> {
    this.reads += 1;
    for (let i = 0; i < this.yieldsPerRead; i++) yield;
    if (iova + length > this.bytes.length) return -errno.EFAULT;
    bytes.set(this.bytes.subarray(iova, iova + length), at);
    return 0;
  }

  /** Room for `length` bytes, not next to anything else. */
  allocate(length: number): number {
    const at = this.#next;
    this.#next = Math.ceil((at + length + 1) / 64) * 64 + 64;
    if (this.#next > this.bytes.length) throw new RangeError("the guest's memory is full");
    return at;
  }

  /** Forgets all allocations. */
  reset(): void {
    this.#next = 64;
  }

  place(bytes: Uint8Array): number {
    const at = this.allocate(bytes.length);
    this.bytes.set(bytes, at);
    return at;
  }

  apply(outcome: Outcome): void {
    for (const { iova, bytes, at, length } of outcome.writes) {
      this.bytes.set(bytes.subarray(at, at + length), iova);
    }
  }
}

/** A buffer of the guest's: flat, or a list of segments. */
export class GuestBuffer {
  readonly address: number;
  readonly type: number;
  readonly #guest: FakeGuest;
  readonly #parts: ReadonlyArray<readonly [address: number, length: number]>;

  /** `segments` are lengths that add up to at least the bytes; null for a flat buffer. */
  constructor(guest: FakeGuest, bytes: Uint8Array, segments: readonly number[] | null) {
    const lengths = segments ?? [bytes.length];
    this.#guest = guest;
    this.#parts = lengths.map((length) => [guest.allocate(length), length]);
    this.type = segments === null ? AddressType.flat : AddressType.sgl;
    this.address = segments === null ? (this.#parts[0]?.[0] ?? 0) : this.#writeList();
    this.fill(bytes);
  }

  #writeList(): number {
    const at = this.#guest.allocate(SglHeader.size + this.#parts.length * SglEntry.size);
    SglHeader.set(this.#guest.view, at, {
      nextDma: 0,
      entrySumInChain: 128,
      entrySumInSgl: this.#parts.length,
      entryLengthInSgl: 128,
      padding: 0,
      reserved: [0n, 0n, 0n, 0n, 0n],
      nextVirtual: 0xffff_8000_dead_beefn,
    });
    for (const [i, [buffer, length]] of this.#parts.entries()) {
      SglEntry.set(this.#guest.view, at + SglHeader.size + i * SglEntry.size, {
        buffer,
        pageControl: 0xffff_8000_1234_5678n,
        length,
        padding: [0, 0, 0],
      });
    }
    return at;
  }

  fill(bytes: Uint8Array): void {
    let done = 0;
    for (const [address, length] of this.#parts) {
      this.#guest.bytes.set(bytes.subarray(done, done + length), address);
      done += length;
    }
  }

  content(length: number): Uint8Array {
    const all = this.#parts.map(([at, size]) => this.#guest.bytes.subarray(at, at + size));
    return joined(all).subarray(0, length);
  }
}

interface Selection {
  readonly algorithm: number;
  readonly mode: number;
  readonly auth?: number;
}

const { aes, sm4, tripleDes } = Algorithm;
/** What the driver puts into a descriptor for each of its algorithms. */
export const selections: Readonly<Record<AlgorithmName, Selection>> = {
  "ecb(aes)": { algorithm: aes, mode: Mode.ecb },
  "cbc(aes)": { algorithm: aes, mode: Mode.cbc },
  "ctr(aes)": { algorithm: aes, mode: Mode.ctr },
  "xts(aes)": { algorithm: aes, mode: Mode.xts },
  "ccm(aes)": { algorithm: aes, mode: Mode.ccm },
  "gcm(aes)": { algorithm: aes, mode: Mode.gcm },
  "cbc(sm4)": { algorithm: sm4, mode: Mode.cbc },
  "ctr(sm4)": { algorithm: sm4, mode: Mode.ctr },
  "xts(sm4)": { algorithm: sm4, mode: Mode.xts },
  "ccm(sm4)": { algorithm: sm4, mode: Mode.ccm },
  "gcm(sm4)": { algorithm: sm4, mode: Mode.gcm },
  "ecb(des3_ede)": { algorithm: tripleDes, mode: Mode.ecb },
  "cbc(des3_ede)": { algorithm: tripleDes, mode: Mode.cbc },
  "authenc(hmac(sha1),cbc(aes))": {
    ...{ algorithm: aes, mode: Mode.cbc, auth: AuthAlgorithm.hmacSha1 },
  },
  "authenc(hmac(sha256),cbc(aes))": {
    ...{ algorithm: aes, mode: Mode.cbc, auth: AuthAlgorithm.hmacSha256 },
  },
  "authenc(hmac(sha512),cbc(aes))": {
    ...{ algorithm: aes, mode: Mode.cbc, auth: AuthAlgorithm.hmacSha512 },
  },
};

function keyLengthCode({ algorithm, mode }: Selection, bytes: number): number {
  if (algorithm === tripleDes) return bytes === 24 ? 1 : 3;
  return (mode === Mode.xts ? bytes / 2 : bytes) / 8 - 2;
}

/** What a driver is asked for; `iv` is the nonce of GCM and CCM. */
export interface Request {
  readonly algorithm: AlgorithmName;
  readonly encrypt: boolean;
  readonly key: Uint8Array;
  readonly iv: Uint8Array;
  readonly data: Uint8Array;
  readonly aad?: Uint8Array;
  /** Authenticated behind the data, authenc only. */
  readonly trailer?: Uint8Array;
  readonly authKey?: Uint8Array;
  /** The expected tag of a decryption. */
  readonly tag?: Uint8Array;
  readonly tagBytes?: number;
  /** Segment lengths; flat unless told. */
  readonly source?: readonly number[];
  /** Where the output goes: back, unless told; null for another flat buffer. */
  readonly target?: readonly number[] | null;
}

const none = new Uint8Array(0);

/** The blocks that the driver makes of a CCM nonce: A1 for the cipher, B0 for the tag. */
function ccmBlocks(request: Request, tagBytes: number): { iv: Uint8Array; authIv: Uint8Array } {
  const { iv: nonce, aad = none, data } = request;
  const lengthBytes = 15 - nonce.length;
  const iv = Uint8Array.of(lengthBytes - 1, ...nonce, ...new Uint8Array(lengthBytes));
  const authIv = iv.slice();
  iv[15] = 1;
  authIv[0] = (aad.length > 0 ? 0x40 : 0) | (((tagBytes - 2) / 2) << 3) | (lengthBytes - 1);
  let rest = data.length;
  for (let i = 15; i > 15 - lengthBytes && rest > 0; i--) {
    authIv[i] = rest & 0xff;
    rest = Math.floor(rest / 256);
  }
  return { iv, authIv };
}

/** A request laid out in guest memory, with its submission queue entry. */
export class Submission {
  readonly sqe = new DataView(new ArrayBuffer(Bd3.size));
  readonly source: GuestBuffer;
  readonly target: GuestBuffer;
  readonly macAddress: number;
  readonly request: Request;
  readonly tagBytes: number;
  /** Bytes of the source: associated data, data, trailer. */
  readonly image: Uint8Array;

  constructor(guest: FakeGuest, request: Request) {
    const { data, aad = none, trailer = none, source, target } = request;
    this.request = request;
    this.tagBytes = request.tagBytes ?? request.tag?.length ?? 0;
    this.image = joined([aad, data, trailer]);
    this.source = new GuestBuffer(guest, this.image, source ?? null);
    const blank = new Uint8Array(this.image.length);
    this.target =
      target === undefined ? this.source : new GuestBuffer(guest, blank, target ?? null);
    this.macAddress = guest.place(request.tag ?? new Uint8Array(this.tagBytes));
    this.#encode(guest);
  }

  #encode(guest: FakeGuest): void {
    const {
      algorithm,
      encrypt,
      key,
      data,
      aad = none,
      trailer = none,
      authKey = none,
    } = this.request;
    const selection = selections[algorithm];
    const authenc = selection.auth !== undefined;
    const aead = selection.mode === Mode.gcm || selection.mode === Mode.ccm;
    const isCcm = selection.mode === Mode.ccm;
    const ccm = isCcm ? ccmBlocks(this.request, this.tagBytes) : null;
    const ivAddress = guest.place(ccm?.iv ?? this.request.iv);
    const authIvAddress = ccm === null ? ivAddress : guest.place(ccm.authIv);
    const auth = encrypt ? Auth.calculate : Auth.verify;
    const inPlace = this.target === this.source;
    Bd3.set(this.sqe, 0, {
      bdParam: BdParam.pack({
        type: bdType3,
        de: inPlace ? 0 : 1,
        sourceType: this.source.type,
        targetType: this.target.type,
      }),
      cIcvKey: CIcvKey.pack({
        cipher: encrypt ? Cipher.encrypt : Cipher.decrypt,
        icvLength: aead ? this.tagBytes : 0,
        keyLength: keyLengthCode(selection, key.length),
      }),
      cModeAlg: CModeAlg.pack({ mode: selection.mode, algorithm: selection.algorithm }),
      hukIvSeq: HukIvSeq.pack({
        sequence: encrypt || !(aead || authenc) ? Sequence.cipherThenAuth : Sequence.authThenCipher,
      }),
      tag: 0xffff_0000_c0ff_ee00n,
      dataSrcAddr: this.source.address,
      aKeyAddr: guest.place(authKey),
      aIvinAddr: authIvAddress,
      aIvinReserved: 0n,
      cKeyAddr: guest.place(key),
      authMacKey: AuthMacKey.pack({
        auth: authenc ? auth : Auth.none,
        macWords: authenc ? this.tagBytes / 4 : 0,
        keyWords: authKey.length / 4,
        algorithm: selection.auth ?? 0,
        counterMode: counterRollOver,
      }),
      salt: 0,
      authSrcOffset: 0,
      cipherSrcOffset: aad.length,
      aLenKey: aad.length + (authenc ? data.length + trailer.length : 0),
      cLenIvin: data.length,
      dataDstAddr: this.target.address,
      macAddr: this.macAddress,
      cIvinAddr: ivAddress,
      cIvinReserved: [0, 0, 0],
      doneFlag: 0,
      errorType: 0,
      warningType: 0,
      macI: 0,
      checksum: 0,
      counter: 0,
    });
  }

  /** The data part of what is in the target now. */
  output(): Uint8Array {
    const { aad = none, data } = this.request;
    return this.target.content(aad.length + data.length).subarray(aad.length);
  }

  /** The tag that is in guest memory now. */
  tag(guest: FakeGuest): Uint8Array {
    return guest.bytes.slice(this.macAddress, this.macAddress + this.tagBytes);
  }
}

/** Computes at once, with everything handed over as if it went to another thread and back. */
export class InlineCompute implements ComputeService {
  computations = 0;
  /** What to answer instead of a result. */
  failure: number | null = null;

  *compute(_cost: number, { operation, input }: Computation): Generator<void, unknown> {
    this.computations += 1;
    yield;
    if (this.failure !== null) return this.failure;
    const run = sec2Operations[operation as keyof typeof sec2Operations];
    return handOver(run(handOver(input) as never));
  }
}

function handOver(value: unknown): unknown {
  const arrays = Object.values(value as object).filter((each) => each instanceof Uint8Array);
  const buffers = arrays.map(({ buffer }) => buffer as ArrayBuffer);
  return structuredClone(value, { transfer: [...new Set(buffers)] });
}

/** Runs a request to its end. */
export function serve(
  engine: Sec2Engine,
  sqe: DataView,
  guest: FakeGuest,
  compute: ComputeService = new InlineCompute(),
): Outcome | number {
  const running = engine.serve(sqe, 0, guest, compute);
  for (;;) {
    const step = running.next();
    if (step.done) return step.value;
  }
}

/** What an outcome's status says; the driver's view of a finished entry. */
export function statusOf(outcome: Outcome | number): {
  flag: number;
  icv: number;
  error: number;
  doneFlag: number;
} {
  if (typeof outcome === "number") throw new Error(`the request ended with ${outcome}`);
  const { offset, bytes } = outcome.status;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  if (offset !== 0x70 || bytes.length !== 4) throw new Error("the status is not at 0x70..0x73");
  const doneFlag = view.getUint16(0, true);
  const { done, flag, icv } = DoneFlag.unpack(doneFlag);
  if (!done) throw new Error("the entry is not done");
  return { flag, icv, error: view.getUint8(2), doneFlag };
}

/** Serves, writes what comes out, and gives the status and the output. */
export function finish(engine: Sec2Engine, guest: FakeGuest, submission: Submission) {
  const outcome = serve(engine, submission.sqe, guest);
  if (typeof outcome !== "number") guest.apply(outcome);
  const { doneFlag, error } = statusOf(outcome);
  return { doneFlag, error, output: submission.output(), tag: submission.tag(guest) };
}
