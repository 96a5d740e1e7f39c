/** A configuration space in words: its header and capabilities by the documents' tables. */
import { bits as declareBits } from "../base/bits.ts";
import { offsetOf, type Register, type RegisterTable, sizeOf } from "../base/registers.ts";
import {
  CapabilityId,
  ConfigHeader,
  conventionalConfigBytes,
  ExtendedCapabilityId,
  firstCapability,
  firstExtendedCapability,
} from "../spec/pci.ts";
import * as pci from "../spec/pci-capabilities.ts";

/** Capabilities of a function; a chain that is longer goes in a circle. */
export const capabilitiesMax = 96;

/** One register with what it holds. */
export interface RegisterDescription {
  readonly name: string;
  /** Offset in configuration space. */
  readonly at: number;
  /** Bytes. */
  readonly size: number;
  readonly value: number;
  /** The register's fields by name; a single bit is a boolean. */
  readonly bits?: Readonly<Record<string, number | boolean>>;
}

/** One capability of a chain. */
export interface CapabilityDescription {
  /** `msix`, or `capability 0x5` where no table is known. */
  readonly name: string;
  readonly id: number;
  /** Of an extended capability; null for a conventional one. */
  readonly version: number | null;
  readonly at: number;
  readonly registers: readonly RegisterDescription[];
}

/** A configuration space in words. */
export interface ConfigDescription {
  /** Bytes that were read. */
  readonly size: number;
  readonly header: readonly RegisterDescription[];
  readonly capabilities: readonly CapabilityDescription[];
  /** Why a chain was not followed to its end; null when all of it is here. */
  readonly trouble: string | null;
}

type AnyTable = Pick<RegisterTable<Readonly<Record<string, Register>>>, "registers" | "size">;

/** MSI comes in four layouts, told apart by its message control. */
function msiTable(view: DataView, at: number): AnyTable {
  const control = view.getUint16(at + pci.Msi32.at.MESSAGE_CONTROL, true);
  const { address64, perVectorMasking } = pci.Msi32.bits.MESSAGE_CONTROL.unpack(control);
  if (address64) return perVectorMasking ? pci.Msi64Masking : pci.Msi64;
  return perVectorMasking ? pci.Msi32Masking : pci.Msi32;
}

type TableOf = (view: DataView, at: number) => AnyTable;

const tables: Readonly<Record<number, TableOf>> = {
  [CapabilityId.powerManagement]: () => pci.PowerManagement,
  [CapabilityId.msi]: msiTable,
  [CapabilityId.vendorSpecific]: () => pci.VendorSpecific,
  [CapabilityId.pciExpress]: () => pci.PciExpress,
  [CapabilityId.msix]: () => pci.Msix,
};

const extendedTables: Readonly<Record<number, TableOf>> = {
  [ExtendedCapabilityId.advancedErrorReporting]: () => pci.AdvancedErrorReporting,
  [ExtendedCapabilityId.deviceSerialNumber]: () => pci.DeviceSerialNumber,
  [ExtendedCapabilityId.vendorSpecific]: () => pci.VendorSpecificExtended,
  [ExtendedCapabilityId.alternativeRoutingId]: () => pci.AlternativeRoutingId,
  [ExtendedCapabilityId.addressTranslation]: () => pci.AddressTranslation,
  [ExtendedCapabilityId.processAddressSpace]: () => pci.ProcessAddressSpace,
};

function nameOf(ids: Readonly<Record<string, number>>, id: number): string {
  const known = Object.entries(ids).find(([, value]) => value === id);
  return known?.[0] ?? `capability 0x${id.toString(16)}`;
}

function valueAt(view: DataView, at: number, size: number): number {
  if (size === 1) return view.getUint8(at);
  return size === 2 ? view.getUint16(at, true) : view.getUint32(at, true);
}

/** The registers of a table that lies at `start`, as far as they are inside the space. */
function describeRegisters(view: DataView, start: number, table: AnyTable): RegisterDescription[] {
  const described: RegisterDescription[] = [];
  for (const [name, register] of Object.entries(table.registers)) {
    const size = sizeOf(register);
    const count = register.count ?? 1;
    for (let index = 0; index < count; index++) {
      const at = start + offsetOf(register, index);
      if (at + size > view.byteLength) break;
      const value = valueAt(view, at, size);
      described.push({
        name: count === 1 ? name : `${name}[${index}]`,
        at,
        size,
        value,
        ...(register.bits === undefined ? {} : { bits: declareBits(register.bits).unpack(value) }),
      });
    }
  }
  return described;
}

/** A chain of capabilities: where the next one is, and what the one at a place is. */
interface Chain {
  readonly first: number;
  readonly least: number;
  readonly end: number;
  readonly headBytes: number;
  next(view: DataView, at: number): number;
  describe(view: DataView, at: number): CapabilityDescription;
}

const conventional: Chain = {
  first: ConfigHeader.at.CAPABILITIES,
  least: firstCapability,
  end: conventionalConfigBytes,
  headBytes: pci.capabilityHeadBytes + 2,
  next: (view, at) => view.getUint8(at + 1) & 0xfc,
  describe(view, at) {
    const id = view.getUint8(at);
    const table = tables[id]?.(view, at);
    const registers = table === undefined ? [] : describeRegisters(view, at, table);
    return { name: nameOf(CapabilityId, id), id, version: null, at, registers };
  },
};

const extended: Chain = {
  first: firstExtendedCapability,
  least: firstExtendedCapability,
  end: Number.POSITIVE_INFINITY,
  headBytes: pci.extendedCapabilityHeadBytes,
  next: (view, at) => pci.ExtendedCapabilityHead.unpack(view.getUint32(at, true)).next & 0xffc,
  describe(view, at) {
    const { id, version } = pci.ExtendedCapabilityHead.unpack(view.getUint32(at, true));
    const table = extendedTables[id]?.(view, at);
    const registers = table === undefined ? [] : describeRegisters(view, at, table);
    return { name: nameOf(ExtendedCapabilityId, id), id, version, at, registers };
  },
};

/** Follows a chain from `first`; returns why it could not be followed to its end, or null. */
function follow(
  view: DataView,
  chain: Chain,
  first: number,
  found: CapabilityDescription[],
): string | null {
  const seen = new Set<number>();
  for (let at = first; at !== 0; at = chain.next(view, at)) {
    const place = `0x${at.toString(16)}`;
    const end = Math.min(chain.end, view.byteLength);
    if (at < chain.least || at + chain.headBytes > end) {
      return `the chain leads to ${place}, where no capability can be`;
    }
    if (seen.has(at) || found.length >= capabilitiesMax) return `the chain comes back to ${place}`;
    seen.add(at);
    found.push(chain.describe(view, at));
  }
  return null;
}

/** Describes `bytes` of configuration space, however little there is and whatever it holds. */
export function describeConfig(bytes: Uint8Array): ConfigDescription {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
  const header = describeRegisters(view, 0, ConfigHeader);
  const capabilities: CapabilityDescription[] = [];
  let trouble: string | null = null;
  if (bytes.length >= ConfigHeader.size) {
    const status = view.getUint16(ConfigHeader.at.STATUS, true);
    const listed = ConfigHeader.bits.STATUS.unpack(status).capabilitiesList;
    const first = view.getUint8(conventional.first) & 0xfc;
    if (listed) trouble = follow(view, conventional, first, capabilities);
  }
  const head = firstExtendedCapability + extended.headBytes;
  const hasExtended =
    bytes.length >= head && ![0, 0xffffffff].includes(view.getUint32(extended.first, true));
  if (hasExtended) trouble ??= follow(view, extended, extended.first, capabilities);
  return { size: bytes.length, header, capabilities, trouble };
}
