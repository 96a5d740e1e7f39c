import { FerryError } from "../base/errors.ts";
import { writeU53 } from "../base/struct.ts";
import {
  AddressType,
  Algorithm,
  type AlgorithmName,
  Auth,
  AuthAlgorithm,
  AuthMacKey,
  Bd3,
  BdParam,
  bdType3,
  CIcvKey,
  Cipher,
  CModeAlg,
  counterRollOver,
  DoneFlag,
  DoneKind,
  HukIvSeq,
  icvMismatch,
  KeyLength,
  KeyLength3Des,
  keySlotBytes,
  Mode,
  Sequence,
} from "../spec/hisi-sec2.ts";
import { putter } from "./bit-range.ts";
import type { Decode } from "./call.ts";
import type { DmaArea, DmaBuffer } from "./dma-area.ts";
import { sglBytes, writeSgl } from "./sgl.ts";

/** What SEC2 is asked for. All lengths are the caller's: the device checks them. */
export interface Sec2Request {
  readonly algorithm: AlgorithmName;
  readonly encrypt: boolean;
  readonly key: Uint8Array;
  /** The nonce of GCM (12 bytes) and CCM (7 to 13 bytes); empty for ECB. */
  readonly iv: Uint8Array;
  readonly data: Uint8Array;
  /** Where the result's data goes, as long as `data`; without it memory is made for it. */
  readonly output?: Uint8Array;
  /** Authenticated and not ciphered. */
  readonly aad?: Uint8Array;
  /** Of the authenc algorithms; a multiple of 4 bytes. */
  readonly authKey?: Uint8Array;
  /** The tag that a decryption must find. */
  readonly tag?: Uint8Array;
  /** Bytes of the tag that an encryption makes. */
  readonly tagBytes?: number;
}

/** What SEC2 made of a request. */
export interface Sec2Result {
  readonly data: Uint8Array;
  /** Of an encryption that makes one; empty otherwise. */
  readonly tag: Uint8Array;
}

interface Selection {
  readonly algorithm: number;
  readonly mode: number;
  /** Of algorithms that cipher and authenticate with two keys. */
  readonly auth?: number;
}

const { aes, sm4, tripleDes } = Algorithm;
const authenc = (auth: number): Selection => ({ algorithm: aes, mode: Mode.cbc, auth });

/** How a descriptor names each algorithm. */
const selections: Readonly<Record<AlgorithmName, Selection>> = {
  "ecb(aes)": { algorithm: aes, mode: Mode.ecb },
  "cbc(aes)": { algorithm: aes, mode: Mode.cbc },
  "ctr(aes)": { algorithm: aes, mode: Mode.ctr },
  "xts(aes)": { algorithm: aes, mode: Mode.xts },
  "ccm(aes)": { algorithm: aes, mode: Mode.ccm },
  "gcm(aes)": { algorithm: aes, mode: Mode.gcm },
  "cbc(sm4)": { algorithm: sm4, mode: Mode.cbc },
  "ctr(sm4)": { algorithm: sm4, mode: Mode.ctr },
  "xts(sm4)": { algorithm: sm4, mode: Mode.xts },
  "ccm(sm4)": { algorithm: sm4, mode: Mode.ccm },
  "gcm(sm4)": { algorithm: sm4, mode: Mode.gcm },
  "ecb(des3_ede)": { algorithm: tripleDes, mode: Mode.ecb },
  "cbc(des3_ede)": { algorithm: tripleDes, mode: Mode.cbc },
  "authenc(hmac(sha1),cbc(aes))": authenc(AuthAlgorithm.hmacSha1),
  "authenc(hmac(sha256),cbc(aes))": authenc(AuthAlgorithm.hmacSha256),
  "authenc(hmac(sha512),cbc(aes))": authenc(AuthAlgorithm.hmacSha512),
};

const { offset } = Bd3;
const ivBytes = 16;
const tagBytesMax = 64;
const wordBytes = 4;
/** Data that fits a page lies in one piece; longer data is described by a list of pages. */
const flatBytesMax = 4096;
const nothing = new Uint8Array(0);

const putIcvLength = putter(CIcvKey, "icvLength");
const putKeyLength = putter(CIcvKey, "keyLength");
const putMacWords = putter(AuthMacKey, "macWords");
const putKeyWords = putter(AuthMacKey, "keyWords");
const bdParamOf = (sourceType: number): number =>
  BdParam.pack({ type: bdType3, sourceType, targetType: sourceType });
const flatParam = bdParamOf(AddressType.flat);
const listParam = bdParamOf(AddressType.sgl);

/** The words of a descriptor that say what is to be done, apart from all lengths. */
interface Words {
  readonly isAead: boolean;
  readonly withAuth: boolean;
  readonly isCcm: boolean;
  /** `CIcvKey.keyLength` by the bytes of the key; what is not there is refused by the device. */
  readonly keyLengths: Readonly<Record<number, number>>;
  readonly cIcvKey: number;
  readonly cModeAlg: number;
  readonly hukIvSeq: number;
  readonly authMacKey: number;
  /** `doneFlag` of a request that has gone well. */
  readonly done: number;
}

const noKeyLength = 7;

function keyLengthsOf({ algorithm, mode }: Selection): Words["keyLengths"] {
  if (algorithm === tripleDes) return { 24: KeyLength3Des.threeKeys };
  const keys = mode === Mode.xts ? 2 : 1;
  const { bits128, bits192, bits256 } = KeyLength;
  return { [16 * keys]: bits128, [24 * keys]: bits192, [32 * keys]: bits256 };
}

function wordsOf(selection: Selection, encrypt: boolean): Words {
  const { mode, algorithm, auth } = selection;
  const isAead = mode === Mode.gcm || mode === Mode.ccm;
  const withAuth = auth !== undefined;
  const isCipher = !isAead && !withAuth;
  const sequence = encrypt || isCipher ? Sequence.cipherThenAuth : Sequence.authThenCipher;
  const authenticates = withAuth && {
    auth: encrypt ? Auth.calculate : Auth.verify,
    algorithm: auth,
  };
  return {
    isAead,
    withAuth,
    isCcm: mode === Mode.ccm,
    keyLengths: keyLengthsOf(selection),
    cIcvKey: CIcvKey.pack({ cipher: encrypt ? Cipher.encrypt : Cipher.decrypt }),
    cModeAlg: CModeAlg.pack({ mode, algorithm }),
    hukIvSeq: HukIvSeq.pack({ sequence }),
    authMacKey: AuthMacKey.pack({ ...authenticates, counterMode: counterRollOver }),
    done: DoneFlag.pack({ done: true, flag: isCipher ? DoneKind.cipher : DoneKind.aead }),
  };
}

const directions = Object.entries(selections).map(
  ([name, selection]) =>
    [name, { seal: wordsOf(selection, true), open: wordsOf(selection, false) }] as const,
);
const words = new Map<string, { readonly seal: Words; readonly open: Words }>(directions);

/** Memory that a request with this much data, its associated data included, takes. */
export const sec2RequestBytes = (dataBytes: number): number =>
  dataBytes + sglBytes(dataBytes) + 2 * ivBytes + 8 * keySlotBytes + tagBytesMax;

/**
 * The counter block and the first authenticated block that CCM makes of its nonce [SP 800-38C,
 * appendix A]. The second one also says how long tag and data are.
 */
function ccmBlocks(request: Sec2Request, tagBytes: number): [iv: Uint8Array, authIv: Uint8Array] {
  const { iv: nonce, aad = nothing, data } = request;
  const lengthBytes = ivBytes - 1 - nonce.length;
  const iv = new Uint8Array(ivBytes);
  iv[0] = lengthBytes - 1;
  iv.set(nonce, 1);
  const authIv = iv.slice();
  iv[ivBytes - 1] = 1;
  authIv[0] = (aad.length > 0 ? 0x40 : 0) | (((tagBytes - 2) / 2) << 3) | (lengthBytes - 1);
  for (let at = ivBytes - 1, left = data.length; at >= ivBytes - lengthBytes && left > 0; at--) {
    authIv[at] = left & 0xff;
    left = Math.floor(left / 256);
  }
  return [iv, authIv];
}

/** Associated data and data one behind the other: their buffer, and how to address it. */
function placeText(aad: Uint8Array, data: Uint8Array, memory: DmaArea): DmaBuffer {
  if (aad.length === 0) return memory.place(data);
  const text = memory.reserve(aad.length + data.length);
  memory.ram.bytes.set(aad, text.at);
  memory.ram.bytes.set(data, text.at + aad.length);
  return text;
}

/** Writes a request to an entry of zeros as a descriptor of type 3, its data ciphered in place. */
export function encodeSec2(
  request: Sec2Request,
  sqe: DataView,
  at: number,
  memory: DmaArea,
): Decode<Sec2Result> {
  const { algorithm, encrypt, key, data, output, aad = nothing, tag = nothing } = request;
  const both = words.get(algorithm) as { readonly seal: Words; readonly open: Words };
  const fixed = encrypt ? both.seal : both.open;
  const tagBytes = encrypt ? (request.tagBytes ?? 0) : tag.length;
  const text = placeText(aad, data, memory);
  const isFlat = text.size <= flatBytesMax;
  const address = isFlat ? text.iova : writeSgl(memory, text);
  const keyLength = fixed.keyLengths[key.length] ?? noKeyLength;
  const icvLength = fixed.isAead ? tagBytes : 0;
  sqe.setUint32(at + offset.bdParam, isFlat ? flatParam : listParam, true);
  const cIcvKey = fixed.cIcvKey | putIcvLength(icvLength) | putKeyLength(keyLength);
  sqe.setUint16(at + offset.cIcvKey, cIcvKey, true);
  sqe.setUint8(at + offset.cModeAlg, fixed.cModeAlg);
  sqe.setUint8(at + offset.hukIvSeq, fixed.hukIvSeq);
  sqe.setUint32(at + offset.authMacKey, fixed.authMacKey, true);
  sqe.setUint16(at + offset.cipherSrcOffset, aad.length, true);
  sqe.setUint32(at + offset.cLenIvin, data.length, true);
  writeU53(sqe, at + offset.dataSrcAddr, address);
  writeU53(sqe, at + offset.dataDstAddr, address);
  const keyAddress = memory.place(key).iova;
  writeU53(sqe, at + offset.cKeyAddr, keyAddress);
  writeU53(sqe, at + offset.aKeyAddr, keyAddress);
  placeIvs(request, fixed, tagBytes, sqe, at, memory);
  const mac = fixed.isAead || fixed.withAuth ? placeTag(request, fixed, sqe, at, memory) : null;
  return () => {
    checkStatus(sqe, at, fixed.done);
    const found =
      output === undefined
        ? memory.copy(text, data.length, aad.length)
        : memory.copyTo(output, text, aad.length);
    return { data: found, tag: encrypt && mac !== null ? memory.copy(mac, tagBytes) : nothing };
  };
}

function placeIvs(
  request: Sec2Request,
  fixed: Words,
  tagBytes: number,
  sqe: DataView,
  at: number,
  memory: DmaArea,
): void {
  const [iv, authIv] = fixed.isCcm ? ccmBlocks(request, tagBytes) : [request.iv, request.iv];
  const address = memory.place(iv).iova;
  writeU53(sqe, at + offset.cIvinAddr, address);
  writeU53(sqe, at + offset.aIvinAddr, fixed.isCcm ? memory.place(authIv).iova : address);
}

/** What a request that authenticates has besides: the tag, and a second key where there is one. */
function placeTag(
  request: Sec2Request,
  fixed: Words,
  sqe: DataView,
  at: number,
  memory: DmaArea,
): DmaBuffer {
  const { encrypt, data, aad = nothing, authKey = nothing, tag = nothing } = request;
  const tagBytes = encrypt ? (request.tagBytes ?? 0) : tag.length;
  const mac = encrypt ? memory.allocate(tagBytes) : memory.place(tag);
  writeU53(sqe, at + offset.macAddr, mac.iova);
  sqe.setUint32(at + offset.aLenKey, aad.length + (fixed.withAuth ? data.length : 0), true);
  if (!fixed.withAuth) return mac;
  writeU53(sqe, at + offset.aKeyAddr, memory.place(authKey).iova);
  const lengths = putMacWords(tagBytes / wordBytes) | putKeyWords(authKey.length / wordBytes);
  sqe.setUint32(at + offset.authMacKey, fixed.authMacKey | lengths, true);
  return mac;
}

/** What the driver makes of a finished descriptor's status, as Linux's `sec_cb_status_check`. */
function checkStatus(sqe: DataView, at: number, expected: number): void {
  const error = sqe.getUint8(at + offset.errorType);
  const flags = sqe.getUint16(at + offset.doneFlag, true);
  if (flags === expected && error === 0) return;
  const { icv } = DoneFlag.unpack(flags);
  if (icv === icvMismatch) throw new FerryError("bad-tag", "the tag does not match the data.");
  throw new FerryError("request-failed", `SEC2 refused the request: error type ${error}.`);
}
