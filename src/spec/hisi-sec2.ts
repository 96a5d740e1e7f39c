/**
 * The HiSilicon SEC2 symmetric crypto accelerator, revision V3: Linux 6.12
 * `drivers/crypto/hisilicon/sec2/sec_crypto.h` (`struct sec_sqe3` and the enumerations around it).
 */
import { bits } from "../base/bits.ts";
import { array, type Field, struct, u8, u16, u32, u53, u64 } from "../base/struct.ts";

/** PCI device id of the VF, and its class: network and computing encryption device. */
export const sec2DeviceId = 0xa256;
export const sec2ClassCode = 0x100000;

/** The structure is packed: behind `cLenIvin` its addresses are aligned to 4 bytes only. */
const packedU53: Field<number> = { ...u53, align: 4 };

/**
 * Buffer descriptor type 3, the submission queue entry. `tag` is the driver's own; `aLenKey` and
 * `cLenIvin` hold the authenticated and the ciphered length.
 */
export const Bd3 = struct("sec_sqe3", 128, {
  bdParam: u32,
  cIcvKey: u16,
  cModeAlg: u8,
  hukIvSeq: u8,
  tag: u64,
  dataSrcAddr: u53,
  aKeyAddr: u53,
  aIvinAddr: u53,
  aIvinReserved: u64,
  cKeyAddr: u53,
  authMacKey: u32,
  salt: u32,
  authSrcOffset: u16,
  cipherSrcOffset: u16,
  aLenKey: u32,
  cLenIvin: u32,
  dataDstAddr: packedU53,
  macAddr: packedU53,
  cIvinAddr: packedU53,
  cIvinReserved: array(u32, 3),
  doneFlag: u16,
  errorType: u8,
  warningType: u8,
  macI: u32,
  checksum: u32,
  counter: u32,
});

/** `bdParam`. `de` tells that the output goes to `dataDstAddr` instead of back to the source. */
export const BdParam = bits({
  type: [3, 0],
  invalid: 4,
  scene: [8, 5],
  de: [10, 9],
  sourceType: [13, 11],
  targetType: [16, 14],
  macType: [19, 17],
});
/** The value of `BdParam.type`. */
export const bdType3 = 3;
/** Values of `BdParam.sourceType`, `targetType` and `macType`. */
export const AddressType = { flat: 0, sgl: 1, prp: 2 } as const;

/** `cIcvKey`. `icvLength` is the bytes of a CCM or GCM tag. */
export const CIcvKey = bits({
  cipher: [1, 0],
  ciGen: [3, 2],
  icvLength: [9, 4],
  width: [12, 10],
  keyLength: [15, 13],
});
/** Values of `CIcvKey.cipher`. */
export const Cipher = { none: 0, encrypt: 1, decrypt: 2 } as const;
/** Values of `CIcvKey.keyLength`, for AES and SM4 and for triple DES. */
export const KeyLength = { bits128: 0, bits192: 1, bits256: 2 } as const;
export const KeyLength3Des = { threeKeys: 1, twoKeys: 3 } as const;
/** Bytes of a key slot at `cKeyAddr`. */
export const keySlotBytes = 64;

/** `cModeAlg`. */
export const CModeAlg = bits({ mode: [3, 0], algorithm: [7, 4] });
export const Mode = { ecb: 0, cbc: 1, ctr: 4, ccm: 5, gcm: 6, xts: 7 } as const;
export const Algorithm = { tripleDes: 1, aes: 2, sm4: 3 } as const;

/** `hukIvSeq`. `sequence` is one of `Sequence`. */
export const HukIvSeq = bits({ sequence: [6, 6] });
export const Sequence = { cipherThenAuth: 0, authThenCipher: 1 } as const;

/** `authMacKey`. `macWords` and `keyWords` count 4 bytes each. */
export const AuthMacKey = bits({
  auth: [1, 0],
  aiGen: [3, 2],
  macWords: [8, 4],
  keyWords: [14, 9],
  algorithm: [20, 15],
  counterMode: [26, 25],
  prefetch: 27,
});
export const Auth = { none: 0, calculate: 1, verify: 2 } as const;
export const AuthAlgorithm = { hmacSha1: 0x10, hmacSha256: 0x11, hmacSha512: 0x15 } as const;
/**
 * The value of `AuthMacKey.counterMode` for a 128-bit counter that wraps; CTR has no other here.
 */
export const counterRollOver = 2;
/** Bytes of the longest authentication key that `keyWords` can name. */
export const authKeyBytesMax = 63 * 4;

/** `aLenKey` and `cLenIvin`: the length is in the low 24 bits. */
export const LengthBits = bits({ length: [23, 0] });

/** `doneFlag`. `flag` tells a finished cipher request from a finished AEAD one. */
export const DoneFlag = bits({ done: 0, icv: [3, 1], csc: [6, 4], flag: [10, 7] });
export const DoneKind = { cipher: 2, aead: 3 } as const;
/** The value of `DoneFlag.icv` for a tag that does not match. */
export const icvMismatch = 2;

/**
 * What the model writes to `errorType`. The driver knows only zero, good, from everything else, so
 * the numbers are the model's own and name what it refused.
 */
export const ErrorType = {
  none: 0,
  descriptor: 1,
  addressType: 2,
  algorithm: 3,
  keyLength: 4,
  dataLength: 5,
  macLength: 6,
  sgl: 7,
  iv: 8,
  /** The device itself could not do it. */
  device: 9,
} as const;
export type ErrorType = (typeof ErrorType)[keyof typeof ErrorType];

/** Algorithms that the driver registers, by its name and the bit of the capability bitmap. */
export const algorithmBits = {
  "ecb(aes)": 0,
  "cbc(aes)": 1,
  "ctr(aes)": 2,
  "xts(aes)": 3,
  "ccm(aes)": 6,
  "gcm(aes)": 7,
  "cbc(sm4)": 12,
  "ctr(sm4)": 13,
  "xts(sm4)": 14,
  "ccm(sm4)": 17,
  "gcm(sm4)": 18,
  "ecb(des3_ede)": 23,
  "cbc(des3_ede)": 24,
  "authenc(hmac(sha1),cbc(aes))": 43,
  "authenc(hmac(sha256),cbc(aes))": 44,
  "authenc(hmac(sha512),cbc(aes))": 45,
} as const;
export type AlgorithmName = keyof typeof algorithmBits;

/** Capability registers that say what no VF driver acts on, as the hardware has them. */
export const fixedCapabilities: ReadonlyArray<readonly [offset: number, value: number]> = [
  [0x3124, 0x7c77],
  [0x3128, 0x6c77],
  [0x312c, 0x8],
  [0x3130, 0x60177],
  [0x3134, 0x177],
  [0x3138, 0xc088],
  [0x313c, 0x110404],
  [0x3140, 0xf],
];
/**
 * Capability registers with a bitmap of algorithms, low and high half each: what the kernel's
 * driver
 * registers, what the device offers to user space, and what each of its four cores can do.
 */
export const algorithmCapabilities: ReadonlyArray<readonly [low: number, high: number]> = [
  [0x3144, 0x3148],
  [0x314c, 0x3150],
  [0x3154, 0x3158],
  [0x315c, 0x3160],
  [0x3164, 0x3168],
  [0x316c, 0x3170],
];
