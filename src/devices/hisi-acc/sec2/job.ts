import {
  Algorithm,
  type AlgorithmName,
  authKeyBytesMax,
  keySlotBytes,
} from "../../../spec/hisi-sec2.ts";
import { Segments } from "../sgl.ts";
import type { CipherWork } from "./cipher-work.ts";
import { Descriptor } from "./descriptor.ts";
import { macBytesMax } from "./transforms.ts";

/** A source buffer up to this length is read into memory that the job keeps. */
const keptImageBytes = 65_536;

const noBytes = new Uint8Array(0);
const ivBytesMax = 16;
const tripleDesKeyBytes = 24;

/** The memory of one request in progress, and its arithmetic as `perform` takes it. */
export class Job implements CipherWork {
  readonly descriptor: Descriptor;
  readonly source = new Segments();
  readonly #otherTarget = new Segments();
  readonly key = new Uint8Array(keySlotBytes);
  readonly authKey = new Uint8Array(authKeyBytesMax);
  readonly iv = new Uint8Array(ivBytesMax);
  readonly authIv = new Uint8Array(ivBytesMax);
  readonly mac = new Uint8Array(macBytesMax);
  keyBytes = 0;
  image: Uint8Array = noBytes;
  #kept: Uint8Array<ArrayBuffer> = noBytes;

  constructor(offered: ReadonlySet<AlgorithmName>) {
    this.descriptor = new Descriptor(offered);
  }

  /** Where the output goes: the source itself when the request works in place. */
  get target(): Segments {
    return this.descriptor.inPlace ? this.source : this.#otherTarget;
  }

  get transform(): number {
    return this.descriptor.transformIndex;
  }

  get encrypt(): boolean {
    return this.descriptor.encrypt;
  }

  get cipherOffset(): number {
    return this.descriptor.cipherOffset;
  }

  get cipherBytes(): number {
    return this.descriptor.cipherBytes;
  }

  get authOffset(): number {
    return this.descriptor.authOffset;
  }

  get authBytes(): number {
    return this.descriptor.authBytes;
  }

  get authKeyBytes(): number {
    return this.descriptor.authKeyBytes;
  }

  get macBytes(): number {
    return this.descriptor.macBytes;
  }

  /** Takes the key that was read. Triple DES with two keys uses the first one as its third. */
  completeKey(): void {
    const { transform, keyBytes } = this.descriptor;
    const twoKeys = transform.algorithm === Algorithm.tripleDes && keyBytes < tripleDesKeyBytes;
    this.keyBytes = twoKeys ? tripleDesKeyBytes : keyBytes;
    if (twoKeys) this.key.copyWithin(keyBytes, 0, tripleDesKeyBytes - keyBytes);
  }

  /** Makes room for the source buffer: less than 2^24 + 2^16 bytes, by the descriptor's fields. */
  prepareImage(length: number): void {
    if (length > keptImageBytes) {
      this.image = Buffer.allocUnsafeSlow(length);
      return;
    }
    if (this.#kept.buffer.byteLength < length) this.#kept = new Uint8Array(roundedUp(length));
    // Requests of one length come in rows: their view is made once.
    if (this.#kept.length !== length) this.#kept = new Uint8Array(this.#kept.buffer, 0, length);
    this.image = this.#kept;
  }

  /** Lets go of a source buffer that is not kept. */
  releaseImage(): void {
    this.image = noBytes;
  }

  /**
   * The work in memory of its own, no longer than what counts, to be handed over to a compute
   * worker.
   */
  toWork(): CipherWork {
    const { descriptor } = this;
    return {
      transform: descriptor.transformIndex,
      encrypt: descriptor.encrypt,
      key: this.key.slice(0, this.keyBytes),
      keyBytes: this.keyBytes,
      iv: this.iv.slice(),
      authIv: this.authIv.slice(),
      image: this.image === this.#kept ? this.image.slice() : this.image,
      cipherOffset: descriptor.cipherOffset,
      cipherBytes: descriptor.cipherBytes,
      authOffset: descriptor.authOffset,
      authBytes: descriptor.authBytes,
      authKey: this.authKey.slice(0, descriptor.authKeyBytes),
      authKeyBytes: descriptor.authKeyBytes,
      mac: this.mac.slice(0, descriptor.macBytes),
      macBytes: descriptor.macBytes,
    };
  }
}

/** The next power of two, so that growing lengths do not allocate each time; 4 KiB at least. */
const roundedUp = (length: number): number => Math.max(4096, 2 ** Math.ceil(Math.log2(length)));
