/**
 * The capabilities of a PCI Express function, as tables: PCI Express Base Specification 5.0
 * (sections in brackets), with its names. Access classes and writable bits are those of a plain
 * endpoint.
 */
import { bits } from "../base/bits.ts";
import { registers } from "../base/registers.ts";

/** Bytes of the head that every capability begins with, and every extended one. */
export const capabilityHeadBytes = 2;
export const extendedCapabilityHeadBytes = 4;
/** An extended capability's first word. */
export const ExtendedCapabilityHead = bits({ id: [15, 0], version: [19, 16], next: [31, 20] });

const id = { at: 0, size: 1, access: "ro", doc: "capability ID" } as const;
const next = { at: 1, size: 1, access: "ro", doc: "offset of the next capability" } as const;
const head = {
  at: 0,
  access: "ro",
  bits: ExtendedCapabilityHead.at,
  doc: "capability ID, version, offset of the next one",
} as const;

/** PCI Power Management Capability [7.5.2]. */
export const PowerManagement = registers("PCI power management capability", 8, {
  ID: id,
  NEXT: next,
  PMC: {
    at: 0x02,
    size: 2,
    access: "ro",
    bits: { version: [2, 0], auxCurrent: [8, 6], d1: 9, d2: 10, pmeSupport: [15, 11] },
    doc: "power management capabilities",
  },
  PMCSR: {
    at: 0x04,
    size: 2,
    access: "rw",
    writable: 0x0003,
    bits: { powerState: [1, 0], noSoftReset: 3, pmeEnable: 8, pmeStatus: 15 },
    doc: "power management control and status",
  },
  DATA: { at: 0x06, size: 2, access: "ro", doc: "reserved; undefined on PCI Express" },
});

/** PCI Express Capability, version 2 [7.5.3]. */
export const PciExpress = registers("PCI Express capability", 0x3c, {
  ID: id,
  NEXT: next,
  CAPABILITIES: {
    at: 0x02,
    size: 2,
    access: "ro",
    bits: { version: [3, 0], deviceType: [7, 4], slot: 8, interruptMessage: [13, 9] },
    doc: "kind of function",
  },
  DEVICE_CAPABILITIES: {
    at: 0x04,
    access: "ro",
    bits: {
      maxPayloadSupported: [2, 0],
      phantomFunctions: [4, 3],
      extendedTag: 5,
      l0sLatency: [8, 6],
      l1Latency: [11, 9],
      roleBasedErrorReporting: 15,
      functionLevelReset: 28,
    },
    doc: "what the function can do",
  },
  DEVICE_CONTROL: {
    at: 0x08,
    size: 2,
    access: "rw",
    writable: 0x78ff,
    reset: 0x2810,
    bits: {
      correctableErrorReporting: 0,
      nonFatalErrorReporting: 1,
      fatalErrorReporting: 2,
      unsupportedRequestReporting: 3,
      relaxedOrdering: 4,
      maxPayload: [7, 5],
      extendedTag: 8,
      phantomFunctions: 9,
      auxPower: 10,
      noSnoop: 11,
      maxReadRequest: [14, 12],
      initiateFunctionLevelReset: 15,
    },
    doc: "what the function shall do",
  },
  DEVICE_STATUS: {
    at: 0x0a,
    size: 2,
    access: "w1c",
    writable: 0x000f,
    bits: {
      correctableError: 0,
      nonFatalError: 1,
      fatalError: 2,
      unsupportedRequest: 3,
      auxPower: 4,
      transactionsPending: 5,
    },
    doc: "which errors were seen",
  },
  LINK_CAPABILITIES: {
    at: 0x0c,
    access: "ro",
    bits: { maxSpeed: [3, 0], maxWidth: [9, 4], aspm: [11, 10], port: [31, 24] },
    doc: "what the link can do",
  },
  LINK_CONTROL: { at: 0x10, size: 2, access: "rw", writable: 0x00cb, doc: "link control" },
  LINK_STATUS: {
    at: 0x12,
    size: 2,
    access: "ro",
    bits: { speed: [3, 0], width: [9, 4], training: 11, slotClock: 12 },
    doc: "how the link runs",
  },
  SLOT_CAPABILITIES: { at: 0x14, access: "ro", doc: "0 for an endpoint" },
  SLOT_CONTROL: { at: 0x18, size: 2, access: "ro", doc: "0 for an endpoint" },
  SLOT_STATUS: { at: 0x1a, size: 2, access: "ro", doc: "0 for an endpoint" },
  ROOT_CONTROL: { at: 0x1c, size: 2, access: "ro", doc: "0 for an endpoint" },
  ROOT_CAPABILITIES: { at: 0x1e, size: 2, access: "ro", doc: "0 for an endpoint" },
  ROOT_STATUS: { at: 0x20, access: "ro", doc: "0 for an endpoint" },
  DEVICE_CAPABILITIES_2: {
    at: 0x24,
    access: "ro",
    bits: { completionTimeoutRanges: [3, 0], completionTimeoutDisable: 4, ariForwarding: 5 },
    doc: "what else the function can do",
  },
  DEVICE_CONTROL_2: {
    at: 0x28,
    size: 2,
    access: "rw",
    writable: 0x001f,
    bits: { completionTimeout: [3, 0], completionTimeoutDisable: 4 },
    doc: "what else the function shall do",
  },
  DEVICE_STATUS_2: { at: 0x2a, size: 2, access: "ro", doc: "reserved" },
  LINK_CAPABILITIES_2: {
    at: 0x2c,
    access: "ro",
    bits: { speeds: [7, 1] },
    doc: "what else the link can do",
  },
  LINK_CONTROL_2: {
    at: 0x30,
    size: 2,
    access: "rw",
    writable: 0x000f,
    bits: { targetSpeed: [3, 0] },
    doc: "link speed wanted",
  },
  LINK_STATUS_2: { at: 0x32, size: 2, access: "ro", doc: "how else the link runs" },
  SLOT_CAPABILITIES_2: { at: 0x34, access: "ro", doc: "0 for an endpoint" },
  SLOT_CONTROL_2: { at: 0x38, size: 2, access: "ro", doc: "0 for an endpoint" },
  SLOT_STATUS_2: { at: 0x3a, size: 2, access: "ro", doc: "0 for an endpoint" },
});

/** Device/Port Type of the PCI Express capability [7.5.3.2]. */
export const PciExpressType = { endpoint: 0, legacyEndpoint: 1, integratedEndpoint: 9 } as const;
/** Link speeds and widths [7.5.3.6]. */
export const LinkSpeed = { gt2_5: 1, gt5: 2, gt8: 3, gt16: 4 } as const;
/** Value of PMC's version field [7.5.2.1]. */
export const powerManagementVersion = 3;
/** Value of the PCI Express capability's version field. */
export const pciExpressVersion = 2;

const messageControl = {
  at: 0x02,
  size: 2,
  access: "rw",
  writable: 0x0071,
  bits: {
    enable: 0,
    multipleMessageCapable: [3, 1],
    multipleMessageEnable: [6, 4],
    address64: 7,
    perVectorMasking: 8,
  },
  doc: "message control",
} as const;
const messageAddress = {
  at: 0x04,
  access: "rw",
  writable: 0xfffffffc,
  doc: "message address",
} as const;
const messageAddressHigh = { at: 0x08, access: "rw", doc: "message address, high word" } as const;

/** MSI Capability, 32-bit address [7.7.1]. */
export const Msi32 = registers("MSI capability, 32-bit", 12, {
  ID: id,
  NEXT: next,
  MESSAGE_CONTROL: messageControl,
  MESSAGE_ADDRESS: messageAddress,
  MESSAGE_DATA: { at: 0x08, size: 2, access: "rw", doc: "message data" },
});

/** MSI Capability, 64-bit address [7.7.1]. */
export const Msi64 = registers("MSI capability, 64-bit", 16, {
  ID: id,
  NEXT: next,
  MESSAGE_CONTROL: messageControl,
  MESSAGE_ADDRESS: messageAddress,
  MESSAGE_ADDRESS_HIGH: messageAddressHigh,
  MESSAGE_DATA: { at: 0x0c, size: 2, access: "rw", doc: "message data" },
});

/** MSI Capability, 32-bit address, per-vector masking [7.7.1]. */
export const Msi32Masking = registers("MSI capability, 32-bit, masking", 20, {
  ID: id,
  NEXT: next,
  MESSAGE_CONTROL: messageControl,
  MESSAGE_ADDRESS: messageAddress,
  MESSAGE_DATA: { at: 0x08, size: 2, access: "rw", doc: "message data" },
  MASK: { at: 0x0c, access: "rw", doc: "masked vectors" },
  PENDING: { at: 0x10, access: "ro", doc: "vectors raised while masked" },
});

/** MSI Capability, 64-bit address, per-vector masking [7.7.1]. */
export const Msi64Masking = registers("MSI capability, 64-bit, masking", 24, {
  ID: id,
  NEXT: next,
  MESSAGE_CONTROL: messageControl,
  MESSAGE_ADDRESS: messageAddress,
  MESSAGE_ADDRESS_HIGH: messageAddressHigh,
  MESSAGE_DATA: { at: 0x0c, size: 2, access: "rw", doc: "message data" },
  MASK: { at: 0x10, access: "rw", doc: "masked vectors" },
  PENDING: { at: 0x14, access: "ro", doc: "vectors raised while masked" },
});

/** Vectors that the MSI and the MSI-X capability can name. */
export const msiMostVectors = 32;
export const msixMostVectors = 2048;

/** MSI-X Capability [7.7.2]. */
export const Msix = registers("MSI-X capability", 12, {
  ID: id,
  NEXT: next,
  MESSAGE_CONTROL: {
    at: 0x02,
    size: 2,
    access: "rw",
    writable: 0xc000,
    bits: { lastVector: [10, 0], functionMask: 14, enable: 15 },
    doc: "message control",
  },
  TABLE: { at: 0x04, access: "ro", bits: { bar: [2, 0], offset8: [31, 3] }, doc: "the table" },
  PENDING: {
    at: 0x08,
    access: "ro",
    bits: { bar: [2, 0], offset8: [31, 3] },
    doc: "the pending bits",
  },
});
/** Bytes of one entry of the MSI-X table [7.7.2.2]. */
export const msixEntryBytes = 16;

/** Vendor-Specific Capability, its head [7.9.4]; `LENGTH` counts it and the vendor's bytes. */
export const VendorSpecific = registers("vendor-specific capability", 4, {
  ID: id,
  NEXT: next,
  LENGTH: { at: 0x02, size: 1, access: "ro", doc: "bytes, with the head" },
});
export const vendorSpecificHeadBytes = 3;

/** Advanced Error Reporting Extended Capability without the root port's part [7.8.4]. */
export const AdvancedErrorReporting = registers("advanced error reporting capability", 0x2c, {
  HEAD: head,
  UNCORRECTABLE_STATUS: {
    at: 0x04,
    access: "w1c",
    writable: 0x07fff030,
    doc: "uncorrectable errors seen",
  },
  UNCORRECTABLE_MASK: { at: 0x08, access: "rw", writable: 0x07fff030, doc: "errors not told" },
  UNCORRECTABLE_SEVERITY: {
    at: 0x0c,
    access: "rw",
    writable: 0x07fff030,
    reset: 0x00462030,
    doc: "errors that are fatal",
  },
  CORRECTABLE_STATUS: {
    at: 0x10,
    access: "w1c",
    writable: 0x0000f1c1,
    doc: "correctable errors seen",
  },
  CORRECTABLE_MASK: {
    at: 0x14,
    access: "rw",
    writable: 0x0000f1c1,
    reset: 0x00002000,
    doc: "errors not told",
  },
  CONTROL: {
    at: 0x18,
    access: "rw",
    writable: 0x00000140,
    bits: {
      firstError: [4, 0],
      ecrcGenerationCapable: 5,
      ecrcGeneration: 6,
      ecrcCheckCapable: 7,
      ecrcCheck: 8,
    },
    doc: "capabilities and control",
  },
  HEADER_LOG: { at: 0x1c, count: 4, access: "ro", doc: "header of the packet that failed" },
});

/** Device Serial Number Extended Capability [7.9.3]. */
export const DeviceSerialNumber = registers("device serial number capability", 12, {
  HEAD: head,
  LOW: { at: 0x04, access: "ro", doc: "serial number (EUI-64), low word" },
  HIGH: { at: 0x08, access: "ro", doc: "serial number, high word" },
});

/** Alternative Routing-ID Interpretation Extended Capability [7.8.7]. */
export const AlternativeRoutingId = registers("alternative routing-ID capability", 8, {
  HEAD: head,
  CAPABILITY: {
    at: 0x04,
    size: 2,
    access: "ro",
    bits: { mfvcGroups: 0, acsGroups: 1, nextFunction: [15, 8] },
    doc: "function groups and the next function",
  },
  CONTROL: { at: 0x06, size: 2, access: "ro", doc: "0 without function groups" },
});

/** Address Translation Services Extended Capability [10.5.1]. */
export const AddressTranslation = registers("address translation services capability", 8, {
  HEAD: head,
  CAPABILITY: {
    at: 0x04,
    size: 2,
    access: "ro",
    bits: { invalidateQueueDepth: [4, 0], pageAligned: 5, globalInvalidate: 6 },
    doc: "invalidation requests that it can take",
  },
  CONTROL: {
    at: 0x06,
    size: 2,
    access: "rw",
    writable: 0x801f,
    bits: { smallestUnit: [4, 0], enable: 15 },
    doc: "smallest translation unit and enable",
  },
});

/** Process Address Space ID Extended Capability [7.8.8]. */
export const ProcessAddressSpace = registers("process address space ID capability", 8, {
  HEAD: head,
  CAPABILITY: {
    at: 0x04,
    size: 2,
    access: "ro",
    bits: { executePermission: 1, privilegedMode: 2, maxWidth: [12, 8] },
    doc: "width of the IDs",
  },
  CONTROL: {
    at: 0x06,
    size: 2,
    access: "rw",
    writable: 0x0007,
    bits: { enable: 0, executePermission: 1, privilegedMode: 2 },
    doc: "enables",
  },
});

/**
 * Vendor-Specific Extended Capability, its head [7.9.5]; the vendor's registers follow, and
 * `length` counts both.
 */
export const VendorSpecificExtended = registers("vendor-specific extended capability", 8, {
  HEAD: head,
  VENDOR_HEAD: {
    at: 0x04,
    access: "ro",
    bits: { id: [15, 0], revision: [19, 16], length: [31, 20] },
    doc: "the vendor's ID, revision, length",
  },
});
