import { describe, expect, it } from "vitest";
import type { Registers, RegisterTable } from "../../src/base/registers.ts";
import { ConfigHeader } from "../../src/spec/pci.ts";
import * as capabilities from "../../src/spec/pci-capabilities.ts";

type Place = Pick<RegisterTable<Registers>, "at" | "size">;

/** Offsets as Linux names them in `include/uapi/linux/pci_regs.h`, written down independently. */
const header = {
  VENDOR_ID: 0x00,
  DEVICE_ID: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_ID: 0x08,
  PROGRAMMING_INTERFACE: 0x09,
  SUB_CLASS: 0x0a,
  BASE_CLASS: 0x0b,
  CACHE_LINE_SIZE: 0x0c,
  LATENCY_TIMER: 0x0d,
  HEADER_TYPE: 0x0e,
  BIST: 0x0f,
  BAR0: 0x10,
  BAR1: 0x14,
  BAR2: 0x18,
  BAR3: 0x1c,
  BAR4: 0x20,
  BAR5: 0x24,
  CARDBUS_CIS: 0x28,
  SUBSYSTEM_VENDOR_ID: 0x2c,
  SUBSYSTEM_ID: 0x2e,
  EXPANSION_ROM: 0x30,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  MIN_GNT: 0x3e,
  MAX_LAT: 0x3f,
};

describe("the configuration space's tables", () => {
  it("have the header's registers where Linux has them", () => {
    expect(ConfigHeader.at).toEqual(header);
  });

  it.each<[Place, string, number, number]>([
    [capabilities.PowerManagement, "PMCSR", 4, 8],
    [capabilities.PciExpress, "DEVICE_CAPABILITIES", 4, 60],
    [capabilities.PciExpress, "DEVICE_CONTROL", 8, 60],
    [capabilities.PciExpress, "LINK_STATUS", 18, 60],
    [capabilities.PciExpress, "DEVICE_CAPABILITIES_2", 36, 60],
    [capabilities.PciExpress, "LINK_CONTROL_2", 48, 60],
    [capabilities.Msi32, "MESSAGE_DATA", 8, 12],
    [capabilities.Msi64, "MESSAGE_DATA", 12, 16],
    [capabilities.Msi32Masking, "MASK", 12, 20],
    [capabilities.Msi64Masking, "MASK", 16, 24],
    [capabilities.Msi64Masking, "PENDING", 20, 24],
    [capabilities.Msix, "TABLE", 4, 12],
    [capabilities.Msix, "PENDING", 8, 12],
    [capabilities.AdvancedErrorReporting, "HEADER_LOG", 28, 44],
    [capabilities.DeviceSerialNumber, "HIGH", 8, 12],
    [capabilities.AddressTranslation, "CONTROL", 6, 8],
    [capabilities.ProcessAddressSpace, "CONTROL", 6, 8],
    [capabilities.AlternativeRoutingId, "CAPABILITY", 4, 8],
    [capabilities.VendorSpecificExtended, "VENDOR_HEAD", 4, 8],
  ])("have registers where Linux has them (capability %#)", (table, register, at, size) => {
    expect([table.at[register], table.size]).toEqual([at, size]);
  });

  it("have the bits that drivers use where Linux has them", () => {
    expect(ConfigHeader.bits.COMMAND.mask).toMatchObject({
      ioSpace: 0x1,
      memorySpace: 0x2,
      busMaster: 0x4,
      interruptDisable: 0x400,
    });
    expect(ConfigHeader.bits.STATUS.mask).toMatchObject({
      interruptStatus: 0x08,
      capabilitiesList: 0x10,
    });
    expect(capabilities.PciExpress.bits.DEVICE_CAPABILITIES.mask.functionLevelReset).toBe(1 << 28);
    expect(capabilities.PciExpress.bits.DEVICE_CONTROL.mask.initiateFunctionLevelReset).toBe(
      0x8000,
    );
    expect(capabilities.Msi64.bits.MESSAGE_CONTROL.mask).toEqual({
      enable: 0x1,
      multipleMessageCapable: 0xe,
      multipleMessageEnable: 0x70,
      address64: 0x80,
      perVectorMasking: 0x100,
    });
    expect(capabilities.Msix.bits.MESSAGE_CONTROL.mask).toEqual({
      lastVector: 0x7ff,
      functionMask: 0x4000,
      enable: 0x8000,
    });
  });
});
