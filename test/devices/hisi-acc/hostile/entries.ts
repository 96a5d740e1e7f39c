/** Entries of the three engines as a guest writes them. */
import { HpreAlgorithm, HpreDw0, HpreSqe, hpreLengthUnit } from "../../../../src/spec/hisi-hpre.ts";
import {
  AddressType,
  Algorithm,
  AuthMacKey,
  Bd3,
  BdParam,
  bdType3,
  CIcvKey,
  Cipher,
  CModeAlg,
  counterRollOver,
  Mode,
} from "../../../../src/spec/hisi-sec2.ts";
import { SglEntry, SglHeader } from "../../../../src/spec/hisi-sgl.ts";
import {
  ZipBuffer,
  ZipDw7,
  ZipDw9,
  ZipRequest,
  ZipSqe,
  zipSqeType,
} from "../../../../src/spec/hisi-zip.ts";

function entry(bytes: number, write: (view: DataView) => void): Uint8Array {
  const sqe = new Uint8Array(bytes);
  write(new DataView(sqe.buffer));
  return sqe;
}

/** AES-128-CBC of `bytes` bytes in place; key and IV lie at `key`. */
export function cbcEntry(source: number, bytes: number, key: number, isList = false): Uint8Array {
  const { offset, fields } = Bd3;
  const sourceType = isList ? AddressType.sgl : AddressType.flat;
  return entry(Bd3.size, (view) => {
    const param = BdParam.pack({ type: bdType3, sourceType });
    view.setUint32(offset.bdParam, param, true);
    view.setUint16(offset.cIcvKey, CIcvKey.pack({ cipher: Cipher.encrypt }), true);
    view.setUint8(offset.cModeAlg, CModeAlg.pack({ mode: Mode.cbc, algorithm: Algorithm.aes }));
    const authMacKey = AuthMacKey.pack({ counterMode: counterRollOver });
    view.setUint32(offset.authMacKey, authMacKey, true);
    view.setUint32(offset.cLenIvin, bytes, true);
    fields.dataSrcAddr.write(view, offset.dataSrcAddr, source);
    fields.cKeyAddr.write(view, offset.cKeyAddr, key);
    fields.cIvinAddr.write(view, offset.cIvinAddr, key);
  });
}

/** A raw DEFLATE stream to be inflated. */
export function inflateEntry(
  source: number,
  bytes: number,
  target: number,
  room: number,
  isList = false,
): Uint8Array {
  const { offset, fields } = ZipSqe;
  const bufferType = isList ? ZipBuffer.sgl : ZipBuffer.flat;
  return entry(ZipSqe.size, (view) => {
    view.setUint32(offset.inputDataLength, bytes, true);
    view.setUint32(offset.destAvailOut, room, true);
    view.setUint32(offset.dw7, ZipDw7.pack({ sqeType: zipSqeType }), true);
    const dw9 = ZipDw9.pack({ requestType: ZipRequest.deflate, bufferType });
    view.setUint32(offset.dw9, dw9, true);
    fields.sourceAddr.write(view, offset.sourceAddr, source);
    fields.destAddr.write(view, offset.destAddr, target);
  });
}

/** RSA with numbers of `bytes` bytes: exponent and modulus lie at `key`. */
export function rsaEntry(key: number, input: number, output: number, bytes: number): Uint8Array {
  const { offset, fields } = HpreSqe;
  return entry(HpreSqe.size, (view) => {
    view.setUint32(offset.dw0, HpreDw0.pack({ algorithm: HpreAlgorithm.rsa, done: 1 }), true);
    view.setUint8(offset.taskLen1, bytes / hpreLengthUnit - 1);
    fields.keyAddr.write(view, offset.keyAddr, key);
    fields.inAddr.write(view, offset.inAddr, input);
    fields.outAddr.write(view, offset.outAddr, output);
  });
}

/** A scatter-gather list of these pieces, which names `next` as the one that follows. */
export function listOf(
  pieces: readonly (readonly [address: number, length: number])[],
  count = pieces.length,
  next = 0,
): Uint8Array {
  return entry(SglHeader.size + pieces.length * SglEntry.size, (view) => {
    SglHeader.fields.nextDma.write(view, SglHeader.offset.nextDma, next);
    view.setUint16(SglHeader.offset.entrySumInChain, count, true);
    view.setUint16(SglHeader.offset.entrySumInSgl, count, true);
    view.setUint16(SglHeader.offset.entryLengthInSgl, count, true);
    for (const [i, [address, length]] of pieces.entries()) {
      const at = SglHeader.size + i * SglEntry.size;
      SglEntry.fields.buffer.write(view, at + SglEntry.offset.buffer, address);
      view.setUint32(at + SglEntry.offset.length, length, true);
    }
  });
}
