/** ECB, CBC and CTR (NIST SP 800-38A) of whatever block cipher. */
import { createCipheriv } from "node:crypto";
import { type CipherResult, type CipherWork, cipherPart, plainResult } from "./cipher-work.ts";
import type { KeyedCiphers } from "./keyed-ciphers.ts";
import type { BlockCipher, Primitive } from "./primitives.ts";

/** ECB: NIST SP 800-38A, section 6.1. */
export function ecb(ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult {
  const keyed = ciphers.get(cipher.ecb, work.encrypt, work.key, 0, work.keyBytes);
  return plainResult(keyed.update(cipherPart(work)));
}

/**
 * CBC over a cipher that was used before: it goes on from the last ciphertext block of its former
 * work, `chain`. That cancels out when the first block is given, or gives, `chain` XOR the IV.
 */
export function cbcBytes(
  ciphers: KeyedCiphers,
  cipher: BlockCipher,
  work: Pick<CipherWork, "encrypt" | "key" | "keyBytes" | "iv">,
  data: Uint8Array,
): Uint8Array {
  if (data.length === 0) return data;
  const { blockBytes } = cipher;
  const { encrypt, iv } = work;
  const keyed = ciphers.get(cipher.cbc, encrypt, work.key, 0, work.keyBytes);
  const { chain } = keyed;
  const last = data.length - blockBytes;
  if (encrypt) {
    for (let i = 0; i < blockBytes; i++) {
      data[i] = (data[i] as number) ^ (iv[i] as number) ^ (chain[i] as number);
    }
    const output = keyed.update(data);
    for (let i = 0; i < blockBytes; i++) chain[i] = output[last + i] as number;
    return output;
  }
  const output = keyed.update(data);
  for (let i = 0; i < blockBytes; i++) {
    output[i] = (output[i] as number) ^ (iv[i] as number) ^ (chain[i] as number);
    chain[i] = data[last + i] as number;
  }
  return output;
}

/** CBC: section 6.2. */
export const cbc = (ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult =>
  plainResult(cbcBytes(ciphers, cipher, work, cipherPart(work)));

/** CTR from the block `counter`: 128 bits, big-endian, that wrap; both ways are the same. */
export const ctrBytes = (
  { name }: Primitive,
  { key, keyBytes }: Pick<CipherWork, "key" | "keyBytes">,
  counter: Uint8Array,
  data: Uint8Array,
): Uint8Array => createCipheriv(name, key.subarray(0, keyBytes), counter).update(data);

/** CTR: section 6.5. */
export const ctr = (_ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult =>
  plainResult(ctrBytes(cipher.ctr as Primitive, work, work.iv.subarray(0, 16), cipherPart(work)));
