import { type Cipher, createCipheriv, createDecipheriv, type Decipher } from "node:crypto";
import { Ghash } from "./ghash.ts";
import type { Primitive } from "./primitives.ts";

const zeros = new Uint8Array(16);

/**
 * An ECB or CBC cipher with its key set. It is used again and again: whole blocks go in and come
 * out, so ECB has nothing to remember, and CBC only the last block of ciphertext, which is `chain`.
 */
export class KeyedCipher {
  readonly primitive: Primitive;
  readonly encrypts: boolean;
  /** CBC: the ciphertext block that the next block will be chained to. */
  readonly chain = new Uint8Array(16);
  readonly #key: Uint8Array;
  readonly #cipher: Cipher | Decipher;
  #ghash: Ghash | null = null;

  constructor(primitive: Primitive, encrypts: boolean, key: Uint8Array) {
    this.primitive = primitive;
    this.encrypts = encrypts;
    this.#key = key;
    const iv = primitive.ivBytes === 0 ? null : zeros.subarray(0, primitive.ivBytes);
    const create = encrypts ? createCipheriv : createDecipheriv;
    this.#cipher = create(primitive.name, key, iv);
    this.#cipher.setAutoPadding(false);
  }

  /** Is it this cipher with the `length` bytes of `key` from `at`? */
  is(
    primitive: Primitive,
    encrypts: boolean,
    key: Uint8Array,
    at: number,
    length: number,
  ): boolean {
    if (primitive !== this.primitive || encrypts !== this.encrypts) return false;
    const own = this.#key;
    for (let i = 0; i < length; i++) if (own[i] !== key[at + i]) return false;
    return true;
  }

  /** The output for whole blocks, in memory of its own. */
  update(blocks: Uint8Array): Uint8Array {
    return this.#cipher.update(blocks);
  }

  /** GHASH with the key that this cipher's key gives: the encrypted zero block. ECB only. */
  get ghash(): Ghash {
    this.#ghash ??= new Ghash(this.update(zeros));
    return this.#ghash;
  }
}

/** How many keys are kept set; a power of two. */
const slots = 64;

/**
 * Keyed ciphers that were used last. To set a key takes longer than to cipher a short request, and
 * requests with the same key come in rows. A key is found by its bytes, never by its address, so a
 * driver may change it in place.
 */
export class KeyedCiphers {
  readonly #slots: (KeyedCipher | null)[] = new Array(slots).fill(null);

  /** The cipher with the `length` bytes of `key` from `at`. */
  get(
    primitive: Primitive,
    encrypts: boolean,
    key: Uint8Array,
    at: number,
    length: number,
  ): KeyedCipher {
    let hash = encrypts ? 1 : 2;
    for (let i = 0; i < length; i++) hash = Math.imul(hash ^ (key[at + i] as number), 0x01000193);
    hash = (hash ^ (hash >>> 15) ^ primitive.ivBytes) & (slots - 1);
    const found = this.#slots[hash] as KeyedCipher | null;
    if (found?.is(primitive, encrypts, key, at, length)) return found;
    const made = new KeyedCipher(primitive, encrypts, key.slice(at, at + length));
    this.#slots[hash] = made;
    return made;
  }
}
