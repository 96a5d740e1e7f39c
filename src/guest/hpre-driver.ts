import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import {
  curve25519,
  HpreAlgorithm,
  HpreDw0,
  HpreQueue,
  HpreSqe,
  hpreDeviceId,
  hpreDone,
  hpreLengthUnit,
  primeCurves,
} from "../spec/hisi-hpre.ts";
import type { Call } from "./call.ts";
import { type EngineDriverOptions, engineDefaults } from "./engine-options.ts";
import { QmDriver } from "./qm-driver.ts";
import type { Encode, QueuePair } from "./queue-pair.ts";

/** Bytes of the longest number. */
const numberBytesMax = 512;
/** A key of up to four numbers, an operand and a result of up to two. */
const requestBytes = 8 * numberBytesMax;
/** Bytes of an X25519 number. */
const montgomeryBytes = 32;
/** Numbers of shorter curves are padded to so many bytes. */
const eccBytesLeast = 32;

type CurveName = "prime192v1" | "prime256v1" | "secp384r1";

/** A point of a curve, its coordinates big-endian. */
export interface Point {
  readonly x: Uint8Array;
  readonly y: Uint8Array;
}

/** A number as `size` big-endian bytes. */
function padded(number: Uint8Array | bigint, size: number): Uint8Array {
  const bytes = new Uint8Array(size);
  const digits =
    typeof number === "bigint"
      ? Buffer.from(number.toString(16).padStart(2 * size, "0"), "hex")
      : number;
  if (digits.length > size) {
    throw new FerryError("bad-argument", `a number of ${digits.length} bytes is too long.`);
  }
  bytes.set(digits, size - digits.length);
  return bytes;
}

/** One operation: numbers of `size` bytes each. */
interface Operation {
  readonly algorithm: number;
  readonly size: number;
  readonly key: ReadonlyArray<Uint8Array | bigint>;
  /** None for Diffie-Hellman with the generator 2. */
  readonly operand: ReadonlyArray<Uint8Array>;
  readonly resultNumbers: number;
}

function encode({ algorithm, size, key, operand, resultNumbers }: Operation): Encode<Uint8Array> {
  const numbers = (all: ReadonlyArray<Uint8Array | bigint>): Uint8Array =>
    Buffer.concat(all.map((number) => padded(number, size)));
  const keyBytes = numbers(key);
  const operandBytes = numbers(operand);
  return (sqe, at, memory) => {
    const target = memory.allocate(resultNumbers * size);
    const { offset, fields } = HpreSqe;
    sqe.setUint32(at + offset.dw0, HpreDw0.pack({ algorithm, done: 1 }), true);
    sqe.setUint8(at + offset.taskLen1, size / hpreLengthUnit - 1);
    fields.keyAddr.write(sqe, at + offset.keyAddr, memory.place(keyBytes).iova);
    const inAddr = operand.length === 0 ? 0 : memory.place(operandBytes).iova;
    fields.inAddr.write(sqe, at + offset.inAddr, inAddr);
    fields.outAddr.write(sqe, at + offset.outAddr, target.iova);
    return () => {
      const { done, error, moreErrors } = HpreDw0.unpack(sqe.getUint32(at + offset.dw0, true));
      if (done === hpreDone && error === 0 && moreErrors === 0) {
        return memory.copy(target, target.size);
      }
      throw new FerryError("request-failed", `HPRE refused the request: error ${error}.`);
    };
  };
}

/**
 * Drives HPRE, the public key accelerator: a queue for RSA and Diffie-Hellman, and one for curves.
 * Numbers are big-endian; those of an operation are as long as its modulus.
 */
export class HpreDriver {
  readonly qm: QmDriver;
  readonly #powers: QueuePair;
  readonly #curves: QueuePair;

  constructor(device: VfioDevice, options: EngineDriverOptions = {}) {
    const { depth } = { ...engineDefaults, ...options };
    this.qm = new QmDriver(device, hpreDeviceId, options);
    const entry = { sqeBytes: HpreSqe.size, tagAt: HpreSqe.offset.tag };
    const queue = { ...entry, depth, requestBytes };
    this.#powers = this.qm.createQueue({ ...queue, algType: HpreQueue.rsaAndDh });
    this.#curves = this.qm.createQueue({ ...queue, algType: HpreQueue.ecc });
  }

  /** message ^ exponent mod modulus: encrypts with a public key, or signs with a private one. */
  submitRsa(modulus: Uint8Array, exponent: Uint8Array, message: Uint8Array): Call<Uint8Array> {
    const { rsa: algorithm } = HpreAlgorithm;
    const key = [exponent, modulus];
    const size = modulus.length;
    const operation = { algorithm, size, key, operand: [message], resultNumbers: 1 };
    return this.#powers.submit(encode(operation));
  }

  /** base ^ secret mod prime; without a base it is 2. */
  submitDh(prime: Uint8Array, secret: Uint8Array, base: Uint8Array | null): Call<Uint8Array> {
    const operation = {
      algorithm: base === null ? HpreAlgorithm.dhG2 : HpreAlgorithm.dh,
      size: prime.length,
      key: [secret, prime],
      operand: base === null ? [] : [base],
      resultNumbers: 1,
    };
    return this.#powers.submit(encode(operation));
  }

  /** A point times a scalar: both coordinates, one behind the other. */
  submitEcdh(curve: CurveName, scalar: Uint8Array, point: Point): Call<Uint8Array> {
    const found = primeCurves.find(({ name }) => name === curve);
    if (found === undefined) throw new FerryError("bad-argument", `${curve} is not known.`);
    const operation = {
      algorithm: HpreAlgorithm.eccMultiply,
      size: Math.max(found.bytes, eccBytesLeast),
      key: [found.p, found.a, scalar, found.b],
      operand: [point.x, point.y],
      resultNumbers: 2,
    };
    return this.#curves.submit(encode(operation));
  }

  /** X25519 with everything little-endian, as RFC 7748 has it; the device wants the opposite. */
  submitX25519(scalar: Uint8Array, u: Uint8Array): Call<Uint8Array> {
    const clamped = Uint8Array.from(scalar);
    clamped[0] = (clamped[0] ?? 0) & 0xf8;
    clamped[31] = ((clamped[31] ?? 0) & 0x7f) | 0x40;
    const operation = {
      algorithm: HpreAlgorithm.x25519,
      size: montgomeryBytes,
      key: [curve25519.p, curve25519.a24, clamped.reverse()],
      operand: [Uint8Array.from(u).reverse()],
      resultNumbers: 1,
    };
    const encodeRequest = encode(operation);
    return this.#curves.submit((...place) => {
      const decode = encodeRequest(...place);
      return (sqe, at) => decode(sqe, at).reverse();
    });
  }

  rsa(modulus: Uint8Array, exponent: Uint8Array, message: Uint8Array): Uint8Array {
    return this.qm.wait(this.submitRsa(modulus, exponent, message));
  }

  dh(prime: Uint8Array, secret: Uint8Array, base: Uint8Array | null): Uint8Array {
    return this.qm.wait(this.submitDh(prime, secret, base));
  }

  /** The shared secret: the product's x, as long as the curve's numbers. */
  ecdh(curve: CurveName, scalar: Uint8Array, point: Point): Uint8Array {
    const product = this.qm.wait(this.submitEcdh(curve, scalar, point));
    return product.subarray(0, product.length / 2);
  }

  x25519(scalar: Uint8Array, u: Uint8Array): Uint8Array {
    return this.qm.wait(this.submitX25519(scalar, u));
  }

  close(): void {
    this.qm.close();
  }
}
