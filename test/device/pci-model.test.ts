import { randomBytes } from "node:crypto";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Feature, FeatureFlags, MigState, PciIrq, PciRegion } from "../../src/spec/vfio.ts";
import { Window } from "../../src/sys/window.ts";
import { Registers, romBytes, TestModel } from "./test-model.ts";
import { Guest, Vmm } from "./vmm.ts";

const make = () => {
  const device = new TestModel();
  return { device, vmm: new Vmm(device) };
};
const mib = 1 << 20;
const { get, set, probe } = FeatureFlags.mask;

const words = (...values: number[]) => {
  const bytes = Buffer.alloc(8 * values.length);
  for (const [i, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * i);
  return bytes;
};

describe("the regions of a model", () => {
  it("are what its table says", () => {
    const { device } = make();
    expect(device.regions.map(({ size }) => size)).toEqual([
      2 * mib,
      0,
      4096,
      65536,
      8192,
      256,
      4096,
      4096,
      0,
    ]);
    expect(device.regions[PciRegion.rom]).toMatchObject({ readable: true, writable: false });
    const [fd3, fd4] = [device.regions[3]?.mmap?.fd, device.regions[4]?.mmap?.fd];
    expect(device.regions.map(({ mmap }) => mmap)).toEqual([
      null,
      null,
      null,
      { fd: fd3, offset: 0, areas: [{ offset: 4096, size: 8192 }] },
      { fd: fd4, offset: 0, areas: null },
      null,
      null,
      null,
      null,
    ]);
  });

  it("copy exactly, any count up to 1 MiB at any place", () => {
    const { device } = make();
    const model = Buffer.alloc(2 * mib);
    const access = fc.record({
      write: fc.boolean(),
      at: fc.integer({ min: 64, max: 2 * mib - 1 }),
      count: fc.oneof(fc.integer({ min: 1, max: 64 }), fc.integer({ min: 1, max: mib })),
    });
    fc.assert(
      fc.property(fc.array(access, { maxLength: 8 }), (list) => {
        for (const { write, at, count: wanted } of list) {
          const count = Math.min(wanted, 2 * mib - at);
          const bytes = write ? randomBytes(count + 6) : Buffer.alloc(count + 6, 0xee);
          if (write) {
            expect(device.write(0, at, bytes, 3, count)).toBe(0);
            bytes.copy(model, at, 3, 3 + count);
          } else {
            expect(device.read(0, at, bytes, 3, count)).toBe(0);
            expect(bytes.subarray(3, 3 + count).equals(model.subarray(at, at + count))).toBe(true);
            expect([...bytes.subarray(0, 3), ...bytes.subarray(-3)]).toEqual(Array(6).fill(0xee));
          }
        }
      }),
      { numRuns: 50 },
    );
  });

  it("have registers in front and memory behind, also for one access over both", () => {
    const { vmm, device } = make();
    const source = Buffer.alloc(mib, 0x5a);
    expect(device.write(0, 0, source, 0, mib)).toBe(0);
    expect(vmm.read(0, 0)).toBe(0x5a5a5a5a);
    const back = vmm.bytes(0, 0x20, mib);
    expect(
      back.subarray(0, 0x20).every((byte) => byte === 0),
      "no registers there",
    ).toBe(true);
    expect(back.subarray(0x20, mib - 0x20).every((byte) => byte === 0x5a)).toBe(true);
  });

  it("answer EINVAL for what lies outside of them", () => {
    const { device } = make();
    const bytes = new Uint8Array(16);
    for (const [region, offset, count] of [
      [0, 2 * mib - 3, 4],
      [1, 0, 1],
      [8, 0, 1],
      [9, 0, 1],
      [100, 0, 1],
      [7, 4095, 2],
      [6, 4096, 1],
      [5, 2 ** 53, 1],
    ] as const) {
      expect(device.read(region, offset, bytes, 0, count)).toBe(-errno.EINVAL);
      expect(device.write(region, offset, bytes, 0, count)).toBe(-errno.EINVAL);
    }
  });

  it("show the ROM, which cannot be written", () => {
    const { vmm, device } = make();
    expect(vmm.bytes(6, 0, 3000)).toEqual(Buffer.from(romBytes));
    expect(vmm.bytes(6, 3000, 1096)).toEqual(Buffer.alloc(1096));
    expect(device.write(6, 0, new Uint8Array(4), 0, 4)).toBe(-errno.EINVAL);
    vmm.writeConfig(0x30, 0xffffffff);
    expect(vmm.config(0x30)).toBe(0xfffff001);
  });

  it("that are offered for mapping are one memory with what messages reach", () => {
    const { vmm, device } = make();
    const window = Window.reserve(65536);
    expect(window?.lay(device.regions[3]?.mmap?.fd ?? -1, 0, 65536, true)).toBe(0);
    const mapped = window?.bytes ?? new Uint8Array(0);
    vmm.write(3, 4100, 0xcafe);
    expect([mapped[4100], mapped[4101]]).toEqual([0xfe, 0xca]);
    mapped[5000] = 0x77;
    expect(vmm.read(3, 5000, 1)).toBe(0x77);
    device.reset();
    expect(mapped[5000]).toBe(0);
  });

  it("describe themselves", () => {
    const { device } = make();
    expect(device.describe(0).map(({ name, value }) => [name, value])).toContainEqual([
      "VALUE",
      "0x00000007",
    ]);
    expect(device.describe(PciRegion.config)[0]).toMatchObject({
      name: "VENDOR_ID",
      value: "0xfe22",
    });
    expect(device.describe(2)).toEqual([]);
  });
});

describe("a reset of a model", () => {
  const dirty = ({ vmm }: ReturnType<typeof make>) => {
    vmm.write(0, Registers.at.VALUE, 99);
    vmm.write(0, 0x1000, 1);
    vmm.write(2, 0, 1);
    vmm.writeConfig(0x10, 0xfe000000);
    vmm.writeConfig(0x04, 0x0407, 2);
  };
  const facts = ({ vmm }: ReturnType<typeof make>) => [
    vmm.read(0, Registers.at.VALUE),
    vmm.read(0, 0x1000),
    vmm.read(2, 0),
    vmm.config(0x10),
    vmm.config(0x04, 2),
  ];

  it.each([
    ["DEVICE_RESET", ({ device }: ReturnType<typeof make>) => device.reset()],
    [
      "a function level reset",
      ({ vmm }: ReturnType<typeof make>) => vmm.writeConfig(vmm.capability(0x10) + 8, 0x8000, 2),
    ],
  ])("by %s is power-on, but for wiring and mappings", (_, reset) => {
    const all = make();
    const { vmm, device } = all;
    const fresh = facts(all);
    const [eventfd] = vmm.wire(PciIrq.msix, 0, 1);
    const guest = new Guest(0x10000, 4096);
    vmm.map(guest);
    dirty(all);
    expect(facts(all)).not.toEqual(fresh);
    expect(reset(all)).toBe(0);
    expect(facts(all)).toEqual(fresh);
    expect([device.resets, device.aborts]).toEqual([1, 1]);
    vmm.write(0, Registers.at.RAISE, 0);
    expect(eventfd?.take()).toBe(1);
    expect(device.memory.mapCount).toBe(1);
  });

  it.each([MigState.stop, MigState.stopCopy, MigState.resuming, MigState.preCopy])(
    "makes it run from migration state %i",
    (state) => {
      const { vmm, device } = make();
      vmm.move(state);
      device.reset();
      expect(vmm.state).toBe(MigState.running);
      vmm.write(0, Registers.at.VALUE, 3);
      expect(vmm.read(0, Registers.at.VALUE)).toBe(3);
    },
  );
});

describe("work", () => {
  it("is done in slices while the device runs, and not while it is stopped", () => {
    const { vmm, device } = make();
    vmm.write(0, Registers.at.WORK, 3);
    expect(device.busy).toBe(true);
    device.work();
    vmm.move(MigState.stop);
    expect([device.busy, device.aborts]).toEqual([false, 1]);
    device.work();
    expect(vmm.read(0, Registers.at.WORK)).toBe(2);
    vmm.write(0, Registers.at.WORK, 100);
    expect(vmm.read(0, Registers.at.WORK), "a stopped device's BARs do not change").toBe(2);
    vmm.move(MigState.running);
    vmm.run();
    expect(device.slices).toBe(3);
  });
});

describe("DEVICE_FEATURE of a model", () => {
  it.each<[number, number, number]>([
    [Feature.migration, get, 8],
    [Feature.migDeviceState, get | set, 8],
    [Feature.migDataSize, get, 8],
    [Feature.dmaLoggingStart, set, 0],
    [Feature.dmaLoggingStop, set, 0],
    [Feature.dmaLoggingReport, get, 24],
  ])("%i can be probed for what it can do", (feature, can) => {
    const { device } = make();
    const bytes = Buffer.alloc(64, 0xee);
    for (const ops of [0, get, set, get | set]) {
      const expected = (ops & ~can) === 0 ? 5 : -errno.EINVAL;
      expect(device.feature(probe | ops | feature, bytes, 8, 5, 5)).toBe(expected);
    }
    expect(bytes).toEqual(Buffer.alloc(64, 0xee));
    const other = can === get ? set : get;
    if (can !== (get | set))
      expect(device.feature(other | feature, bytes, 8, 32, 32)).toBe(-errno.EINVAL);
  });

  it("of another number is ENOTTY", () => {
    const { device } = make();
    for (const feature of [0, 3, 4, 5, 10, 11, 12, 0xffff]) {
      expect(device.feature(get | feature, Buffer.alloc(64), 0, 32, 32)).toBe(-errno.ENOTTY);
      expect(device.feature(probe | feature, Buffer.alloc(64), 0, 0, 0)).toBe(-errno.ENOTTY);
    }
  });

  it("needs room for the answer and the whole of the question", () => {
    const { vmm } = make();
    expect(vmm.get(Feature.migration)).toEqual(words(5));
    expect(vmm.get(Feature.migration, undefined, 7)).toBe(-errno.EINVAL);
    expect(vmm.get(Feature.migDeviceState, undefined, 4)).toBe(-errno.EINVAL);
    expect(vmm.get(Feature.migDataSize, undefined, 0)).toBe(-errno.EINVAL);
    expect(vmm.set(Feature.migDeviceState, Buffer.alloc(7))).toBe(-errno.EINVAL);
    expect(vmm.set(Feature.dmaLoggingStart, Buffer.alloc(15))).toBe(-errno.EINVAL);
    expect(vmm.get(Feature.dmaLoggingReport, Buffer.alloc(23))).toBe(-errno.EINVAL);
  });

  it("tells the state and the size of what STOP_COPY would stream", () => {
    const { vmm, device } = make();
    expect(vmm.get(Feature.migDeviceState)).toEqual(words(MigState.running));
    expect(vmm.get(Feature.migDataSize)).toEqual(words(device.state.length));
    vmm.move(MigState.stopCopy);
    expect(vmm.get(Feature.migDeviceState)).toEqual(words(MigState.stopCopy));
    vmm.save();
    expect(vmm.get(Feature.migDataSize)).toEqual(words(0));
  });

  it("logs what the device writes", () => {
    const { vmm, device } = make();
    vmm.map(new Guest(0x100000, mib));
    const report = (capacity = 4096, pageSize = 4096) =>
      vmm.get(Feature.dmaLoggingReport, words(0x100000, mib, pageSize), capacity);
    expect(report()).toBe(-errno.EINVAL);
    expect(vmm.set(Feature.dmaLoggingStart, words(4096, 1, 0x100000, mib))).toBe(32);
    expect(device.memory.logging).toBe(true);
    device.memory.write(0x103000, new Uint8Array(5000), 0, 5000);
    const bits = Buffer.alloc(32);
    bits[0] = 0b11000;
    expect(report(24 + 32)).toEqual(Buffer.concat([words(0x100000, mib, 4096), bits]));
    expect(report()).toEqual(Buffer.concat([words(0x100000, mib, 4096), Buffer.alloc(32)]));
    expect(report(24 + 31)).toBe(-errno.EINVAL);
    expect([report(4096, 0), report(4096, 1), report(4096, 3000)]).toEqual(
      Array(3).fill(-errno.EINVAL),
    );
    expect(vmm.set(Feature.dmaLoggingStop, Buffer.alloc(0))).toBe(0);
    expect(report()).toBe(-errno.EINVAL);
  });

  it("takes no more ranges to log than there is a limit for, or than were sent", () => {
    const { vmm } = make();
    const ask = (ranges: number, sent: number) =>
      vmm.set(
        Feature.dmaLoggingStart,
        Buffer.concat([words(4096, ranges), Buffer.alloc(16 * sent)]),
      );
    expect(ask(2, 1)).toBe(-errno.EINVAL);
    expect(ask(0xffffffff, 1)).toBe(-errno.E2BIG);
    expect(ask(257, 257)).toBe(-errno.E2BIG);
  });
});
