import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { Wiring } from "../../src/device/vfio-device.ts";
import { Feature, FeatureFlags, MigState, PciIrq, PciRegion } from "../../src/spec/vfio.ts";
import { createEventfd, duplicate } from "../../src/sys/descriptors.ts";
import { Window } from "../../src/sys/window.ts";
import { badValue, Registers, romBytes, TestModel } from "./test-model.ts";
import { Guest, Vmm } from "./vmm.ts";

const make = () => {
  const device = new TestModel();
  return { device, vmm: new Vmm(device) };
};
const mib = 1 << 20;
const openFds = () => readdirSync("/proc/self/fd").length;
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

describe("the migration of a model", () => {
  const changed = () => {
    const all = make();
    all.vmm.write(0, Registers.at.VALUE, 1234);
    all.vmm.write(0, 0x100000, 0xabcd);
    all.vmm.write(4, 8188, 0x77777777);
    all.vmm.writeConfig(0x04, 0x0006, 2);
    all.device.own.fill(9);
    return all;
  };
  const facts = ({ vmm, device }: ReturnType<typeof make>) => [
    vmm.read(0, Registers.at.VALUE),
    vmm.read(0, 0x100000),
    vmm.read(4, 8188),
    vmm.config(0x04, 2),
    device.own[99],
  ];

  it.each([
    ["in one go", false, mib],
    ["with a pre-copy", true, mib],
    ["in small odd pieces", true, 4093],
  ])("%s brings all of its state along", (_, precopies, chunk) => {
    const source = changed();
    const parts: Buffer[] = [];
    if (precopies) {
      expect(source.vmm.move(MigState.preCopy)).toBe(0);
      source.vmm.write(0, Registers.at.VALUE, 1);
      parts.push(source.vmm.save(chunk));
      source.vmm.write(0, Registers.at.VALUE, 1234);
    }
    expect(source.vmm.move(MigState.stopCopy)).toBe(0);
    parts.push(source.vmm.save(chunk));
    const target = make();
    expect(target.vmm.move(MigState.resuming)).toBe(0);
    expect(target.vmm.load(Buffer.concat(parts), chunk)).toBe(0);
    expect(target.vmm.move(MigState.running)).toBe(0);
    expect(facts(target)).toEqual(facts(source));
    expect(facts(target)).toEqual([1234, 0xabcd, 0x77777777, 6, 9]);
    target.device.reset();
    expect(facts(target)).toEqual(facts(make()));
  });

  it("brings pending interrupts along, and sends them when the device runs", () => {
    const source = make();
    source.vmm.wire(PciIrq.msix, 0, 70);
    source.vmm.irqs(PciIrq.msix, 1 | 8, 0, 70);
    source.vmm.write(0, Registers.at.RAISE, 69);
    source.vmm.write(0, Registers.at.LINE, 1);
    source.vmm.move(MigState.stopCopy);
    const target = make();
    target.vmm.move(MigState.resuming);
    target.vmm.load(source.vmm.save(mib), mib);
    expect(target.vmm.move(MigState.stop)).toBe(0);
    const eventfds = target.vmm.wire(PciIrq.msix, 0, 70);
    expect(eventfds[69]?.take()).toBe(0);
    target.vmm.move(MigState.running);
    expect(eventfds.map((each) => each.take())).toEqual([...Array(69).fill(0), 1]);
    target.vmm.disable(PciIrq.msix);
    expect(target.vmm.wire(PciIrq.intx, 0, 1)[0]?.take(), "the line is asserted").toBe(1);
  });

  it("refuses another version's state and stays what it was", () => {
    const source = { device: new TestModel(2), vmm: new Vmm(new TestModel(2)) };
    source.vmm.move(MigState.stopCopy);
    const stream = source.vmm.save(mib);
    const target = changed();
    const before = facts(target);
    target.vmm.move(MigState.resuming);
    expect(target.vmm.load(stream, mib)).toBe(0);
    expect(target.vmm.move(MigState.running)).toBe(-errno.EINVAL);
    expect(target.vmm.state).toBe(MigState.resuming);
    expect(target.vmm.move(MigState.running), "without a stream it goes on as it was").toBe(0);
    expect(facts(target)).toEqual(before);
  });

  it("is in ERROR after a state that makes no sense, clean behind a reset", () => {
    const source = make();
    source.vmm.write(0, Registers.at.VALUE, badValue);
    source.vmm.move(MigState.stopCopy);
    const target = changed();
    target.vmm.move(MigState.resuming);
    target.vmm.load(source.vmm.save(mib), mib);
    expect(target.vmm.move(MigState.stop)).toBe(-errno.EINVAL);
    expect(target.vmm.state).toBe(MigState.error);
    target.vmm.write(0, Registers.at.VALUE, 1);
    expect(facts(target)).toEqual(facts(make()));
    expect(target.device.reset()).toBe(0);
    expect(target.vmm.state).toBe(MigState.running);
  });

  it("believes nothing of a stream: any bytes are refused, or taken up without harm", () => {
    const source = make();
    source.vmm.move(MigState.stopCopy);
    const good = source.vmm.save(mib);
    fc.assert(
      fc.property(
        fc.array(fc.tuple(fc.nat(0x2fff), fc.uint8Array({ minLength: 1, maxLength: 8 })), {
          maxLength: 20,
        }),
        (changes) => {
          const stream = Buffer.from(good);
          for (const [at, bytes] of changes) stream.set(bytes, at);
          const { vmm, device } = make();
          const identity = vmm.config(0);
          vmm.move(MigState.resuming);
          vmm.load(stream, mib);
          vmm.move(MigState.running);
          device.reset();
          expect([vmm.state, vmm.config(0), vmm.read(0, Registers.at.VALUE)]).toEqual([
            MigState.running,
            identity,
            7,
          ]);
        },
      ),
      { numRuns: 40 },
    );
  });
});

describe("a parked model", () => {
  const wiredUp = () => {
    const all = make();
    const guest = new Guest(0x10000, 65536);
    all.vmm.map(guest);
    all.device.mapDma({
      iova: 0x40000,
      size: 4096,
      readable: true,
      writable: false,
      fd: duplicate(guest.fd),
      offset: 4096,
      mayMap: false,
    });
    all.vmm.mapForMessages(0x80000, 4096);
    const eventfds = all.vmm.wire(PciIrq.msix, 0, 3);
    const [line] = all.vmm.wire(PciIrq.intx, 0, 1);
    all.vmm.irqs(PciIrq.msix, 1 | 8, 1, 1);
    all.vmm.write(0, Registers.at.VALUE, 55);
    return { ...all, guest, eventfds, line };
  };

  it("goes on in a successor with its state, mappings, eventfds and masks", () => {
    const { device, guest, eventfds, vmm } = wiredUp();
    const successor = new TestModel();
    const before = openFds();
    const wiring = device.park() as Wiring;
    expect(device.aborts).toBe(1);
    expect(openFds(), "nothing the client needs is closed").toBe(before);
    expect(wiring.irqs).toHaveLength(4);
    expect(device.memory.mapCount).toBe(0);
    expect(successor.takeUp(wiring, device.state.slice())).toBe(0);
    const next = new Vmm(successor);
    expect(next.read(0, Registers.at.VALUE)).toBe(55);
    guest.write(0x11000, Uint8Array.of(1, 2, 3));
    const bytes = new Uint8Array(3);
    expect([successor.memory.read(0x11000, bytes, 0, 3), ...bytes]).toEqual([0, 1, 2, 3]);
    expect([successor.memory.read(0x40000, bytes, 0, 3), ...bytes]).toEqual([0, 1, 2, 3]);
    expect(successor.memory.write(0x40000, bytes, 0, 3)).toBe(-errno.EACCES);
    expect(successor.memory.read(0x80000, bytes, 0, 3)).toBe(-errno.EINPROGRESS);
    for (const vector of [0, 1, 2]) next.write(0, Registers.at.RAISE, vector);
    expect(eventfds.map((each) => each.take())).toEqual([1, 0, 1]);
    next.irqs(PciIrq.msix, 1 | 16, 1, 1);
    expect(eventfds[1]?.take()).toBe(1);
    vmm.write(0, Registers.at.RAISE, 0);
    expect(eventfds[0]?.take(), "the old one is not wired any more").toBe(0);
    successor.detach();
    expect(openFds(), "and the successor owns what it was given").toBe(before - 5);
  });

  it("stays stopped when it was", () => {
    const { device, vmm } = wiredUp();
    vmm.move(MigState.stop);
    const successor = new TestModel();
    expect(successor.takeUp(device.park() as Wiring, device.state.slice())).toBe(0);
    expect(new Vmm(successor).state).toBe(MigState.stop);
  });

  it("cannot be parked in the middle of a migration", () => {
    for (const state of [MigState.preCopy, MigState.stopCopy, MigState.resuming]) {
      const { device, vmm } = wiredUp();
      vmm.move(state);
      expect(device.park()).toBeNull();
      expect(device.memory.mapCount).toBe(3);
    }
  });

  it("is not taken up by another device, which closes what it was given", () => {
    const { device } = wiredUp();
    const wiring = device.park() as Wiring;
    const given = new Set([
      ...wiring.mappings.map(({ fd }) => fd),
      ...wiring.irqs.map(({ trigger }) => trigger),
    ]);
    given.delete(-1);
    const other = new TestModel(2);
    const before = openFds();
    expect(other.takeUp(wiring, device.state.slice())).toBe(-errno.EINVAL);
    expect(openFds()).toBe(before - given.size);
    expect(other.memory.mapCount).toBe(0);
  });

  it("is not taken up with wiring that does not fit", () => {
    const { device } = wiredUp();
    const wiring = device.park() as Wiring;
    const fd = createEventfd();
    const wire = { index: PciIrq.msix, vector: 70, trigger: fd, unmask: -1, masked: false };
    const successor = new TestModel();
    const strange = { ...wiring, irqs: [...wiring.irqs, wire] };
    expect(successor.takeUp(strange, device.state.slice())).toBe(-errno.EINVAL);
    const next = new Vmm(successor);
    expect([next.read(0, Registers.at.VALUE), successor.memory.mapCount]).toEqual([7, 0]);
    expect(successor.takeUp({ ...wiring, mappings: [], irqs: [] }, new Uint8Array(10))).toBe(
      -errno.EINVAL,
    );
  });
});
