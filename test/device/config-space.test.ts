import fc from "fast-check";
import { describe, expect, it, vi } from "vitest";
import { errno } from "../../src/base/errno.ts";
import {
  type Capability,
  capability,
  deviceSerialNumber,
  msi,
  msix,
  pciExpress,
  powerManagement,
  vendorSpecific,
  vendorSpecificExtended,
} from "../../src/device/capabilities.ts";
import {
  ConfigSpace,
  configBytes,
  type FunctionDescription,
} from "../../src/device/config-space.ts";
import { ExtendedCapabilityId } from "../../src/spec/pci.ts";
import { AdvancedErrorReporting } from "../../src/spec/pci-capabilities.ts";

const vendorBytes = Uint8Array.from({ length: 13 }, (_, i) => 0xa0 + i);
const all: readonly Capability[] = [
  powerManagement(),
  pciExpress(),
  msi({ vectors: 4 }),
  msix({ vectors: 2048, table: { bar: 2, offset: 0 }, pending: { bar: 2, offset: 0x8000 } }),
  vendorSpecific(vendorBytes),
  capability("aer", ExtendedCapabilityId.advancedErrorReporting, 2, AdvancedErrorReporting),
  deviceSerialNumber(0x0123456789abcdefn),
  vendorSpecificExtended({ id: 0x1234, revision: 3, body: vendorBytes }),
];

const plain: FunctionDescription = {
  vendor: 0x1af4,
  device: 0x1234,
  revision: 7,
  classCode: 0x010802,
  interruptPin: 2,
  bars: {},
  romBytes: 0,
  capabilities: all,
};

/** A configuration space as the VMM reaches it. */
function make(changes: Partial<FunctionDescription> = {}) {
  const description = { ...plain, ...changes };
  const size = configBytes(description.capabilities);
  const events = {
    interruptsChanged: vi.fn(),
    msiPending: () => 0x5,
    functionLevelReset: vi.fn(),
  };
  const buffer = new Uint8Array(size + 64).fill(0xee);
  const config = new ConfigSpace(description, new DataView(buffer.buffer), 32, events);
  const bytes = (at: number, count: number) => {
    const target = Buffer.alloc(count);
    expect(config.read(at, target, 0, count)).toBe(0);
    return target;
  };
  const read = (at: number, count = 4) => bytes(at, count).readUIntLE(0, count);
  const write = (at: number, value: number, count = 4) => {
    const source = Buffer.alloc(count);
    source.writeUIntLE(value, 0, count);
    return config.write(at, source, 0, count);
  };
  const find = (id: number) => {
    for (let at = read(0x34, 1); at !== 0; at = read(at + 1, 1)) if (read(at, 1) === id) return at;
    throw new Error(`no capability ${id}`);
  };
  return { config, events, buffer, bytes, read, write, find, size };
}

const extended = ({ read }: ReturnType<typeof make>): [number, number, number][] => {
  const found: [number, number, number][] = [];
  for (let at = 0x100; at !== 0; at = read(at) >>> 20) {
    found.push([at, read(at) & 0xffff, (read(at) >>> 16) & 0xf]);
  }
  return found;
};

describe("configuration space", () => {
  it("tells who the function is", () => {
    const { read, size } = make();
    expect(size).toBe(4096);
    expect(read(0x00)).toBe(0x12341af4);
    expect(read(0x08)).toBe(0x01080207);
    expect(read(0x2c), "the vendor's and the device's own, unless told").toBe(0x12341af4);
    expect(read(0x3c, 2)).toBe(0x0200);
    expect(read(0x06, 2), "there are capabilities").toBe(0x0010);
  });

  it("is 256 bytes without PCI Express, and empty without capabilities", () => {
    const { read, size, config } = make({ capabilities: [powerManagement()] });
    expect(size).toBe(256);
    expect(config.read(0xfd, new Uint8Array(4), 0, 4)).toBe(-errno.EINVAL);
    expect(config.write(0xff, new Uint8Array(4), 0, 2)).toBe(-errno.EINVAL);
    expect(config.write(0x40, new Uint8Array(4), 0, 0), "nothing of a capability's head").toBe(0);
    expect(read(0xfc)).toBe(0);
    const empty = make({ capabilities: [] });
    expect([empty.read(0x34, 1), empty.read(0x06, 2)]).toEqual([0, 0]);
  });

  it("can be read as a whole, and leaves what is around it alone", () => {
    const { bytes, buffer, read } = make();
    const whole = bytes(0, 4096);
    for (let at = 0; at < 4096; at += 4) expect(whole.readUInt32LE(at)).toBe(read(at));
    expect(new Set([...buffer.subarray(0, 32), ...buffer.subarray(4096 + 32)])).toEqual(
      new Set([0xee]),
    );
  });

  it("chains capabilities in order, each at a multiple of four", () => {
    const space = make();
    const ids: number[] = [];
    for (let at = space.read(0x34, 1); at !== 0; at = space.read(at + 1, 1)) {
      expect(at % 4).toBe(0);
      ids.push(space.read(at, 1));
    }
    expect(ids).toEqual([0x01, 0x10, 0x05, 0x11, 0x09]);
    expect(extended(space)).toEqual([
      [0x100, 0x0001, 2],
      [0x12c, 0x0003, 1],
      [0x138, 0x000b, 1],
    ]);
    expect([space.read(0x13c), space.read(0x130), space.read(0x134)]).toEqual([
      0x01531234, 0x89abcdef, 0x01234567,
    ]);
    const vendor = space.find(0x09);
    expect(space.read(vendor + 2, 1)).toBe(16);
    expect(space.bytes(vendor + 3, 13)).toEqual(Buffer.from(vendorBytes));
  });

  it("does not load with capabilities that do not fit or that have one name", () => {
    const long = vendorSpecific(new Uint8Array(200));
    expect(() => make({ capabilities: [long] })).toThrow("ends at");
    expect(() => make({ capabilities: [msi({ vectors: 1 }), msi({ vectors: 1 })] })).toThrow("two");
    expect(() => msi({ vectors: 3 })).toThrow("3 vectors");
    expect(() => msi({ vectors: 64 })).toThrow("64 vectors");
    expect(() =>
      msix({ vectors: 2049, table: { bar: 0, offset: 0 }, pending: { bar: 0, offset: 0 } }),
    ).toThrow("2049");
  });

  it.each([
    ["a capability's head", (space: ReturnType<typeof make>) => space.find(0x05), 2],
    ["one byte of a head", (space: ReturnType<typeof make>) => space.find(0x11) + 1, 1],
    ["a vendor's capability", (space: ReturnType<typeof make>) => space.find(0x09) + 5, 4],
    ["an extended head", () => 0x100, 4],
    ["the serial number", () => 0x130, 4],
    ["a vendor's extended capability", () => 0x140, 4],
  ])("refuses a write to %s", (_, place, count) => {
    const space = make();
    const at = place(space);
    const before = space.bytes(0, 4096);
    expect(space.write(at, 0xffffffff >>> (32 - 8 * count), count)).toBe(-errno.EPERM);
    expect(space.bytes(0, 4096)).toEqual(before);
  });

  it("takes a write that names a head together with what can be written", () => {
    const space = make();
    const at = space.find(0x11);
    expect(space.write(at, 0xffffffff), "4 bytes at the capability's start").toBe(0);
    expect(space.read(at)).toBe(0xc7ff0011 + (space.read(at + 1, 1) << 8));
    expect(space.write(at + 1, 0, 2), "2 bytes at +1, as an old QEMU does").toBe(0);
    expect(space.read(at + 2, 2)).toBe(0xc7ff);
  });

  it("enables as many MSI vectors as there are, and no more", () => {
    const space = make();
    const control = space.find(0x05) + 2;
    expect(space.read(control, 2)).toBe(0x0184);
    expect(space.write(control, 0x0031, 2), "8 vectors").toBe(-errno.EINVAL);
    expect(space.write(control, 0x0071, 2), "reserved").toBe(-errno.EINVAL);
    expect(space.write(control - 2, 0x00310000), "also within a wider write").toBe(-errno.EINVAL);
    expect(space.read(control, 2)).toBe(0x0184);
    expect(space.write(control, 0xffa1, 2), "4 vectors, and enable").toBe(0);
    expect(space.read(control, 2)).toBe(0x01a5);
    expect(space.write(control + 1, 0xff, 1), "the high byte says nothing of vectors").toBe(0);
    expect(space.read(control + 14), "mask bits").toBe(0);
    expect(space.write(control + 14, 0xffffffff)).toBe(0);
    expect(space.read(control + 14)).toBe(0xf);
    expect(space.read(control + 18), "pending bits are the interrupts'").toBe(0x5);
  });

  it("says when interrupts are enabled or masked", () => {
    const { config, events, write, find } = make();
    const facts = () => [
      config.interruptDisabled,
      config.msiEnabled,
      config.msiMasked(2),
      config.msixEnabled,
      config.msixMasked,
    ];
    expect(facts()).toEqual([false, false, false, false, false]);
    write(0x05, 0x04, 1);
    write(find(0x05) + 2, 1, 2);
    write(find(0x05) + 16, 0x4);
    write(find(0x11) + 2, 0xc000, 2);
    expect(facts()).toEqual([true, true, true, true, true]);
    expect(events.interruptsChanged).toHaveBeenCalledTimes(4);
    expect(config.msiMasked(1)).toBe(false);
  });

  it("has a bus master bit and an interrupt status", () => {
    const { config, read, write } = make();
    write(0x04, 0xffff, 2);
    expect(read(0x04, 2)).toBe(0x0547);
    expect(config.busMaster).toBe(true);
    config.setInterruptStatus(true);
    write(0x06, 0xffff, 2);
    expect(read(0x06, 2), "only errors can be cleared").toBe(0x0018);
    config.setInterruptStatus(false);
    expect(read(0x06, 2)).toBe(0x0010);
  });

  it("does a function level reset when Device Control says so, and reads it as zero", () => {
    const { events, read, write, find } = make();
    const control = find(0x10) + 8;
    expect(read(control, 2)).toBe(0x2810);
    write(control, 0x0010, 2);
    expect(events.functionLevelReset).not.toHaveBeenCalled();
    write(control, 0x8000, 2);
    expect(events.functionLevelReset).toHaveBeenCalledTimes(1);
    expect(read(control, 2)).toBe(0);
    const without = make({ capabilities: [pciExpress({ functionLevelReset: false })] });
    without.write(without.find(0x10) + 8, 0x8000, 2);
    expect(without.events.functionLevelReset).not.toHaveBeenCalled();
    expect(without.read(without.find(0x10) + 4) >>> 28).toBe(0);
  });

  it("puts back what no write can have changed when its bytes were replaced", () => {
    const { config, buffer, read, write } = make({
      bars: { 0: { size: 4096, space: "memory32" } },
    });
    write(0x10, 0xfe000000);
    write(0x04, 0x0006, 2);
    const saved = Uint8Array.from(buffer);
    buffer.fill(0xff, 32, 32 + 4096);
    config.restored();
    expect([read(0x00), read(0x10), read(0x04, 2)]).toEqual([0x12341af4, 0xfffff000, 0x0547]);
    buffer.set(saved);
    config.restored();
    expect(buffer).toEqual(saved);
    config.reset();
    expect([read(0x10), read(0x04, 2)]).toEqual([0, 0]);
  });
});

describe("base address registers", () => {
  /** What Linux does: all ones, read back, restore. */
  const sizeOf = ({ read, write }: ReturnType<typeof make>, at: number, mask: number) => {
    const before = read(at);
    write(at, 0xffffffff);
    const found = read(at);
    write(at, before);
    expect(read(at)).toBe(before);
    return (found & mask) >>> 0;
  };

  const shapes = fc.record({
    bar: fc.nat(5),
    exponent: fc.integer({ min: 4, max: 40 }),
    space: fc.constantFrom("memory32" as const, "memory64" as const, "io" as const),
    prefetchable: fc.boolean(),
  });

  it("tell their size and kind, for every size, kind and number", () => {
    fc.assert(
      fc.property(shapes, ({ bar, exponent, space, prefetchable }) => {
        const wide = space === "memory64";
        fc.pre(wide ? bar < 5 : exponent < 32);
        const size = 2 ** exponent;
        const io = space === "io";
        const shape = io ? { size, space } : { size, space, prefetchable };
        const config = make({ bars: { [bar]: shape } });
        const at = 0x10 + 4 * bar;
        const flags = io ? 0x1 : (wide ? 0x4 : 0) | (prefetchable ? 0x8 : 0);
        expect(config.read(at)).toBe(flags);
        const low = sizeOf(config, at, io ? 0xfffffffc : 0xfffffff0);
        const high = wide ? sizeOf(config, at + 4, 0xffffffff) : 0xffffffff;
        const found = (BigInt(high) << 32n) | BigInt(low);
        expect(BigInt.asUintN(64, ~found) + 1n).toBe(BigInt(size));
        for (let other = 0; other < 6; other++) {
          if (other === bar || (wide && other === bar + 1)) continue;
          expect(sizeOf(config, 0x10 + 4 * other, 0xffffffff)).toBe(0);
        }
      }),
    );
  });

  it("are sized by bytes and halves as well, and keep what QEMU's reset writes", () => {
    const { read, write } = make({ bars: { 1: { size: 65536, space: "memory32" } } });
    write(0x14, 0xff, 1);
    write(0x16, 0xffff, 2);
    expect(read(0x14)).toBe(0xffff0000);
    for (let at = 0x10; at < 0x28; at += 4) write(at, 0);
    expect(read(0x14)).toBe(0);
  });

  it("have the ROM's with its enable bit", () => {
    const { read, write } = make({ romBytes: 16384 });
    write(0x30, 0xffffffff);
    expect(read(0x30)).toBe(0xffffc001);
    write(0x30, 0xfffff800);
    expect(read(0x30)).toBe(0xffffc000);
    const none = make();
    none.write(0x30, 0xffffffff);
    expect(none.read(0x30)).toBe(0);
  });

  it.each([
    [{ 0: { size: 5000, space: "memory32" as const } }, "BAR0: 5000 bytes"],
    [{ 0: { size: 8, space: "memory32" as const } }, "BAR0: 8 bytes"],
    [{ 5: { size: 4096, space: "memory64" as const } }, "BAR5"],
    [{ 0: { size: 2 ** 32, space: "memory32" as const } }, "too large"],
    [
      {
        0: { size: 4096, space: "memory64" as const },
        1: { size: 4096, space: "memory32" as const },
      },
      "is the high word of BAR0",
    ],
  ])("do not load as %j", (bars, message) => {
    expect(() => make({ bars })).toThrow(message);
  });
});

describe("any writes", () => {
  it("change no bit that a document says is read-only", () => {
    const bars = {
      0: { size: 8192, space: "memory64" as const },
      2: { size: 256, space: "io" as const },
    };
    const accesses = fc.array(
      fc.record({ at: fc.nat(4095), bytes: fc.uint8Array({ minLength: 1, maxLength: 16 }) }),
      { maxLength: 40 },
    );
    const fresh = make({ bars, romBytes: 2048 });
    const before = fresh.bytes(0, 4096);
    fc.assert(
      fc.property(accesses, (list) => {
        const space = make({ bars, romBytes: 2048 });
        const whole = space.bytes(0, 4096);
        for (const { at, bytes } of list) {
          space.config.write(at, bytes, 0, Math.min(bytes.length, 4096 - at));
        }
        const after = space.bytes(0, 4096);
        expect(whole).toEqual(before);
        // The head of each capability, identity, class, and everything behind the last one.
        const fixed: [number, number][] = [
          [0x00, 4],
          [0x08, 4],
          [0x18, 1],
          [0x2c, 4],
          [0x34, 8],
          [0x3d, 3],
          [space.find(0x01), 4],
          [space.find(0x10), 8],
          [space.find(0x05), 2],
          [space.find(0x11), 2],
          [space.find(0x11) + 4, 8],
          [space.find(0x09), 16],
          [0x100, 4],
          [0x12c, 0x15 + 12],
          [0x160, 4096 - 0x160],
        ];
        for (const [at, count] of fixed) {
          expect(after.subarray(at, at + count)).toEqual(before.subarray(at, at + count));
        }
      }),
    );
  });
});
