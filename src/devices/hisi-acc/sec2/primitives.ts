/** One cipher of node:crypto. */
export interface Primitive {
  readonly name: string;
  readonly ivBytes: number;
}

/** The modes of one block cipher with one key length that node:crypto is asked for. */
export interface BlockCipher {
  readonly blockBytes: number;
  readonly ecb: Primitive;
  readonly cbc: Primitive;
  readonly ctr: Primitive | null;
  /** Null where node:crypto has none, and the mode is composed. */
  readonly gcm: Primitive | null;
  readonly xts: Primitive | null;
}

/** Bytes of a key to the cipher that takes it. */
export type BlockCiphers = Readonly<Record<number, BlockCipher>>;

const aesOf = (bits: number): BlockCipher => ({
  blockBytes: 16,
  ecb: { name: `aes-${bits}-ecb`, ivBytes: 0 },
  cbc: { name: `aes-${bits}-cbc`, ivBytes: 16 },
  ctr: { name: `aes-${bits}-ctr`, ivBytes: 16 },
  gcm: { name: `aes-${bits}-gcm`, ivBytes: 12 },
  xts: bits === 192 ? null : { name: `aes-${bits}-xts`, ivBytes: 16 },
});

export const aes: BlockCiphers = { 16: aesOf(128), 24: aesOf(192), 32: aesOf(256) };

/** OpenSSL 3.0 has no more modes of SM4 than these. */
export const sm4: BlockCiphers = {
  16: {
    blockBytes: 16,
    ecb: { name: "sm4-ecb", ivBytes: 0 },
    cbc: { name: "sm4-cbc", ivBytes: 16 },
    ctr: { name: "sm4-ctr", ivBytes: 16 },
    gcm: null,
    xts: null,
  },
};

export const tripleDes: BlockCiphers = {
  24: {
    blockBytes: 8,
    ecb: { name: "des-ede3-ecb", ivBytes: 0 },
    cbc: { name: "des-ede3-cbc", ivBytes: 8 },
    ctr: null,
    gcm: null,
    xts: null,
  },
};
