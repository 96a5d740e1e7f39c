import { createHash } from "node:crypto";
import { crc32 } from "node:zlib";
import {
  driverNameBytes,
  StreamHeader,
  streamMagic,
  streamMajor,
  streamMinor,
} from "../spec/ferry-stream.ts";
import type { Compatibility } from "./driver.ts";

/** SHA-256 of the facts, whatever their order. */
export function factsDigest({ facts }: Compatibility): Uint8Array {
  const sorted = Object.entries(facts).sort(([a], [b]) => (a < b ? -1 : 1));
  return createHash("sha256").update(JSON.stringify(sorted)).digest();
}

function nameBytes(name: string): number[] {
  const bytes = new Uint8Array(driverNameBytes);
  new TextEncoder().encodeInto(name, bytes);
  return Array.from(bytes);
}

/** The header of a stream of a device. */
export function formatHeader(ours: Compatibility, identifier: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(StreamHeader.size);
  const view = new DataView(bytes.buffer);
  StreamHeader.set(view, 0, {
    magic: [...streamMagic],
    major: streamMajor,
    minor: streamMinor,
    vendor: ours.vendor,
    device: ours.device,
    revision: ours.revision,
    driver: nameBytes(ours.driver),
    driverVersion: ours.version,
    facts: Array.from(factsDigest(ours)),
    identifier,
    check: 0,
  });
  view.setUint32(
    StreamHeader.offset.check,
    crc32(bytes.subarray(0, StreamHeader.offset.check)),
    true,
  );
  return bytes;
}

const hex = (id: number): string => id.toString(16).padStart(4, "0");
const same = (a: readonly number[], b: readonly number[]): boolean =>
  a.every((value, i) => value === b[i]);

/** Why a stream with this header is not for a device like ours, as a sentence; null when it is. */
export function judgeHeader(bytes: Uint8Array, ours: Compatibility): string | null {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = StreamHeader.get(view, 0);
  if (!same(found.magic, streamMagic)) return "the header is not one of a device's state";
  if (found.check !== crc32(bytes.subarray(0, StreamHeader.offset.check))) {
    return "the header is damaged: its checksum does not fit";
  }
  if (found.major !== streamMajor) {
    return `the header says format ${found.major}, and this is a reader of format ${streamMajor}`;
  }
  const theirs = `${hex(found.vendor)}:${hex(found.device)} revision ${found.revision}`;
  const mine = `${hex(ours.vendor)}:${hex(ours.device)} revision ${ours.revision}`;
  if (theirs !== mine) return `the header is of a device ${theirs}, and this one is ${mine}`;
  if (!same(found.driver, nameBytes(ours.driver))) {
    return `the header is of another driver than ${ours.driver}`;
  }
  const { driverVersion } = found;
  if (driverVersion < ours.oldestVersion || driverVersion > ours.version) {
    const readable = `${ours.oldestVersion} to ${ours.version}`;
    const found = `version ${driverVersion} of ${ours.driver}'s state`;
    return `the header says ${found}; ${readable} can be read`;
  }
  if (!same(found.facts, Array.from(factsDigest(ours)))) {
    return "the header is of a device that is configured in another way";
  }
  return null;
}
