/**
 * The arithmetic of one request as plain data, so that a compute worker can do it as well as the
 * device's thread. The buffers may be longer than what counts of them.
 */
export interface CipherWork {
  /** Which of `transforms`. */
  readonly transform: number;
  readonly encrypt: boolean;
  readonly key: Uint8Array;
  readonly keyBytes: number;
  /** Bytes as the transform's `ivBytes`; the first counter block of CTR and CCM. */
  readonly iv: Uint8Array;
  /** B0 of CCM. */
  readonly authIv: Uint8Array;
  /** The source buffer from its first byte. The work may change it. */
  readonly image: Uint8Array;
  readonly cipherOffset: number;
  readonly cipherBytes: number;
  readonly authOffset: number;
  readonly authBytes: number;
  readonly authKey: Uint8Array;
  readonly authKeyBytes: number;
  /** The tag that a decryption expects. */
  readonly mac: Uint8Array;
  readonly macBytes: number;
}

/** What comes out. It shares no memory with the work, nor with another result. */
export interface CipherResult {
  /** The `cipherBytes` bytes of output; nothing of it may be used when the tag does not match. */
  readonly data: Uint8Array;
  /** The tag of an encryption, at least `macBytes` long; null when there is none to write. */
  readonly mac: Uint8Array | null;
  /** False when the tag of a decryption is not the expected one. */
  readonly matches: boolean;
}

/** The ciphered part of the work's image. */
export const cipherPart = ({ image, cipherOffset, cipherBytes }: CipherWork): Uint8Array =>
  cipherBytes === image.length ? image : image.subarray(cipherOffset, cipherOffset + cipherBytes);

/** The authenticated part of the work's image. */
export const authPart = ({ image, authOffset, authBytes }: CipherWork): Uint8Array =>
  image.subarray(authOffset, authOffset + authBytes);

/** Are the first `length` bytes the same? Takes the same time whichever byte differs. */
export function sameBytes(a: Uint8Array, b: Uint8Array, length: number): boolean {
  let difference = 0;
  for (let i = 0; i < length; i++) difference |= (a[i] as number) ^ (b[i] as number);
  return difference === 0;
}

/** What a cipher without a tag answers. */
export const plainResult = (data: Uint8Array): CipherResult => ({
  data,
  mac: null,
  matches: true,
});

/** What an AEAD answers: its tag when it encrypts, the comparison of it when it decrypts. */
export function taggedResult(work: CipherWork, data: Uint8Array, mac: Uint8Array): CipherResult {
  if (work.encrypt) return { data, mac, matches: true };
  const matches = sameBytes(mac, work.mac, work.macBytes);
  return { data: matches ? data : new Uint8Array(0), mac: null, matches };
}
