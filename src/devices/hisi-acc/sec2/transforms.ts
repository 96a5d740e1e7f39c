/** What the engine can do to a request's bytes, one line an algorithm of the driver's. */
import { getCiphers, getHashes } from "node:crypto";
import {
  Algorithm,
  type AlgorithmName,
  AuthAlgorithm,
  algorithmBits,
  CModeAlg,
  Mode,
} from "../../../spec/hisi-sec2.ts";
import { authenc } from "./authenc.ts";
import { cbc, ctr, ecb } from "./blocks.ts";
import { ccm } from "./ccm.ts";
import type { CipherResult, CipherWork } from "./cipher-work.ts";
import { gcm } from "./gcm.ts";
import type { KeyedCiphers } from "./keyed-ciphers.ts";
import { aes, type BlockCipher, type BlockCiphers, sm4, tripleDes } from "./primitives.ts";
import { xts } from "./xts.ts";

/** Which kind of request a transform is; tells the fields that count and the answer. */
export const Kind = { cipher: 0, aead: 1, authenc: 2 } as const;
export type Kind = (typeof Kind)[keyof typeof Kind];

type Run = (ciphers: KeyedCiphers, cipher: BlockCipher, work: CipherWork) => CipherResult;

/** One algorithm: how a descriptor asks for it, and what computes it. */
export interface Transform {
  readonly name: AlgorithmName;
  readonly kind: Kind;
  readonly algorithm: number;
  readonly mode: number;
  /** The authentication algorithm of `authenc`. */
  readonly auth?: number;
  /** The name of its hash in node:crypto. */
  readonly hash?: string;
  readonly ciphers: BlockCiphers;
  /** Bytes of the key by the descriptor's key length code; 0 for a code that is refused. */
  readonly keyBytes: readonly number[];
  /** Data comes in multiples of so many bytes, and at least so many. */
  readonly unitBytes: number;
  readonly leastBytes: number;
  readonly ivBytes: number;
  /** Lengths of the tag that are allowed. */
  readonly macBytes: readonly number[];
  /** Estimates in nanoseconds for a byte of data and an authenticated byte. */
  readonly costPerByte: number;
  readonly costPerAuthByte: number;
  readonly run: Run;
}

const upTo = (bytes: number): number[] => Array.from({ length: bytes / 4 + 1 }, (_, i) => 4 * i);

const plain = { kind: Kind.cipher, macBytes: [0], costPerAuthByte: 0 } as const;
const ofAes = { algorithm: Algorithm.aes, ciphers: aes, keyBytes: [16, 24, 32] } as const;
const ofSm4 = { algorithm: Algorithm.sm4, ciphers: sm4, keyBytes: [16] } as const;
const of3Des = { algorithm: Algorithm.tripleDes, ciphers: tripleDes } as const;
const keys3Des = { keyBytes: [0, 24, 0, 16] } as const;
const inBlocks = { unitBytes: 16, leastBytes: 16, ivBytes: 16 } as const;
const inBytes = { unitBytes: 1, leastBytes: 1, ivBytes: 16 } as const;
const asEcb = { mode: Mode.ecb, run: ecb } as const;
const asCbc = { mode: Mode.cbc, run: cbc } as const;
const asCtr = { ...inBytes, mode: Mode.ctr, run: ctr } as const;
const asXts = { ...inBytes, mode: Mode.xts, leastBytes: 16, run: xts } as const;
const aead = { kind: Kind.aead, unitBytes: 1, leastBytes: 0 } as const;
/** Tag lengths of SP 800-38D 5.2.1.2 and SP 800-38C 5.3. */
const gcmTags = [4, 8, 12, 13, 14, 15, 16];
const ccmTags = [4, 6, 8, 10, 12, 14, 16];
const asGcm = { ...aead, mode: Mode.gcm, ivBytes: 12, macBytes: gcmTags, run: gcm } as const;
const asCcm = { ...aead, mode: Mode.ccm, ivBytes: 16, macBytes: ccmTags, run: ccm } as const;
const { hmacSha1, hmacSha256, hmacSha512 } = AuthAlgorithm;

const encryptThenMac = (auth: number, hash: string, macBytes: number, costPerAuthByte: number) => ({
  ...ofAes,
  ...inBlocks,
  kind: Kind.authenc,
  leastBytes: 0,
  mode: Mode.cbc,
  auth,
  hash,
  macBytes: upTo(macBytes),
  costPerByte: 1.6,
  costPerAuthByte,
  run: authenc(hash),
});

/** All of them. The costs were measured with OpenSSL 3.0 on a 2.5 GHz x86-64. */
export const transforms: readonly Transform[] = [
  { name: "ecb(aes)", ...plain, ...ofAes, ...inBlocks, ...asEcb, ivBytes: 0, costPerByte: 0.7 },
  { name: "cbc(aes)", ...plain, ...ofAes, ...inBlocks, ...asCbc, costPerByte: 1.6 },
  { name: "ctr(aes)", ...plain, ...ofAes, ...asCtr, costPerByte: 0.4 },
  { name: "xts(aes)", ...plain, ...ofAes, ...asXts, keyBytes: [32, 0, 64], costPerByte: 0.4 },
  { name: "ccm(aes)", ...ofAes, ...asCcm, costPerByte: 2.4, costPerAuthByte: 2 },
  { name: "gcm(aes)", ...ofAes, ...asGcm, costPerByte: 0.6, costPerAuthByte: 0.3 },
  { name: "cbc(sm4)", ...plain, ...ofSm4, ...inBlocks, ...asCbc, costPerByte: 7.5 },
  { name: "ctr(sm4)", ...plain, ...ofSm4, ...asCtr, costPerByte: 7.5 },
  { name: "xts(sm4)", ...plain, ...ofSm4, ...asXts, keyBytes: [32], costPerByte: 9 },
  { name: "ccm(sm4)", ...ofSm4, ...asCcm, costPerByte: 15, costPerAuthByte: 7.5 },
  { name: "gcm(sm4)", ...ofSm4, ...asGcm, costPerByte: 13, costPerAuthByte: 5 },
  {
    ...{ name: "ecb(des3_ede)", ...plain, ...of3Des, ...keys3Des, ...asEcb },
    ...{ unitBytes: 8, leastBytes: 8, ivBytes: 0, costPerByte: 30 },
  },
  {
    ...{ name: "cbc(des3_ede)", ...plain, ...of3Des, ...keys3Des, ...asCbc },
    ...{ unitBytes: 8, leastBytes: 8, ivBytes: 8, costPerByte: 30 },
  },
  { name: "authenc(hmac(sha1),cbc(aes))", ...encryptThenMac(hmacSha1, "sha1", 20, 0.6) },
  { name: "authenc(hmac(sha256),cbc(aes))", ...encryptThenMac(hmacSha256, "sha256", 32, 0.6) },
  { name: "authenc(hmac(sha512),cbc(aes))", ...encryptThenMac(hmacSha512, "sha512", 64, 1) },
];

/** The longest tag that a transform takes. */
export const macBytesMax = Math.max(...transforms.flatMap(({ macBytes }) => macBytes));

const select = (transform: Transform): number =>
  CModeAlg.pack({ mode: transform.mode, algorithm: transform.algorithm });

const indexes = (authenticates: boolean, selector: (transform: Transform) => number) =>
  new Map(
    [...transforms.entries()]
      .filter(([, { auth }]) => (auth !== undefined) === authenticates)
      .map(([index, transform]) => [selector(transform), index]),
  );
const withoutAuth = indexes(false, select);
const withAuth = indexes(true, (each) => (select(each) << 8) | (each.auth as number));

/** Index of the transform of a descriptor's `cModeAlg` without separate authentication; or -1. */
export const transformOf = (cModeAlg: number): number => withoutAuth.get(cModeAlg) ?? -1;

/** Index of the transform of a `cModeAlg` with this authentication algorithm; or -1. */
export const authencOf = (cModeAlg: number, auth: number): number =>
  withAuth.get((cModeAlg << 8) | auth) ?? -1;

/** Does the work with keys that may be set already. The work is one that a descriptor asked for. */
export function perform(ciphers: KeyedCiphers, work: CipherWork): CipherResult {
  const transform = transforms[work.transform] as Transform;
  const keys = transform.mode === Mode.xts ? 2 : 1;
  const cipher = transform.ciphers[work.keyBytes / keys] as BlockCipher;
  return transform.run(ciphers, cipher, work);
}

/** Names of the algorithms whose primitives this Node has. */
export function availableAlgorithms(): AlgorithmName[] {
  const ciphers = new Set(getCiphers());
  const hashes = new Set(getHashes());
  const needed = ({ ciphers: all, hash }: Transform) =>
    Object.values(all).every(({ ecb, cbc, ctr }) =>
      [ecb, cbc, ctr].every((primitive) => primitive === null || ciphers.has(primitive.name)),
    ) &&
    (hash === undefined || hashes.has(hash));
  return transforms.filter(needed).map(({ name }) => name);
}

/** The capability bitmap of algorithms, its low and its high 32 bits. */
export function algorithmBitmap(names: readonly AlgorithmName[]): [low: number, high: number] {
  const half = (from: number): number =>
    names
      .map((name) => algorithmBits[name] - from)
      .filter((bit) => bit >= 0 && bit < 32)
      .reduce((word, bit) => (word | (1 << bit)) >>> 0, 0);
  return [half(0), half(32)];
}
