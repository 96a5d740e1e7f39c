import { describe, expect, it } from "vitest";
import { qmBar } from "../../../../src/spec/hisi-qm.ts";
import { CapabilityId } from "../../../../src/spec/pci.ts";
import { at, base, command, makeBench, type Store } from "./driver.ts";

describe("a VF's configuration space", () => {
  it("is a Kunpeng 930 VF with MSI, PCI Express and nothing else", () => {
    const { vmm, vf } = makeBench();
    expect(vmm.config(0x00)).toBe(0xa2ff19e5);
    expect(vmm.config(0x08)).toBe(0x12000030);
    expect(vmm.config(0x3d, 1)).toBe(0);
    const msi = vmm.capability(CapabilityId.msi);
    expect(vmm.config(msi + 2, 2), "4 messages, 64 bits, maskable").toBe(0x0184);
    const pcie = vmm.capability(CapabilityId.pciExpress);
    expect(vmm.config(pcie + 4) & (1 << 28), "FLR").not.toBe(0);
    expect(vmm.capability(CapabilityId.msix)).toBe(-1);
    expect(vf.irqs.map(({ count }) => count)).toEqual([0, 4, 0, 1, 1]);
    expect(vf.regions.map(({ size }) => size).slice(0, 6)).toEqual([0, 0, 0x10000, 0, 0, 0]);
    expect(vf.regions[qmBar]?.mmap).toBeNull();
  });
});

describe("the driver's probe", () => {
  it.each<Store>(["16", "8+8", "4x4"])("goes through with a mailbox store of %s", (store) => {
    const { driver, vmm } = makeBench();
    driver.store = store;
    expect(driver.read(at.isolation)).toBe(0);
    expect(driver.read(0x210)).toBe(0);
    expect(driver.read(0x3100)).toBe(0x00006f01);
    expect([0x310c, 0x3110, 0x3114, 0x3118].map((each) => driver.read(each))).toEqual([
      0x00010000, 0x00010001, 0x00010003, 0x00010002,
    ]);
    expect(driver.read(at.mailbox) & 0x2000).toBe(0);
    expect(driver.command(command.vft, 0, 0, true)).toBe(0);
    expect(driver.read(at.mailbox)).toBe(0x4006);
    expect(driver.result).toBe(0x0001_f010_0000_0000n);
    expect(driver.read(0x311c)).toBe(0x00040003);
    expect(driver.read(0x3104)).toBe(0x04000800);
    expect(driver.read(0x3108)).toBe(0x04000400);
    driver.write(at.ifcSource, driver.read(at.ifcSource) | 1);
    driver.write(at.ifcMask, driver.read(at.ifcMask) & ~1);
    expect([0x3124, 0x3144, 0x3148, 0x3170].map((each) => driver.read(each))).toEqual([
      0x7c77, 2, 0, 0xf,
    ]);
    driver.start();
    expect(driver.read(at.vfState)).toBe(0);
    expect(driver.read(at.eqc + 4), "EQC's base").toBe(driver.eq.address % 2 ** 32);
    expect(vmm.device.busy).toBe(false);
  });
});

describe("requests", () => {
  it("are served, completed and announced by MSI", () => {
    const { driver, vmm, guest } = makeBench();
    driver.start();
    const pair = driver.queue(3, 1024, 5);
    const source = driver.allocate(4096);
    guest.write(source, Buffer.from("sixteen letters!"));
    const slot = pair.submit(source, source + 2048, 16, 0x20);
    vmm.run();
    expect(driver.irqs.map((irq) => irq.take())).toEqual([1, 0, 0]);
    expect(driver.events()).toEqual([{ queue: 3, type: 0 }]);
    expect(pair.poll()).toEqual([{ sqHead: slot, sqNumber: 3 }]);
    expect(pair.status(slot)).toBe(0x105);
    expect(guest.read(source + 2048, 16).toString()).toBe("SIXTEEN\0LETTERS\x01");
    expect(base).toBeLessThan(source);
  });
});
