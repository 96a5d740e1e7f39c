import { FerryError } from "../base/errors.ts";
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
  KeyLength3Des,
  keySlotBytes,
  Mode,
  Sequence,
} from "../spec/hisi-sec2.ts";
import type { DmaArea } from "./dma-area.ts";
import type { Decode } from "./queue-pair.ts";
import { sglBytes, writeSgl } from "./sgl.ts";

/** What SEC2 is asked for. All lengths are the caller's: the device checks them. */
export interface Sec2Request {
  readonly algorithm: AlgorithmName;
  readonly encrypt: boolean;
  readonly key: Uint8Array;
  /** The nonce of GCM (12 bytes) and CCM (7 to 13 bytes); empty for ECB. */
  readonly iv: Uint8Array;
  readonly data: Uint8Array;
  /** Authenticated and not ciphered. */
  readonly aad?: Uint8Array;
  /** Of the authenc algorithms; a multiple of 4 bytes. */
  readonly authKey?: Uint8Array;
  /** The tag that a decryption must find. */
  readonly tag?: Uint8Array;
  /** Bytes of the tag that an encryption makes. */
  readonly tagBytes?: number;
}

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

const ivBytes = 16;
const tagBytesMax = 64;
const wordBytes = 4;
const nothing = new Uint8Array(0);
const zeros = { aIvinReserved: 0n, salt: 0, authSrcOffset: 0, cIvinReserved: [0, 0, 0] };
const unanswered = { doneFlag: 0, errorType: 0, warningType: 0, macI: 0, checksum: 0, counter: 0 };

/** Memory that a request with this much data, its associated data included, takes. */
export const sec2RequestBytes = (dataBytes: number): number =>
  dataBytes + sglBytes(dataBytes) + 2 * ivBytes + 8 * keySlotBytes + tagBytesMax;

function keyLength({ algorithm, mode }: Selection, bytes: number): number {
  if (algorithm === tripleDes) return KeyLength3Des.threeKeys;
  const keys = mode === Mode.xts ? 2 : 1;
  return Math.max(0, bytes / keys / 8 - 2);
}

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

/** Writes a request as a descriptor of type 3, its data ciphered in place. */
export function encodeSec2(
  request: Sec2Request,
  sqe: DataView,
  at: number,
  memory: DmaArea,
): Decode<Sec2Result> {
  const { encrypt, key, data, aad = nothing, authKey = nothing, tag = nothing } = request;
  const selection = selections[request.algorithm];
  const { mode, auth, algorithm } = selection;
  const isAead = mode === Mode.gcm || mode === Mode.ccm;
  const tagBytes = encrypt ? (request.tagBytes ?? 0) : tag.length;
  const [iv, authIv] = mode === Mode.ccm ? ccmBlocks(request, tagBytes) : [request.iv, request.iv];
  const text = memory.place(Buffer.concat([aad, data]));
  const mac = memory.place(encrypt ? new Uint8Array(tagBytes) : tag);
  const list = writeSgl(memory, text);
  const cKeyAddr = memory.place(key).iova;
  const withAuth = auth !== undefined;
  const isCipher = !isAead && !withAuth;
  const sequence = encrypt || isCipher ? Sequence.cipherThenAuth : Sequence.authThenCipher;
  Bd3.set(sqe, at, {
    ...{ ...zeros, ...unanswered, tag: 0n },
    bdParam: BdParam.pack({
      type: bdType3,
      sourceType: AddressType.sgl,
      targetType: AddressType.sgl,
    }),
    cIcvKey: CIcvKey.pack({
      cipher: encrypt ? Cipher.encrypt : Cipher.decrypt,
      icvLength: isAead ? tagBytes : 0,
      keyLength: keyLength(selection, key.length),
    }),
    cModeAlg: CModeAlg.pack({ mode, algorithm }),
    hukIvSeq: HukIvSeq.pack({ sequence }),
    dataSrcAddr: list,
    dataDstAddr: list,
    cKeyAddr,
    aKeyAddr: withAuth ? memory.place(authKey).iova : cKeyAddr,
    aIvinAddr: memory.place(authIv).iova,
    cIvinAddr: memory.place(iv).iova,
    authMacKey: AuthMacKey.pack({
      ...(withAuth && {
        auth: encrypt ? Auth.calculate : Auth.verify,
        macWords: tagBytes / wordBytes,
        keyWords: authKey.length / wordBytes,
        algorithm: auth,
      }),
      counterMode: counterRollOver,
    }),
    cipherSrcOffset: aad.length,
    aLenKey: isCipher ? 0 : aad.length + (withAuth ? data.length : 0),
    cLenIvin: data.length,
    macAddr: mac.iova,
  });
  return () => {
    checkStatus(sqe, at, isCipher ? DoneKind.cipher : DoneKind.aead);
    const found = memory.copy(text, text.size).subarray(aad.length);
    return { data: found, tag: encrypt ? memory.copy(mac, tagBytes) : nothing };
  };
}

/** What the driver makes of a finished descriptor's status, as Linux's `sec_cb_status_check`. */
function checkStatus(sqe: DataView, at: number, kind: number): void {
  const { doneFlag, errorType } = Bd3.offset;
  const error = sqe.getUint8(at + errorType);
  const { done, icv, flag } = DoneFlag.unpack(sqe.getUint16(at + doneFlag, true));
  if (icv === icvMismatch) throw new FerryError("bad-tag", "the tag does not match the data.");
  if (done && error === 0 && flag === kind) return;
  throw new FerryError("request-failed", `SEC2 refused the request: error type ${error}.`);
}
