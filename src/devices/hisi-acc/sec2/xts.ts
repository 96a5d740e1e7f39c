/** XTS with ciphertext stealing: IEEE 1619-2018, NIST SP 800-38E. */
import { createCipheriv, createDecipheriv } from "node:crypto";
import {
  type CipherResult,
  type CipherWork,
  cipherPart,
  plainResult,
  sameBytes,
} from "./cipher-work.ts";
import type { KeyedCipher, KeyedCiphers } from "./keyed-ciphers.ts";
import type { BlockCipher, Primitive } from "./primitives.ts";

const blockBytes = 16;

/** The tweaks of `count` blocks in a row: the first one times x, again and again. */
function tweaksFrom(first: Uint8Array, count: number): Uint8Array {
  const tweaks = new Uint8Array(count * blockBytes);
  const view = new DataView(tweaks.buffer);
  tweaks.set(first);
  let [w0, w1] = [view.getUint32(0, true), view.getUint32(4, true)];
  let [w2, w3] = [view.getUint32(8, true), view.getUint32(12, true)];
  for (let at = blockBytes; at < tweaks.length; at += blockBytes) {
    const carry = w3 >>> 31;
    w3 = (w3 << 1) | (w2 >>> 31);
    w2 = (w2 << 1) | (w1 >>> 31);
    w1 = (w1 << 1) | (w0 >>> 31);
    w0 = (w0 << 1) ^ (carry * 0x87);
    view.setUint32(at, w0, true);
    view.setUint32(at + 4, w1, true);
    view.setUint32(at + 8, w2, true);
    view.setUint32(at + 12, w3, true);
  }
  return tweaks;
}

/** `data` XOR `tweaks`, both aligned to words, as far as `data` reaches. */
function mix(data: Uint8Array, tweaks: Uint8Array): void {
  const target = new Int32Array(data.buffer, data.byteOffset, data.length / 4);
  const source = new Int32Array(tweaks.buffer, tweaks.byteOffset, data.length / 4);
  for (let i = 0; i < target.length; i++) {
    target[i] = (target[i] as number) ^ (source[i] as number);
  }
}

/** Whole blocks through cipher and tweaks; `blocks` is changed, the output is new. */
function tweaked(keyed: KeyedCipher, blocks: Uint8Array, tweaks: Uint8Array): Uint8Array {
  mix(blocks, tweaks);
  const output = keyed.update(blocks);
  mix(output, tweaks);
  return output;
}

/** Exchanges the last two tweaks: a decryption that steals uses them in the other order. */
function exchangeLast(tweaks: Uint8Array): void {
  const last = tweaks.length - blockBytes;
  const kept = tweaks.slice(last);
  tweaks.copyWithin(last, last - blockBytes, last);
  tweaks.set(kept, last - blockBytes);
}

/** XTS over ECB: for the ciphers without an XTS of their own, and for keys with equal halves. */
export function composedXts(
  ciphers: KeyedCiphers,
  { ecb }: BlockCipher,
  work: CipherWork,
): Uint8Array {
  const half = work.keyBytes / 2;
  const whole = Math.floor(work.cipherBytes / blockBytes);
  const rest = work.cipherBytes % blockBytes;
  const tweak = ciphers.get(ecb, true, work.key, half, half);
  const first = tweak.update(work.iv.subarray(0, blockBytes));
  const tweaks = tweaksFrom(first, rest === 0 ? whole : whole + 1);
  if (rest > 0 && !work.encrypt) exchangeLast(tweaks);
  const keyed = ciphers.get(ecb, work.encrypt, work.key, 0, half);
  const data = cipherPart(work);
  const output = tweaked(keyed, data.slice(0, whole * blockBytes), tweaks);
  if (rest === 0) return output;
  const last = output.length - blockBytes;
  const stolen = Uint8Array.from(output.subarray(last));
  const joined = Uint8Array.from(stolen);
  joined.set(data.subarray(whole * blockBytes));
  const all = new Uint8Array(work.cipherBytes);
  all.set(output);
  all.set(tweaked(keyed, joined, tweaks.subarray(whole * blockBytes)), last);
  all.set(stolen.subarray(0, rest), whole * blockBytes);
  return all;
}

/** OpenSSL's own is faster for long data, but refuses keys with equal halves. */
function nativeXts({ name }: Primitive, work: CipherWork): Uint8Array {
  const create = work.encrypt ? createCipheriv : createDecipheriv;
  const key = work.key.subarray(0, work.keyBytes);
  return create(name, key, work.iv.subarray(0, blockBytes)).update(cipherPart(work));
}

/** By node:crypto where it can: it refuses a key of two equal halves, which hardware takes. */
export function xts(ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork): CipherResult {
  const half = work.keyBytes / 2;
  const equal = sameBytes(work.key, work.key.subarray(half), half);
  const native = equal ? null : cipher.xts;
  return plainResult(
    native === null ? composedXts(ciphers, cipher, work) : nativeXts(native, work),
  );
}
