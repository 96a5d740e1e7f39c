import fc from "fast-check";
import { describe, expect, it } from "vitest";
import {
  type CapabilityDescription,
  capabilitiesMax,
  describeConfig,
} from "../../src/device/config-description.ts";
import { describeDevice, irqName, regionByName, regionName } from "../../src/device/description.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { create as createBench } from "../../src/devices/bench/index.ts";
import { create as createHello } from "../../src/devices/hello/index.ts";
import { CapabilityId, ConfigHeader, ExtendedCapabilityId } from "../../src/spec/pci.ts";

/** A configuration space with a list of capabilities; each is [offset, bytes...]. */
function configWith(size: number, ...capabilities: ReadonlyArray<readonly number[]>): Uint8Array {
  const bytes = new Uint8Array(size);
  bytes[ConfigHeader.at.STATUS] = 1 << ConfigHeader.registers.STATUS.bits.capabilitiesList;
  bytes[ConfigHeader.at.CAPABILITIES] = capabilities[0]?.[0] ?? 0;
  for (const [at = 0, ...content] of capabilities) bytes.set(content, at);
  return bytes;
}

const places = (capabilities: readonly CapabilityDescription[]): number[] =>
  capabilities.map(({ at }) => at);

describe("a configuration space in words", () => {
  it("has its header's registers by name", () => {
    const bytes = new Uint8Array(64);
    bytes.set([0x22, 0xfe, 0x02, 0x00, 0x06, 0x04]);
    const { header, capabilities, trouble } = describeConfig(bytes);
    expect(header).toContainEqual({ name: "VENDOR_ID", at: 0, size: 2, value: 0xfe22 });
    const command = header.find(({ name }) => name === "COMMAND");
    expect(command).toMatchObject({ at: 4, size: 2, value: 0x0406 });
    expect(command?.bits).toMatchObject({ memorySpace: true, busMaster: true, ioSpace: false });
    expect({ capabilities, trouble }).toEqual({ capabilities: [], trouble: null });
  });

  it("follows both chains of capabilities", () => {
    const serial = [ExtendedCapabilityId.deviceSerialNumber, 0, 1, 0, 0xef, 0xbe];
    const bytes = configWith(4096, [0x40, CapabilityId.msix, 0x50, 31, 0], [0x50, 0x7e, 0]);
    bytes.set(serial, 0x100);
    const { capabilities, trouble } = describeConfig(bytes);
    expect(trouble).toBeNull();
    expect(capabilities).toMatchObject([
      { name: "msix", id: CapabilityId.msix, version: null, at: 0x40 },
      { name: "capability 0x7e", registers: [], version: null, at: 0x50 },
      { name: "deviceSerialNumber", version: 1, at: 0x100 },
    ]);
    const control = capabilities[0]?.registers.find(({ name }) => name === "MESSAGE_CONTROL");
    expect(control).toMatchObject({ at: 0x42, value: 31, bits: { lastVector: 31, enable: false } });
    const low = capabilities[2]?.registers.find(({ name }) => name === "LOW");
    expect(low?.value).toBe(0xbeef);
  });

  it("tells the four layouts of MSI apart", () => {
    const names = [0x0000, 0x0080, 0x0100, 0x0180].map((control) => {
      const bytes = configWith(256, [0x40, CapabilityId.msi, 0, control & 255, control >> 8]);
      return describeConfig(bytes).capabilities[0]?.registers.map(({ name }) => name);
    });
    expect(names.map((each) => each?.includes("MESSAGE_ADDRESS_HIGH"))).toEqual([
      false,
      true,
      false,
      true,
    ]);
    expect(names.map((each) => each?.includes("MASK"))).toEqual([false, false, true, true]);
  });

  const broken: ReadonlyArray<[what: string, config: Uint8Array, why: RegExp, found: number[]]> = [
    ["a circle", configWith(256, [0x40, 1, 0x48], [0x48, 1, 0x40]), /back to 0x40/, [0x40, 0x48]],
    ["one that is itself", configWith(256, [0x40, 1, 0x40]), /back to 0x40/, [0x40]],
    ["one inside of the header", configWith(256, [0x40, 1, 0x10]), /leads to 0x10/, [0x40]],
    ["one at the very end", configWith(256, [0xfc, 1, 0], []), /^nothing$/, [0xfc]],
    ["one behind what was read", configWith(80, [0x40, 1, 0x80]), /leads to 0x80/, [0x40]],
  ];
  for (const [what, config, why, found] of broken) {
    it(`takes a chain with ${what} as far as it goes`, () => {
      const { capabilities, trouble } = describeConfig(config);
      expect(places(capabilities)).toEqual(found);
      expect(trouble ?? "nothing").toMatch(why);
    });
  }

  it("takes any bytes, in bounded time and with every register inside of them", () => {
    const wild = fc.oneof(
      fc.uint8Array({ maxLength: 600 }),
      fc.uint8Array({ minLength: 4096, maxLength: 4096 }),
    );
    fc.assert(
      fc.property(wild, (bytes) => {
        if (bytes.length > 6) bytes[6] = 0x10;
        const { header, capabilities, size } = describeConfig(bytes);
        expect(size).toBe(bytes.length);
        expect(capabilities.length).toBeLessThanOrEqual(capabilitiesMax);
        for (const { registers } of [{ registers: header }, ...capabilities]) {
          for (const register of registers) {
            expect(register.at + register.size).toBeLessThanOrEqual(bytes.length);
          }
        }
      }),
    );
  });
});

describe("a device in words", () => {
  it("tells what the bench device is, without changing it", () => {
    const device = createBench({ stateMiB: "1" });
    const before = Buffer.from(device.state ?? []);
    const found = describeDevice(device);
    expect(before.length).toBeGreaterThan(0);
    expect(before.equals(device.state ?? new Uint8Array(0))).toBe(true);
    expect(found).toMatchObject({
      name: "bench",
      flags: ["reset", "pci"],
      migration: { flags: ["stopCopy", "preCopy"], state: "RUNNING" },
      ioEventfds: null,
    });
    expect(found.regions.map(({ name }) => name)).toEqual(["bar0", "bar1", "config"]);
    expect(found.regions[1]).toMatchObject({
      size: 65_536,
      flags: ["read", "write", "mmap"],
      mmapAreas: [{ offset: 0x1000, size: 0x4000 }],
    });
    expect(found.irqs).toContainEqual({ index: 2, name: "msix", count: 32, flags: ["eventfd"] });
    expect(found.config?.header).toContainEqual({
      name: "DEVICE_ID",
      at: 2,
      size: 2,
      value: 2,
    });
  });

  it("asks for ioeventfds only when somebody takes them", () => {
    const device = createHello();
    const entry = { offset: 8, size: 4, fd: -1, datamatch: 0x55n };
    const asked: number[] = [];
    device.ioEventfds = (region) => {
      asked.push(region);
      return region === 0 ? [entry] : [];
    };
    expect(describeDevice(device).ioEventfds).toBeNull();
    expect(asked).toEqual([]);
    const released: unknown[] = [];
    const found = describeDevice(device, (each) => released.push(each));
    expect(found.ioEventfds).toEqual([{ region: "bar0", offset: 8, size: 4, datamatch: "0x55" }]);
    expect(released).toEqual([entry]);
    expect(asked).toEqual([0, 2, 4, 7]);
  });

  it("of a device that refuses everything has what is left", () => {
    const device = createHello();
    const refusing: VfioDevice = Object.create(device, {
      read: { value: () => -5 },
      feature: { value: () => -25 },
    });
    expect(describeDevice(refusing)).toMatchObject({ config: null, migration: null });
  });
});

describe("names of regions", () => {
  it("lead to regions that are there, and to no others", () => {
    const device = createHello();
    expect(regionByName(device, "bar0")).toBe(0);
    expect(regionByName(device, "CONFIG")).toBe(7);
    expect(regionByName(device, "2")).toBe(2);
    for (const name of ["bar1", "rom", "1", "99", "-1", "0x0", "", "toString"]) {
      expect(regionByName(device, name)).toBeLessThan(0);
    }
    expect(regionName(9)).toBe("region 9");
    expect(irqName(7)).toBe("irq 7");
  });
});
