import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Carve } from "../../src/device/carve.ts";
import { PciRegion } from "../../src/spec/vfio.ts";
import { TestModel } from "./test-model.ts";
import { Vmm } from "./vmm.ts";

const make = (bar: number, size: number) => {
  const inner = new TestModel();
  const bits = new Uint8Array(4);
  const device = new Carve(inner, { bar, size, bits });
  return { inner, device, bits, vmm: new Vmm(device), whole: new Vmm(inner) };
};

describe("a carved base address register", () => {
  it("is smaller, and the others are what they were", () => {
    const { device, inner } = make(0, 4096);
    expect(device.regions[0]).toEqual({ ...inner.regions[0], size: 4096 });
    expect(device.regions.slice(1)).toEqual(inner.regions.slice(1));
    expect(device.regions, "one array for ever").toBe(device.regions);
  });

  it("lets nobody read or write above its end, not even partly", () => {
    const { vmm, whole } = make(0, 4096);
    whole.write(0, 4096, 0x12345678);
    expect(vmm.write(0, 4092, 1)).toBe(0);
    for (const offset of [4093, 4096, 8192, (1 << 21) - 4, 2 ** 40]) {
      expect(() => vmm.read(0, offset)).toThrow(`${-errno.EINVAL}`);
      expect(vmm.write(0, offset, 0xffffffff)).toBe(-errno.EINVAL);
    }
    expect(whole.read(0, 4096)).toBe(0x12345678);
    expect(vmm.write(2, 4092, 5), "another one").toBe(0);
  });

  it.each([
    [0, 4096, 0xfffff00c],
    [0, 1 << 20, 0xfff0000c],
    [0, 1 << 21, 0xffe0000c],
    [3, 16, 0xfffffff0],
    [4, 4096, 0xfffff000],
  ])("BAR%i of %i bytes answers a write of all ones with its size", (bar, size, answer) => {
    const { vmm } = make(bar, size);
    const at = 0x10 + 4 * bar;
    vmm.writeConfig(at, 0xffffffff);
    expect(vmm.config(at)).toBe(answer);
  });

  it("holds any address that fits its size, in whatever pieces it is written", () => {
    const { vmm, bits, inner } = make(3, 256);
    const at = 0x1c;
    vmm.writeConfig(at, 0xabcdef00);
    expect(vmm.config(at)).toBe(0xabcdef00);
    vmm.writeConfig(at + 1, 0x12, 1);
    expect(vmm.config(at)).toBe(0xabcd1200);
    vmm.writeConfig(at + 2, 0x7766, 2);
    expect([vmm.config(at), vmm.config(at + 1, 1)]).toEqual([0x77661200, 0x12]);
    expect(new Vmm(inner).config(at), "the device has not these bits").toBe(0x77660000);
    expect([...bits]).toEqual([0, 0x12, 0, 0]);
    expect(vmm.bytes(PciRegion.config, 0x18, 8).readUInt32LE(4)).toBe(0x77661200);
    vmm.writeConfig(0x20, 0xffffffff);
    expect(vmm.config(at), "its neighbour is another one").toBe(0x77661200);
  });

  it("can be mapped no further than its end", () => {
    expect(make(4, 4096).device.regions[4]?.mmap?.areas).toEqual([{ offset: 0, size: 4096 }]);
    expect(make(3, 8192).device.regions[3]?.mmap?.areas).toEqual([{ offset: 4096, size: 4096 }]);
    expect(make(3, 4096).device.regions[3]?.mmap).toBeNull();
    expect(make(3, 65536).device.regions[3]?.mmap?.areas).toEqual([{ offset: 4096, size: 8192 }]);
    expect(make(0, 4096).device.regions[0]?.mmap).toBeNull();
  });

  it("has to make sense", () => {
    expect(() => make(0, 1 << 22)).toThrow("BAR0");
    expect(() => make(0, 5000)).toThrow("BAR0");
  });
});
