/** A buffer descriptor of type 3, checked. */
import type { BitPosition, Bits } from "../../../base/bits.ts";
import {
  AddressType,
  type AlgorithmName,
  Auth,
  AuthMacKey,
  Bd3,
  BdParam,
  bdType3,
  CIcvKey,
  Cipher,
  counterRollOver,
  ErrorType,
  HukIvSeq,
  LengthBits,
  Mode,
  Sequence,
} from "../../../spec/hisi-sec2.ts";
import { authencOf, Kind, type Transform, transformOf, transforms } from "./transforms.ts";

/** A function that takes one named range out of a word, without the object that `unpack` makes. */
function taker<T extends Record<string, BitPosition>>(bits: Bits<T>, name: keyof T) {
  const position = bits.at[name] as BitPosition;
  const low = typeof position === "number" ? position : position[1];
  const mask = bits.mask[name];
  return (word: number): number => (word & mask) >>> low;
}

const at = Bd3.offset;
const { type: typeMask, invalid, scene, macType } = BdParam.mask;
const deOf = taker(BdParam, "de");
const sourceTypeOf = taker(BdParam, "sourceType");
const targetTypeOf = taker(BdParam, "targetType");
const cipherOf = taker(CIcvKey, "cipher");
const icvLengthOf = taker(CIcvKey, "icvLength");
const keyLengthOf = taker(CIcvKey, "keyLength");
const authOf = taker(AuthMacKey, "auth");
const macWordsOf = taker(AuthMacKey, "macWords");
const keyWordsOf = taker(AuthMacKey, "keyWords");
const authAlgorithmOf = taker(AuthMacKey, "algorithm");
const counterModeOf = taker(AuthMacKey, "counterMode");
const sequenceOf = taker(HukIvSeq, "sequence");
const lengthOf = taker(LengthBits, "length");
const address = (sqe: DataView, offset: number): number => Bd3.fields.dataSrcAddr.read(sqe, offset);

/** What a request asks for. Made once and filled for each request. */
export class Descriptor {
  /** Index in `transforms`. */
  transformIndex = 0;
  transform: Transform = transforms[0] as Transform;
  encrypt = false;
  /** Does the output go back to where the source is? */
  inPlace = false;
  sourceIsList = false;
  targetIsList = false;
  sourceAddress = 0;
  targetAddress = 0;
  keyAddress = 0;
  /** Bytes of the key as it lies in memory. */
  keyBytes = 0;
  ivAddress = 0;
  authIvAddress = 0;
  authKeyAddress = 0;
  authKeyBytes = 0;
  macAddress = 0;
  macBytes = 0;
  cipherOffset = 0;
  cipherBytes = 0;
  authOffset = 0;
  authBytes = 0;
  readonly #offered: ReadonlySet<AlgorithmName>;

  constructor(offered: ReadonlySet<AlgorithmName>) {
    this.#offered = offered;
  }

  /** Bytes of the source buffer that the request reads, from its first one. */
  get imageBytes(): number {
    return Math.max(this.cipherOffset + this.cipherBytes, this.authOffset + this.authBytes);
  }

  /** Takes the fields of a submission queue entry; `ErrorType.none`, or what is wrong with them. */
  parse(sqe: DataView): ErrorType {
    return (
      this.#parseAddresses(sqe) ||
      this.#parseAlgorithm(sqe) ||
      this.#parseKey(sqe) ||
      this.#parseLengths(sqe) ||
      this.#parseMac(sqe)
    );
  }

  #parseAddresses(sqe: DataView): ErrorType {
    const word = sqe.getUint32(at.bdParam, true);
    if ((word & typeMask) !== bdType3 || (word & (invalid | scene)) !== 0) {
      return ErrorType.descriptor;
    }
    const [de, sourceType, targetType] = [deOf(word), sourceTypeOf(word), targetTypeOf(word)];
    if (de > 1) return ErrorType.descriptor;
    const usedTarget = de === 0 ? sourceType : targetType;
    if (sourceType > AddressType.sgl || usedTarget > AddressType.sgl) return ErrorType.addressType;
    if ((word & macType) !== 0) return ErrorType.addressType;
    this.inPlace = de === 0;
    this.sourceIsList = sourceType === AddressType.sgl;
    this.targetIsList = usedTarget === AddressType.sgl;
    this.sourceAddress = address(sqe, at.dataSrcAddr);
    this.targetAddress = address(sqe, de === 0 ? at.dataSrcAddr : at.dataDstAddr);
    return ErrorType.none;
  }

  /** The driver makes the tag behind the cipher and checks it before; other orders are refused. */
  #parseAlgorithm(sqe: DataView): ErrorType {
    const keyWord = sqe.getUint16(at.cIcvKey, true);
    const authWord = sqe.getUint32(at.authMacKey, true);
    const cModeAlg = sqe.getUint8(at.cModeAlg);
    const cipher = cipherOf(keyWord);
    if (cipher !== Cipher.encrypt && cipher !== Cipher.decrypt) return ErrorType.algorithm;
    const generated = (keyWord & CIcvKey.mask.ciGen) | (authWord & AuthMacKey.mask.aiGen);
    if (generated !== 0) return ErrorType.iv;
    this.encrypt = cipher === Cipher.encrypt;
    const auth = authOf(authWord);
    const index =
      auth === Auth.none ? transformOf(cModeAlg) : authencOf(cModeAlg, authAlgorithmOf(authWord));
    const transform = transforms[index];
    if (transform === undefined || !this.#offered.has(transform.name)) return ErrorType.algorithm;
    const expected = this.encrypt ? Auth.calculate : Auth.verify;
    if (transform.kind === Kind.authenc && auth !== expected) return ErrorType.algorithm;
    const sequence = this.encrypt ? Sequence.cipherThenAuth : Sequence.authThenCipher;
    const actual = sequenceOf(sqe.getUint8(at.hukIvSeq));
    if (transform.kind !== Kind.cipher && actual !== sequence) return ErrorType.algorithm;
    const wrongCounter = counterModeOf(authWord) !== counterRollOver;
    if (transform.mode === Mode.ctr && wrongCounter) return ErrorType.algorithm;
    this.transform = transform;
    this.transformIndex = index;
    return ErrorType.none;
  }

  #parseKey(sqe: DataView): ErrorType {
    const { kind, keyBytes } = this.transform;
    this.keyBytes = keyBytes[keyLengthOf(sqe.getUint16(at.cIcvKey, true))] ?? 0;
    this.keyAddress = address(sqe, at.cKeyAddr);
    const words = kind === Kind.authenc ? keyWordsOf(sqe.getUint32(at.authMacKey, true)) : 0;
    this.authKeyBytes = 4 * words;
    this.authKeyAddress = address(sqe, at.aKeyAddr);
    this.ivAddress = address(sqe, this.transform.mode === Mode.gcm ? at.aIvinAddr : at.cIvinAddr);
    this.authIvAddress = address(sqe, at.aIvinAddr);
    return this.keyBytes === 0 ? ErrorType.keyLength : ErrorType.none;
  }

  #parseLengths(sqe: DataView): ErrorType {
    const { kind, unitBytes, leastBytes } = this.transform;
    this.cipherBytes = lengthOf(sqe.getUint32(at.cLenIvin, true));
    this.cipherOffset = sqe.getUint16(at.cipherSrcOffset, true);
    const plain = kind === Kind.cipher;
    this.authBytes = plain ? 0 : lengthOf(sqe.getUint32(at.aLenKey, true));
    this.authOffset = plain ? 0 : sqe.getUint16(at.authSrcOffset, true);
    const wrong = this.cipherBytes < leastBytes || this.cipherBytes % unitBytes !== 0;
    return wrong ? ErrorType.dataLength : ErrorType.none;
  }

  #parseMac(sqe: DataView): ErrorType {
    const { kind, macBytes } = this.transform;
    this.macAddress = address(sqe, at.macAddr);
    this.macBytes = 0;
    if (kind === Kind.aead) this.macBytes = icvLengthOf(sqe.getUint16(at.cIcvKey, true));
    if (kind === Kind.authenc) this.macBytes = 4 * macWordsOf(sqe.getUint32(at.authMacKey, true));
    return macBytes.includes(this.macBytes) ? ErrorType.none : ErrorType.macLength;
  }
}
