/**
 * Powers modulo any odd number. node:crypto has no such function, but an RSA encryption without
 * padding is one, and so is the public key that OpenSSL computes when it reads a Diffie-Hellman
 * private key; it checks neither number for being a prime, which would take seconds.
 */
import { constants, createPrivateKey, createPublicKey, publicEncrypt } from "node:crypto";
import { DerTag, derContent, derElement, derInteger } from "./der.ts";
import { bitLength, toBytes, toNumber, trimmed } from "./numbers.ts";

/** OpenSSL takes no exponents of RSA longer than `shortExponentBits` if the modulus is longer. */
const rsaModulusBitsMax = 3072;
const shortExponentBits = 64;
/** OpenSSL refuses shorter moduli (`DH_MIN_MODULUS_BITS` and its like). */
const nativeModulusBitsMin = 512;

/**
 * Nanoseconds: a product of two 64-bit limbs, native and as BigInt; a native key's way in and out.
 */
const limbProductCost = 1;
const bigintLimbProductCost = 8;
const bigintProductCost = 400;
const rsaKeyCost = 50_000;
const diffieHellmanKeyCost = 600_000;

/** Big-endian numbers without zeros in front. */
interface Power {
  /** Less than the modulus. */
  readonly base: Uint8Array;
  readonly exponent: Uint8Array;
  /** Odd and more than 1. */
  readonly modulus: Uint8Array;
}

/** Compares numbers without zeros in front: negative, 0 or positive. */
const compare = (a: Uint8Array, b: Uint8Array): number =>
  a.length === b.length ? Buffer.compare(a, b) : a.length - b.length;

/** Can RSA do it? Its exponent has to be less than the modulus. */
function fitsRsa({ exponent, modulus }: Power): boolean {
  const modulusBits = bitLength(modulus);
  if (modulusBits < nativeModulusBitsMin || exponent.length === 0) return false;
  if (compare(exponent, modulus) >= 0) return false;
  return modulusBits <= rsaModulusBitsMax || bitLength(exponent) <= shortExponentBits;
}

const fitsDiffieHellman = ({ base, exponent, modulus }: Power): boolean =>
  bitLength(modulus) >= nativeModulusBitsMin && exponent.length > 0 && base.length > 0;

function byRsa({ base, exponent, modulus }: Power): Uint8Array {
  const n = Buffer.from(modulus).toString("base64url");
  const e = Buffer.from(exponent).toString("base64url");
  const key = createPublicKey({ key: { kty: "RSA", n, e }, format: "jwk" });
  const padded = new Uint8Array(modulus.length);
  padded.set(base, modulus.length - base.length);
  return publicEncrypt({ key, padding: constants.RSA_NO_PADDING }, padded);
}

/** `dhKeyAgreement` of PKCS #3: 1.2.840.113549.1.3.1. */
const keyAgreement = derElement(
  DerTag.objectIdentifier,
  Uint8Array.of(0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x03, 0x01),
);
const version0 = derInteger(new Uint8Array(0));

/** PKCS #8 and SubjectPublicKeyInfo name the group alike. */
function byDiffieHellman({ base, exponent, modulus }: Power): Uint8Array | null {
  const { sequence, octetString, bitString, integer } = DerTag;
  const group = derElement(sequence, derInteger(modulus), derInteger(base));
  const algorithm = derElement(sequence, keyAgreement, group);
  const secret = derElement(octetString, derInteger(exponent));
  const pkcs8 = Buffer.from(derElement(sequence, version0, algorithm, secret));
  const privateKey = createPrivateKey({ key: pkcs8, format: "der", type: "pkcs8" });
  const spki = createPublicKey(privateKey).export({ format: "der", type: "spki" });
  const outer = derContent(spki, 0, sequence);
  const inner = outer && derContent(spki, outer.start, sequence);
  const wrapped = inner && derContent(spki, inner.end, bitString);
  const number = wrapped && derContent(spki, wrapped.start + 1, integer);
  return number && spki.subarray(number.start, number.end);
}

/** For what OpenSSL refuses; 4 bits of the exponent at a time. */
function byBigint({ base, exponent, modulus }: Power): Uint8Array {
  const m = toNumber(modulus);
  const powers = [1n % m];
  for (let i = 1; i < 16; i++) powers.push(((powers[i - 1] as bigint) * toNumber(base)) % m);
  let result = powers[0] as bigint;
  for (const byte of exponent) {
    for (const digit of [byte >> 4, byte & 15]) {
      for (let i = 0; i < 4; i++) result = (result * result) % m;
      result = (result * (powers[digit] as bigint)) % m;
    }
  }
  return toBytes(result, modulus.length);
}

/** One way after the other, because what OpenSSL accepts differs between its versions. */
function solve(power: Power): Uint8Array {
  try {
    if (fitsRsa(power)) return byRsa(power);
  } catch {
    // The next way is as good.
  }
  try {
    const result = fitsDiffieHellman(power) ? byDiffieHellman(power) : null;
    if (result !== null) return trimmed(result);
  } catch {
    // The last way knows no refusal.
  }
  return byBigint(power);
}

/** Is it odd and more than 1? Only such moduli are worked with. */
export const isModulus = (bytes: Uint8Array): boolean =>
  bitLength(bytes) > 1 && ((bytes.at(-1) as number) & 1) === 1;

/** Is `a` the lesser number? Both may have zeros in front. */
export const isLess = (a: Uint8Array, b: Uint8Array): boolean =>
  compare(trimmed(a), trimmed(b)) < 0;

/**
 * `base` to the `exponent` modulo `modulus`, as `length` bytes. The caller has checked that the
 * modulus `isModulus`, fits `length`, and that the base is less.
 */
export function modularPower(
  base: Uint8Array,
  exponent: Uint8Array,
  modulus: Uint8Array,
  length: number,
): Uint8Array {
  const numbers = { base: trimmed(base), exponent: trimmed(exponent), modulus: trimmed(modulus) };
  const result = trimmed(solve(numbers));
  const padded = new Uint8Array(length);
  padded.set(result, length - result.length);
  return padded;
}

/** Nanoseconds that a power is estimated to take. */
export function powerCost(exponent: Uint8Array, modulus: Uint8Array): number {
  const power = { base: Uint8Array.of(1), exponent: trimmed(exponent), modulus: trimmed(modulus) };
  const products = bitLength(exponent);
  const limbs = Math.ceil(bitLength(modulus) / 64) ** 2;
  if (fitsRsa(power)) return rsaKeyCost + products * limbs * limbProductCost;
  if (fitsDiffieHellman(power)) return diffieHellmanKeyCost + products * limbs * limbProductCost;
  return products * (bigintProductCost + limbs * bigintLimbProductCost);
}
