/**
 * The stream in which a device's state travels: a header that says whose it is, sections, and an
 * end that says how many there were. Everything is little-endian. `docs/stream-format.md` is its
 * text.
 */
import { bits } from "../base/bits.ts";
import { array, struct, u8, u16, u32, u53 } from "../base/struct.ts";

/** "FERRYSTR". */
export const streamMagic = [0x52524546, 0x52545359] as const;
/** A target refuses another major version; a minor one only adds optional sections. */
export const streamMajor = 1;
export const streamMinor = 0;

/** Bytes of a section's payload at most. */
export const sectionBytesMax = 1_048_576;
/** Sections of one stream at most: 4 TiB of them. */
export const sectionsMax = 4_194_304;
/** Bytes of a driver's name, padded with zeroes. */
export const driverNameBytes = 16;
/** SHA-256. */
export const factsDigestBytes = 32;

/** What a stream begins with. */
export const StreamHeader = struct("stream header", 80, {
  magic: array(u32, 2),
  major: u16,
  minor: u16,
  vendor: u16,
  device: u16,
  /** PCI revision id. */
  revision: u32,
  /** ASCII. */
  driver: array(u8, driverNameBytes),
  /** Of the driver's sections. */
  driverVersion: u32,
  /** Of the facts that must be the same on both sides, as canonical JSON. */
  facts: array(u8, factsDigestBytes),
  /** Anything; the same in both directions of one migration, so that logs can be held together. */
  identifier: u32,
  /** CRC-32 of all that is before it. */
  check: u32,
});

/** What a section begins with; its payload follows at once. */
export const SectionHead = struct("section head", 24, {
  /** `StreamSection`, or from `driverSections` on one of the driver's. */
  kind: u16,
  /** Of the kind's layout. */
  version: u16,
  /** `SectionFlags`. */
  flags: u16,
  reserved: u16,
  /** Counts sections from 0. */
  number: u32,
  /** Bytes of payload. */
  length: u32,
  /** CRC-32 of the payload. */
  payloadCheck: u32,
  /** CRC-32 of the head before it. */
  check: u32,
});

export const SectionFlags = bits({
  /** Whoever does not know the kind may leave the section out. */
  optional: 0,
});

/** Kinds that are the envelope's own. */
export const StreamSection = {
  end: 1,
  /** `PciState`. */
  pci: 2,
} as const;
/** Kinds from here on are the driver's. */
export const driverSections = 0x100;

/** The payload of the last section. */
export const StreamEnd = struct("stream end", 16, {
  /** Sections before this one. */
  sections: u32,
  /** CRC-32 over all section heads before this one, in their order. */
  heads: u32,
  /** Bytes of payload of all of them. */
  bytes: u53,
});

/** What of configuration space a VMM has written, and what of it must be the same on both sides. */
export const PciState = struct("pci state", 72, {
  vendor: u16,
  device: u16,
  subsystemVendor: u16,
  subsystem: u16,
  /** Class code above the revision id. */
  classRevision: u32,
  /** CRC-32 of the capabilities' ids and places. */
  capabilities: u32,
  bars: array(u32, 6),
  rom: u32,
  command: u16,
  cacheLine: u8,
  interruptLine: u8,
  /** Registers of capabilities; zero for one that is not there. */
  deviceControl: u16,
  powerControl: u16,
  msiControl: u16,
  msiData: u16,
  msiAddressLow: u32,
  msiAddressHigh: u32,
  msiMask: u32,
  msixControl: u16,
  reserved: u16,
});
