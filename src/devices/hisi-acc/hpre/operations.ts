/** The computations of HPRE, for the device's thread and for compute workers. */
import { curve25519, HpreError } from "../../../spec/hisi-hpre.ts";
import { isLess, isModulus, modularPower } from "./modular-power.ts";
import { modulo, toBytes, toNumber } from "./numbers.ts";
import { findCurve, multiply } from "./prime-curve.ts";
import { x25519 } from "./x25519.ts";

export const powerOperation = "hpre-power";
export const rsaCrtOperation = "hpre-rsa-crt";
export const eccOperation = "hpre-ecc";
export const x25519Operation = "hpre-x25519";

/** The numbers of a request, each of the same length unless told, and the output's length. */
export interface HpreWork {
  /** What the key buffer holds, in its order. */
  readonly key: Uint8Array;
  /** What the input buffer holds. */
  readonly operand: Uint8Array;
  /** Bytes of one number. */
  readonly size: number;
}

/** How a computation ended, and its number, big-endian. */
export interface HpreResult {
  readonly error: HpreError;
  /** Empty unless there was no error. */
  readonly output: Uint8Array;
}

const nothing = new Uint8Array(0);
const failed = (error: HpreError): HpreResult => ({ error, output: nothing });
const done = (output: Uint8Array): HpreResult => ({ error: HpreError.none, output });

/** Number `index` of a buffer of numbers. */
export const numberAt = (bytes: Uint8Array, size: number, index: number): Uint8Array =>
  bytes.subarray(index * size, (index + 1) * size);

/**
 * RSA without CRT, and Diffie-Hellman: exponent and modulus are the key, the base is the operand.
 */
export function power({ key, operand, size }: HpreWork): HpreResult {
  const modulus = numberAt(key, size, 1);
  if (!isModulus(modulus)) return failed(HpreError.modulus);
  if (!isLess(operand, modulus)) return failed(HpreError.operand);
  return done(modularPower(operand, numberAt(key, size, 0), modulus, size));
}

/**
 * RSA with CRT [RFC 8017, section 5.1.2]: dq, dp, q, p and qInv are the key, each of half the
 * length. Whether p and q are primes is not asked.
 */
export function rsaCrt({ key, operand, size }: HpreWork): HpreResult {
  const half = size / 2;
  const p = numberAt(key, half, 3);
  const q = numberAt(key, half, 2);
  if (!isModulus(p) || !isModulus(q)) return failed(HpreError.modulus);
  const first = toNumber(p);
  const second = toNumber(q);
  const message = toNumber(operand);
  if (message >= first * second) return failed(HpreError.operand);
  const residue = (prime: bigint) => toBytes(message % prime, half);
  const m1 = toNumber(modularPower(residue(first), numberAt(key, half, 1), p, half));
  const m2 = toNumber(modularPower(residue(second), numberAt(key, half, 0), q, half));
  const h = modulo((m1 - m2) * toNumber(numberAt(key, half, 4)), first);
  return done(toBytes(m2 + second * h, size));
}

/** A point times a scalar: p, a, k and b are the key, x and y the operand and the output. */
export function ecc({ key, operand, size }: HpreWork): HpreResult {
  const p = toNumber(numberAt(key, size, 0));
  const a = toNumber(numberAt(key, size, 1));
  const scalar = toNumber(numberAt(key, size, 2));
  const curve = findCurve(p, a, toNumber(numberAt(key, size, 3)));
  if (curve === null) return failed(HpreError.curve);
  const x = toNumber(numberAt(operand, size, 0));
  const y = toNumber(numberAt(operand, size, 1));
  try {
    const product = multiply(curve, scalar, { x, y });
    if (typeof product === "number") return failed(product);
    return done(Buffer.concat([toBytes(product.x, size), toBytes(product.y, size)]));
  } catch {
    // OpenSSL was built without this curve.
    return failed(HpreError.unavailable);
  }
}

/** X25519 of big-endian numbers: p, a and k are the key, u the operand. */
export function montgomery({ key, operand, size }: HpreWork): HpreResult {
  const p = toNumber(numberAt(key, size, 0));
  const a24 = toNumber(numberAt(key, size, 1));
  if (p !== curve25519.p || a24 !== curve25519.a24) return failed(HpreError.curve);
  const scalar = numberAt(key, size, 2).toReversed();
  const result = x25519(scalar, operand.toReversed());
  return typeof result === "number" ? failed(result) : done(Uint8Array.from(result).reverse());
}

export const hpreOperations = {
  [powerOperation]: power,
  [rsaCrtOperation]: rsaCrt,
  [eccOperation]: ecc,
  [x25519Operation]: montgomery,
} as const;
