/**
 * CCM: NIST SP 800-38C. It is composed over CBC and CTR for all ciphers, because the driver hands
 * over the first block of the MAC (B0) and the first counter block as they are to be used.
 */
import { cbcBytes, ctrBytes } from "./blocks.ts";
import {
  authPart,
  type CipherResult,
  type CipherWork,
  cipherPart,
  taggedResult,
} from "./cipher-work.ts";
import type { KeyedCiphers } from "./keyed-ciphers.ts";
import type { BlockCipher, Primitive } from "./primitives.ts";

const blockBytes = 16;
const zeroIv = new Uint8Array(blockBytes);
/** From this length on, the associated data's length takes 6 bytes instead of 2 (A.2.2). */
const longAuthBytes = 0xff00;

const padded = (length: number): number => Math.ceil(length / blockBytes) * blockBytes;

/** Bytes of the message's length, "q", as the counter block's flags say; 0 if they are wrong. */
export function ccmLengthBytes(counterBlock: Uint8Array): number {
  const flags = counterBlock[0] as number;
  return flags >= 1 && flags <= 7 ? flags + 1 : 0;
}

/** B0, the associated data with its length, and the payload, each filled up to whole blocks. */
function macInput(work: CipherWork, payload: Uint8Array): Uint8Array {
  const { authBytes } = work;
  const prefixBytes = authBytes === 0 ? 0 : authBytes < longAuthBytes ? 2 : 6;
  const authEnd = blockBytes + padded(prefixBytes + authBytes);
  const input = new Uint8Array(authEnd + padded(payload.length));
  const view = new DataView(input.buffer);
  input.set(work.authIv.subarray(0, blockBytes));
  if (prefixBytes === 2) view.setUint16(blockBytes, authBytes);
  if (prefixBytes === 6) {
    view.setUint16(blockBytes, 0xfffe);
    view.setUint32(blockBytes + 2, authBytes);
  }
  input.set(authPart(work), blockBytes + prefixBytes);
  input.set(payload, authEnd);
  return input;
}

/** Both ways; a decryption whose tag does not fit gives no data. */
export function ccm(ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult {
  const { key, keyBytes, iv } = work;
  const source = cipherPart(work);
  const data = ctrBytes(cipher.ctr as Primitive, work, iv.subarray(0, blockBytes), source);
  const chained = { encrypt: true, key, keyBytes, iv: zeroIv };
  const input = macInput(work, work.encrypt ? source : data);
  const mac = cbcBytes(ciphers, cipher, chained, input).subarray(-blockBytes);
  const counterZero = iv.slice(0, blockBytes).fill(0, blockBytes - ccmLengthBytes(iv));
  const mask = ciphers.get(cipher.ecb, true, key, 0, keyBytes).update(counterZero);
  for (let i = 0; i < blockBytes; i++) mac[i] = (mac[i] as number) ^ (mask[i] as number);
  return taggedResult(work, data, mac);
}
