/** Capabilities of a PCI function: what a device asks for, and the chains that they make. */
import { assert } from "../base/assert.ts";
import type { Register, Registers, RegisterTable } from "../base/registers.ts";
import {
  CapabilityId,
  ExtendedCapabilityId,
  extendedConfigBytes,
  firstCapability,
  firstExtendedCapability,
} from "../spec/pci.ts";
import * as pci from "../spec/pci-capabilities.ts";

/** One capability, its values filled in; {@link chain} gives it its place. */
export interface Capability {
  /** Goes before its registers' names in configuration space: `msi.MESSAGE_CONTROL`. */
  readonly name: string;
  readonly id: number;
  /** Of an extended capability; null for a conventional one. */
  readonly version: number | null;
  /** Bytes. */
  readonly size: number;
  /** Offsets count from the capability's start. */
  readonly registers: Registers;
}

/** A capability at its place in configuration space. */
export interface PlacedCapability extends Capability {
  readonly at: number;
  /** Bytes at its start that say what it is. */
  readonly headBytes: number;
  /** True when a write can change nothing in it. */
  readonly readOnly: boolean;
}

type Values<T extends Registers> = Partial<
  Record<keyof T & string, Partial<Pick<Register, "access" | "reset" | "writable">>>
>;

/** The registers of a document's table with a device's own values. */
function valued<T extends Registers>(table: RegisterTable<T>, values: Values<T>): Registers {
  return Object.fromEntries(
    Object.entries<Register>(table.registers).map(([name, register]) => [
      name,
      { ...register, ...values[name] },
    ]),
  );
}

/** A capability by its document's table; `version` is null for a conventional one. */
export function capability<T extends Registers>(
  name: string,
  id: number,
  version: number | null,
  table: RegisterTable<T>,
  values: Values<T> = {},
): Capability {
  return { name, id, version, size: table.size, registers: valued(table, values) };
}

/** `pm`: D0 and D3hot, which keeps all state. */
export function powerManagement(): Capability {
  return capability("pm", CapabilityId.powerManagement, null, pci.PowerManagement, {
    PMC: { reset: pci.PowerManagement.bits.PMC.pack({ version: pci.powerManagementVersion }) },
    PMCSR: { reset: pci.PowerManagement.bits.PMCSR.mask.noSoftReset },
  });
}

/** `pcie`: an endpoint on a link of one lane; `functionLevelReset` unless told otherwise. */
export function pciExpress({ functionLevelReset = true } = {}): Capability {
  const { bits, registers } = pci.PciExpress;
  const link = { speed: pci.LinkSpeed.gt2_5, width: 1 };
  const control = registers.DEVICE_CONTROL.writable;
  const reset = bits.DEVICE_CONTROL.mask.initiateFunctionLevelReset;
  return capability("pcie", CapabilityId.pciExpress, null, pci.PciExpress, {
    CAPABILITIES: {
      reset: bits.CAPABILITIES.pack({
        version: pci.pciExpressVersion,
        deviceType: pci.PciExpressType.endpoint,
      }),
    },
    DEVICE_CAPABILITIES: {
      reset: bits.DEVICE_CAPABILITIES.pack({ roleBasedErrorReporting: true, functionLevelReset }),
    },
    DEVICE_CONTROL: { writable: functionLevelReset ? control | reset : control },
    LINK_CAPABILITIES: {
      reset: bits.LINK_CAPABILITIES.pack({ maxSpeed: link.speed, maxWidth: link.width }),
    },
    LINK_STATUS: { reset: bits.LINK_STATUS.pack(link) },
    LINK_CAPABILITIES_2: { reset: bits.LINK_CAPABILITIES_2.pack({ speeds: 1 }) },
  });
}

/** What an MSI capability is asked to have. */
export interface MsiOptions {
  /** A power of two up to 32. */
  readonly vectors: number;
  readonly address64?: boolean;
  readonly masking?: boolean;
}

/** `msi`: 64-bit addresses and masking unless told otherwise. */
export function msi({ vectors, address64 = true, masking = true }: MsiOptions): Capability {
  const exponent = Math.log2(vectors);
  assert(Number.isInteger(exponent) && vectors <= pci.msiMostVectors, `msi: ${vectors} vectors`);
  const control = pci.Msi64.bits.MESSAGE_CONTROL.pack({
    multipleMessageCapable: exponent,
    address64,
    perVectorMasking: masking,
  });
  const values = { MESSAGE_CONTROL: { reset: control } };
  const masked = { ...values, MASK: { writable: 2 ** vectors - 1 } };
  if (masking) {
    return address64
      ? capability("msi", CapabilityId.msi, null, pci.Msi64Masking, masked)
      : capability("msi", CapabilityId.msi, null, pci.Msi32Masking, masked);
  }
  return address64
    ? capability("msi", CapabilityId.msi, null, pci.Msi64, values)
    : capability("msi", CapabilityId.msi, null, pci.Msi32, values);
}

/** A place in the memory of a base address register. */
export interface BarPlace {
  readonly bar: number;
  /** Bytes, a multiple of 8. */
  readonly offset: number;
}

/** Vectors of an MSI-X capability, up to 2048, and where in BARs its memory lies. */
export interface MsixOptions {
  readonly vectors: number;
  readonly table: BarPlace;
  readonly pending: BarPlace;
}

/** `msix`. The table and the pending bits are memory of the device; the VMM interprets them. */
export function msix({ vectors, table, pending }: MsixOptions): Capability {
  assert(vectors > 0 && vectors <= pci.msixMostVectors, `msix: ${vectors} vectors`);
  const place = ({ bar, offset }: BarPlace) => {
    assert(offset % 8 === 0, `msix: offset ${offset} is no multiple of 8`);
    return pci.Msix.bits.TABLE.pack({ bar, offset8: offset / 8 });
  };
  return capability("msix", CapabilityId.msix, null, pci.Msix, {
    MESSAGE_CONTROL: { reset: pci.Msix.bits.MESSAGE_CONTROL.pack({ lastVector: vectors - 1 }) },
    TABLE: { reset: place(table) },
    PENDING: { reset: place(pending) },
  });
}

/** One read-only register a byte. */
function fixedBytes(body: Uint8Array, at: number): Registers {
  return Object.fromEntries(
    Array.from(body, (reset, index): [string, Register] => [
      `BODY_${index.toString(16).padStart(2, "0")}`,
      { at: at + index, size: 1, access: "ro", reset, doc: "the vendor's" },
    ]),
  );
}

/** A vendor-specific capability that can only be read; `body` follows ID, next and length. */
export function vendorSpecific(body: Uint8Array, name = "vendor"): Capability {
  const size = pci.vendorSpecificHeadBytes + body.length;
  const head = valued(pci.VendorSpecific, { LENGTH: { reset: size } });
  const registers = { ...head, ...fixedBytes(body, pci.vendorSpecificHeadBytes) };
  return { name, id: CapabilityId.vendorSpecific, version: null, size, registers };
}

/** `dsn`: the serial number as an EUI-64. */
export function deviceSerialNumber(serial: bigint): Capability {
  const { deviceSerialNumber: id } = ExtendedCapabilityId;
  return capability("dsn", id, 1, pci.DeviceSerialNumber, {
    LOW: { reset: Number(BigInt.asUintN(32, serial)) },
    HIGH: { reset: Number(BigInt.asUintN(32, serial >> 32n)) },
  });
}

/** Its ID, revision and bytes are the vendor's to choose. */
export interface VendorSpecificExtendedOptions {
  readonly id: number;
  readonly revision: number;
  readonly body: Uint8Array;
  readonly name?: string;
}

/** A vendor-specific extended capability that can only be read. */
export function vendorSpecificExtended(options: VendorSpecificExtendedOptions): Capability {
  const { id, revision, body, name = "vsec" } = options;
  const length = pci.VendorSpecificExtended.size + body.length;
  const head = valued(pci.VendorSpecificExtended, {
    VENDOR_HEAD: {
      reset: pci.VendorSpecificExtended.bits.VENDOR_HEAD.pack({ id, revision, length }),
    },
  });
  const registers = { ...head, ...fixedBytes(body, pci.VendorSpecificExtended.size) };
  return { name, id: ExtendedCapabilityId.vendorSpecific, version: 1, size: length, registers };
}

/** The capabilities of one kind in a row from `first`, each at a multiple of 4 bytes. */
function place(
  capabilities: readonly Capability[],
  first: number,
  end: number,
  headBytes: number,
): PlacedCapability[] {
  let at = first;
  return capabilities.map((each) => {
    const readOnly = Object.values(each.registers).every(({ access }) => access === "ro");
    const placed = { ...each, at, headBytes, readOnly };
    at = Math.ceil((at + each.size) / 4) * 4;
    assert(at <= end, `capability ${each.name}: ends at ${at}, behind ${end}`);
    return placed;
  });
}

/** The registers that link a capability to the next one. */
function links({ id, version }: Capability, next: number): Values<Registers> {
  return version === null
    ? { ID: { reset: id }, NEXT: { reset: next } }
    : { HEAD: { reset: pci.ExtendedCapabilityHead.pack({ id, version, next }) } };
}

/** Capabilities that have got their offsets. */
export interface CapabilityChain {
  readonly capabilities: readonly PlacedCapability[];
  /** Offset of the first conventional one, 0 for none: what the header's pointer says. */
  readonly first: number;
  /** All registers by their names in configuration space, at their offsets there. */
  readonly registers: Registers;
}

/** Gives the capabilities their places, in the given order, and links them. */
export function chain(capabilities: readonly Capability[]): CapabilityChain {
  const conventional = place(
    capabilities.filter(({ version }) => version === null),
    firstCapability,
    firstExtendedCapability,
    pci.capabilityHeadBytes,
  );
  const extended = place(
    capabilities.filter(({ version }) => version !== null),
    firstExtendedCapability,
    extendedConfigBytes,
    pci.extendedCapabilityHeadBytes,
  );
  const registers: Record<string, Register> = {};
  for (const list of [conventional, extended]) {
    list.forEach((each, index) => {
      const linked = links(each, list[index + 1]?.at ?? 0);
      for (const [name, register] of Object.entries(each.registers)) {
        const full = `${each.name}.${name}`;
        assert(!(full in registers), `capability ${each.name}: two of this name`);
        registers[full] = { ...register, ...linked[name], at: each.at + register.at };
      }
    });
  }
  return {
    capabilities: [...conventional, ...extended],
    first: conventional[0]?.at ?? 0,
    registers,
  };
}
