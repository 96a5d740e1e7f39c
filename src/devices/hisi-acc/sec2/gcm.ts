/** GCM with a 96-bit IV: NIST SP 800-38D. */
import { type CipherGCMTypes, createCipheriv, createDecipheriv } from "node:crypto";
import { ctrBytes } from "./blocks.ts";
import {
  authPart,
  type CipherResult,
  type CipherWork,
  cipherPart,
  taggedResult,
} from "./cipher-work.ts";
import type { KeyedCiphers } from "./keyed-ciphers.ts";
import type { BlockCipher, Primitive } from "./primitives.ts";

const ivBytes = 12;
const tagBytesMax = 16;

/** J0 of the standard for a 96-bit IV, with `count` added to its counter. */
function counterBlock(iv: Uint8Array, count: number): Uint8Array {
  const block = new Uint8Array(16);
  block.set(iv.subarray(0, ivBytes));
  block[15] = 1 + count;
  return block;
}

/** GCM over ECB and CTR with a GHASH of our own, for ciphers without a GCM of their own. */
export function composedGcm(
  ciphers: KeyedCiphers,
  cipher: BlockCipher,
  work: CipherWork,
): CipherResult {
  const keyed = ciphers.get(cipher.ecb, true, work.key, 0, work.keyBytes);
  const { ghash } = keyed;
  const source = cipherPart(work);
  const data = ctrBytes(cipher.ctr as Primitive, work, counterBlock(work.iv, 1), source);
  ghash.reset();
  ghash.update(work.image, work.authOffset, work.authBytes);
  ghash.update(work.encrypt ? data : source, 0, work.cipherBytes);
  const hash = ghash.digest(work.authBytes, work.cipherBytes);
  const tag = keyed.update(counterBlock(work.iv, 0));
  for (let i = 0; i < tagBytesMax; i++) tag[i] = (tag[i] as number) ^ (hash[i] as number);
  return taggedResult(work, data, tag);
}

function encrypted({ name }: Primitive, work: CipherWork): CipherResult {
  const key = work.key.subarray(0, work.keyBytes);
  const iv = work.iv.subarray(0, ivBytes);
  const options = { authTagLength: tagBytesMax };
  const cipher = createCipheriv(name as CipherGCMTypes, key, iv, options);
  if (work.authBytes > 0) cipher.setAAD(authPart(work));
  const data = work.cipherBytes > 0 ? cipher.update(cipherPart(work)) : new Uint8Array(0);
  cipher.final();
  return { data, mac: cipher.getAuthTag(), matches: true };
}

function decrypted({ name }: Primitive, work: CipherWork): CipherResult {
  const key = work.key.subarray(0, work.keyBytes);
  const iv = work.iv.subarray(0, ivBytes);
  const options = { authTagLength: work.macBytes };
  const decipher = createDecipheriv(name as CipherGCMTypes, key, iv, options);
  decipher.setAuthTag(work.mac.subarray(0, work.macBytes));
  if (work.authBytes > 0) decipher.setAAD(authPart(work));
  const data = work.cipherBytes > 0 ? decipher.update(cipherPart(work)) : new Uint8Array(0);
  try {
    decipher.final();
  } catch {
    return { data: new Uint8Array(0), mac: null, matches: false };
  }
  return { data, mac: null, matches: true };
}

/** By node:crypto where it has the cipher's GCM, composed of CTR and GHASH otherwise. */
export function gcm(ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult {
  if (cipher.gcm === null) return composedGcm(ciphers, cipher, work);
  return work.encrypt ? encrypted(cipher.gcm, work) : decrypted(cipher.gcm, work);
}
