/** Words of an element: 128 bits, bit 0 of the standard's is the highest of the first word. */
const words = 4;
/** The field's polynomial as a right shift brings it in: 1 + x + x^2 + x^7 + x^128. */
const polynomial = 0xe1000000;

/** Multiplies the element at `at` by x. */
function timesX(elements: Int32Array, at: number): void {
  const lowest = (elements[at + 3] as number) & 1;
  for (let i = 3; i > 0; i--) {
    elements[at + i] =
      ((elements[at + i] as number) >>> 1) | ((elements[at + i - 1] as number) << 31);
  }
  elements[at] = ((elements[at] as number) >>> 1) ^ (lowest === 1 ? polynomial : 0);
}

/** What comes back for each byte that leaves an element when it is multiplied by x^8. */
const reduction = new Int32Array(256);
const shifted = new Int32Array(words);
for (let byte = 0; byte < 256; byte++) {
  shifted.fill(0);
  shifted[3] = byte;
  for (let i = 0; i < 8; i++) timesX(shifted, 0);
  reduction[byte] = shifted[0] as number;
}

/**
 * GHASH of NIST SP 800-38D (6.4) with one key: 4 KiB of tables, the multiple of the key for each
 * byte value, take the blocks byte by byte.
 */
export class Ghash {
  readonly #multiples = new Int32Array(256 * words);
  readonly #state = new Int32Array(words);

  /** `key` is the hash subkey H, 16 bytes. */
  constructor(key: Uint8Array) {
    const view = new DataView(key.buffer, key.byteOffset, 16);
    const table = this.#multiples;
    for (let i = 0; i < words; i++) table[128 * words + i] = view.getInt32(4 * i);
    for (let single = 64; single > 0; single >>= 1) {
      table.copyWithin(single * words, 2 * single * words, (2 * single + 1) * words);
      timesX(table, single * words);
    }
    for (let high = 2; high < 256; high *= 2) {
      for (let low = 1; low < high; low++) {
        for (let i = 0; i < words; i++) {
          const sum = (table[high * words + i] as number) ^ (table[low * words + i] as number);
          table[(high + low) * words + i] = sum;
        }
      }
    }
  }

  /** Starts a new hash. */
  reset(): void {
    this.#state.fill(0);
  }

  /** Adds `length` bytes of `bytes` from `at`, filled up with zeros to whole blocks. */
  update(bytes: Uint8Array, at: number, length: number): void {
    const end = at + length;
    const whole = end - (length % 16);
    for (let block = at; block < whole; block += 16) this.#addBlock(bytes, block);
    if (whole === end) return;
    const last = new Uint8Array(16);
    last.set(bytes.subarray(whole, end));
    this.#addBlock(last, 0);
  }

  #addBlock(bytes: Uint8Array, at: number): void {
    const state = this.#state;
    const table = this.#multiples;
    let [z0, z1, z2, z3] = [0, 0, 0, 0];
    for (let i = 15; i >= 0; i--) {
      const own = ((state[i >> 2] as number) >>> (24 - 8 * (i & 3))) & 0xff;
      const entry = (own ^ (bytes[at + i] as number)) * words;
      const out = reduction[z3 & 0xff] as number;
      z3 = ((z3 >>> 8) | (z2 << 24)) ^ (table[entry + 3] as number);
      z2 = ((z2 >>> 8) | (z1 << 24)) ^ (table[entry + 2] as number);
      z1 = ((z1 >>> 8) | (z0 << 24)) ^ (table[entry + 1] as number);
      z0 = (z0 >>> 8) ^ out ^ (table[entry] as number);
    }
    state[0] = z0;
    state[1] = z1;
    state[2] = z2;
    state[3] = z3;
  }

  /** Adds the block with the lengths, in bytes, that ends a tag's hash, and gives the hash. */
  digest(authBytes: number, cipherBytes: number): Uint8Array {
    const block = new Uint8Array(16);
    const view = new DataView(block.buffer);
    view.setBigUint64(0, BigInt(authBytes) * 8n);
    view.setBigUint64(8, BigInt(cipherBytes) * 8n);
    this.#addBlock(block, 0);
    for (let i = 0; i < words; i++) view.setInt32(4 * i, this.#state[i] as number);
    return block;
  }
}
