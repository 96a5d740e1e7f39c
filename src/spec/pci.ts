/**
 * The configuration space of a PCI Express function: PCI Express Base Specification 5.0, chapter 7
 * (sections in brackets), with its names. Access classes and writable bits are those of a plain
 * endpoint; a device gives the values, and takes writable bits away, where it builds its own.
 */
import { bits } from "../base/bits.ts";
import { registers } from "../base/registers.ts";

/** Bytes of configuration space: of a conventional function, and of a PCI Express one [7.2]. */
export const conventionalConfigBytes = 256;
export const extendedConfigBytes = 4096;
/** Where capabilities may lie: behind the header, and behind the conventional space [7.5, 7.6]. */
export const firstCapability = 0x40;
export const firstExtendedCapability = 0x100;

/** The registers of a base address register [7.5.1.2.1] and of the expansion ROM's [7.5.1.2.4]. */
export const BarBits = bits({ io: 0, memoryType: [2, 1], prefetchable: 3 });
export const RomBits = bits({ enable: 0, address: [31, 11] });
/** Values of `BarBits.memoryType`. */
export const BarMemoryType = { bits32: 0, bits64: 2 } as const;
/** Bits of a base address register that are no address. */
export const barFlagMask = { io: 0x3, memory: 0xf, rom: 0x7ff } as const;
/** The least that a base address register can ask for, in bytes. */
export const barLeastBytes = { io: 4, memory: 16, rom: 2048 } as const;

/** Interrupt Pin [7.5.1.1.13]. */
export const InterruptPin = { none: 0, intA: 1, intB: 2, intC: 3, intD: 4 } as const;

/** Type 0 configuration space header [7.5.1.1, 7.5.1.2]. */
export const ConfigHeader = registers("configuration header type 0", 64, {
  VENDOR_ID: { at: 0x00, size: 2, access: "ro", doc: "who made the function" },
  DEVICE_ID: { at: 0x02, size: 2, access: "ro", doc: "which function of the vendor's it is" },
  COMMAND: {
    at: 0x04,
    size: 2,
    access: "rw",
    writable: 0x0547,
    bits: {
      ioSpace: 0,
      memorySpace: 1,
      busMaster: 2,
      specialCycles: 3,
      memoryWriteAndInvalidate: 4,
      vgaPaletteSnoop: 5,
      parityErrorResponse: 6,
      serr: 8,
      fastBackToBack: 9,
      interruptDisable: 10,
    },
    doc: "what the function may do on the bus",
  },
  STATUS: {
    at: 0x06,
    size: 2,
    access: "w1c",
    writable: 0xf900,
    bits: {
      immediateReadiness: 0,
      interruptStatus: 3,
      capabilitiesList: 4,
      masterDataParityError: 8,
      signaledTargetAbort: 11,
      receivedTargetAbort: 12,
      receivedMasterAbort: 13,
      signaledSystemError: 14,
      detectedParityError: 15,
    },
    doc: "what happened on the bus",
  },
  REVISION_ID: { at: 0x08, size: 1, access: "ro", doc: "the vendor's revision" },
  PROGRAMMING_INTERFACE: { at: 0x09, size: 1, access: "ro", doc: "class code, low byte" },
  SUB_CLASS: { at: 0x0a, size: 1, access: "ro", doc: "class code, middle byte" },
  BASE_CLASS: { at: 0x0b, size: 1, access: "ro", doc: "class code, high byte" },
  CACHE_LINE_SIZE: { at: 0x0c, size: 1, access: "rw", doc: "kept for software, no effect" },
  LATENCY_TIMER: { at: 0x0d, size: 1, access: "ro", doc: "0 on PCI Express" },
  HEADER_TYPE: { at: 0x0e, size: 1, access: "ro", doc: "0; bit 7 for several functions" },
  BIST: { at: 0x0f, size: 1, access: "ro", doc: "0: no self test" },
  BAR0: { at: 0x10, access: "rw", doc: "base address 0" },
  BAR1: { at: 0x14, access: "rw", doc: "base address 1" },
  BAR2: { at: 0x18, access: "rw", doc: "base address 2" },
  BAR3: { at: 0x1c, access: "rw", doc: "base address 3" },
  BAR4: { at: 0x20, access: "rw", doc: "base address 4" },
  BAR5: { at: 0x24, access: "rw", doc: "base address 5" },
  CARDBUS_CIS: { at: 0x28, access: "ro", doc: "0 on PCI Express" },
  SUBSYSTEM_VENDOR_ID: { at: 0x2c, size: 2, access: "ro", doc: "who made the board" },
  SUBSYSTEM_ID: { at: 0x2e, size: 2, access: "ro", doc: "which board it is" },
  EXPANSION_ROM: { at: 0x30, access: "rw", doc: "expansion ROM base address and its enable bit" },
  CAPABILITIES: { at: 0x34, size: 1, access: "ro", doc: "offset of the first capability" },
  INTERRUPT_LINE: { at: 0x3c, size: 1, access: "rw", doc: "kept for software, no effect" },
  INTERRUPT_PIN: { at: 0x3d, size: 1, access: "ro", doc: "INTA to INTD, 0 for none" },
  MIN_GNT: { at: 0x3e, size: 1, access: "ro", doc: "0 on PCI Express" },
  MAX_LAT: { at: 0x3f, size: 1, access: "ro", doc: "0 on PCI Express" },
});

/** Capability IDs (PCI Code and ID Assignment Specification, section 2). */
export const CapabilityId = {
  powerManagement: 0x01,
  msi: 0x05,
  vendorSpecific: 0x09,
  pciExpress: 0x10,
  msix: 0x11,
} as const;

/** Extended Capability IDs (the same document, section 3). */
export const ExtendedCapabilityId = {
  advancedErrorReporting: 0x0001,
  deviceSerialNumber: 0x0003,
  vendorSpecific: 0x000b,
  alternativeRoutingId: 0x000e,
  addressTranslation: 0x000f,
  processAddressSpace: 0x001b,
} as const;
