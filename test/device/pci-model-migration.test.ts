import { readdirSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { Wiring } from "../../src/device/vfio-device.ts";
import { Feature, MigState, PciIrq } from "../../src/spec/vfio.ts";
import { createEventfd, duplicate } from "../../src/sys/descriptors.ts";
import { badValue, Registers, TestModel } from "./test-model.ts";
import { Guest, Vmm } from "./vmm.ts";

const make = () => {
  const device = new TestModel();
  return { device, vmm: new Vmm(device) };
};
const mib = 1 << 20;
const openFds = () => readdirSync("/proc/self/fd").length;

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

  it("cannot be used to make it another function", () => {
    const source = make();
    const { vmm } = make();
    source.vmm.move(MigState.stopCopy);
    const stream = source.vmm.save(mib);
    const place = stream.indexOf(Buffer.from("22fe577e", "hex"), 64);
    expect(place).toBeGreaterThan(0);
    stream.fill(0xff, place, place + 64);
    vmm.move(MigState.resuming);
    vmm.load(stream, mib);
    expect(vmm.move(MigState.running)).toBe(0);
    expect([vmm.config(0x00), vmm.config(0x10), vmm.config(0x34, 1)]).toEqual([
      0x7e57fe22, 0xffe0000c, 0x40,
    ]);
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
          expect(vmm.config(0)).toBe(identity);
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
    const files = wiring.files.length;
    expect(files, "of the BARs that can be mapped").toBe(2);
    expect(openFds(), "nothing the client needs is closed").toBe(before + files);
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

  it("lends its wiring: another model has it too, and it keeps its own", () => {
    const { device, guest, eventfds, vmm } = wiredUp();
    const other = new TestModel();
    const before = openFds();
    const { mappings, irqs, ioEventfds, files } = device.wiring() as Wiring;
    expect(openFds(), "nothing is opened").toBe(before);
    const sent = (fd: number): number => (fd < 0 ? -1 : duplicate(fd));
    const there = new Vmm(other);
    const wired = other.wire({
      mappings: mappings.map((each) => ({ ...each, fd: sent(each.fd) })),
      irqs: irqs.map(({ trigger, unmask, ...rest }) => {
        return { ...rest, trigger: sent(trigger), unmask: sent(unmask) };
      }),
      ioEventfds: ioEventfds.map((each) => ({ ...each, fd: sent(each.fd) })),
      files: files.map((each) => ({ ...each, fd: sent(each.fd) })),
    });
    expect(wired).toBe(0);
    guest.write(0x11000, Uint8Array.of(1, 2, 3));
    const bytes = new Uint8Array(3);
    for (const { memory } of [device, other]) {
      expect([memory.read(0x11000, bytes, 0, 3), ...bytes]).toEqual([0, 1, 2, 3]);
    }
    for (const each of [vmm, there]) {
      for (const vector of [0, 1, 2]) each.write(0, Registers.at.RAISE, vector);
      expect(eventfds.map((eventfd) => eventfd.take())).toEqual([1, 0, 1]);
    }
    other.detach();
    expect(openFds(), "what was sent is closed with the other one").toBe(before);
    expect([device.memory.read(0x11000, bytes, 0, 3), ...bytes]).toEqual([0, 1, 2, 3]);
  });

  it("lends nothing while its writes are logged, and takes nothing that does not fit", () => {
    const { device, vmm } = wiredUp();
    const everything = Buffer.alloc(16);
    everything.writeUInt32LE(4096);
    expect(vmm.set(Feature.dmaLoggingStart, everything)).toBe(16);
    expect(device.wiring()).toBeNull();
    const other = new TestModel();
    const before = openFds();
    const fd = createEventfd();
    const wire = { index: PciIrq.msix, vector: 70, trigger: fd, unmask: -1, masked: false };
    const wiring = { mappings: [], irqs: [wire], ioEventfds: [], files: [] };
    expect(other.wire(wiring)).toBe(-errno.EINVAL);
    expect(openFds()).toBe(before);
  });

  it("stays stopped when it was", () => {
    const { device, vmm } = wiredUp();
    vmm.move(MigState.stop);
    const successor = new TestModel();
    expect(successor.takeUp(device.park() as Wiring, device.state.slice())).toBe(0);
    expect(new Vmm(successor).state).toBe(MigState.stop);
  });

  it("cannot be parked while its writes are logged", () => {
    const { device, vmm } = wiredUp();
    const everything = Buffer.alloc(16);
    everything.writeUInt32LE(4096);
    expect(vmm.set(Feature.dmaLoggingStart, everything)).toBe(16);
    expect(device.park()).toBeNull();
    expect(device.memory.mapCount).toBe(3);
    device.detach();
    expect(device.memory.logging, "a log ends with its client").toBe(false);
    expect(device.park()).toMatchObject({ mappings: [], irqs: [] });
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
      ...wiring.files.map(({ fd }) => fd),
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
