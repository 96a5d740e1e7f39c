import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { IrqSetFlags, MigState, PciIrq } from "../../src/spec/vfio.ts";
import { createEventfd } from "../../src/sys/descriptors.ts";
import { Registers, TestModel } from "./test-model.ts";
import { Eventfd, Vmm } from "./vmm.ts";

const flag = IrqSetFlags.mask;
const trigger = flag.actionTrigger;
const { intx, msi, msix, err, req } = PciIrq;

const make = () => {
  const device = new TestModel();
  const vmm = new Vmm(device);
  const raise = (vector: number) => vmm.write(0, Registers.at.RAISE, vector);
  const line = (level: number) => vmm.write(0, Registers.at.LINE, level);
  return { device, vmm, raise, line };
};
const take = (eventfds: readonly Eventfd[]) => eventfds.map((each) => each.take());
const openFds = () => readdirSync("/proc/self/fd").length;

describe("interrupt indices", () => {
  it("are told as the kernel tells those of a PCI device", () => {
    const { device } = make();
    const { eventfd, maskable, automasked } = { eventfd: 1, maskable: 2, automasked: 4 };
    expect(device.irqs).toEqual([
      { count: 1, flags: eventfd | maskable | automasked },
      { count: 8, flags: eventfd },
      { count: 70, flags: eventfd },
      { count: 1, flags: eventfd },
      { count: 1, flags: eventfd },
    ]);
  });

  it.each([
    ["an index that is not there", 5, flag.dataNone | trigger, 0, 1],
    ["a vector too many", msix, flag.dataEventfd | trigger, 69, 2],
    ["an eventfd that masks", msix, flag.dataEventfd | flag.actionMask, 0, 1],
    ["an eventfd that unmasks a message", msi, flag.dataEventfd | flag.actionUnmask, 0, 1],
    ["an eventfd that masks the line", intx, flag.dataEventfd | flag.actionMask, 0, 1],
    ["no action", intx, flag.dataNone, 0, 1],
    ["no action on messages", msi, flag.dataNone, 0, 1],
  ])("refuse %s, and close what came with it", (_, index, flags, start, count) => {
    const { vmm } = make();
    const before = openFds();
    const fds =
      (flags & flag.dataEventfd) === 0 ? [] : Array.from({ length: count }, () => createEventfd());
    expect(vmm.irqs(index, flags, start, count, fds)).toBe(-errno.EINVAL);
    expect(openFds()).toBe(before);
  });
});

describe("message interrupts", () => {
  it.each([
    ["MSI-X", msix, 70],
    ["MSI", msi, 8],
  ])("of %s arrive on their own eventfd", (_, index, count) => {
    const { vmm, raise } = make();
    const eventfds = vmm.wire(index, 0, count);
    for (let vector = 0; vector < count; vector++) {
      raise(vector);
      raise(vector);
      expect(take(eventfds)).toEqual(eventfds.map((_, i) => (i === vector ? 2 : 0)));
    }
    raise(count);
    raise(0xffffffff);
    expect(take(eventfds).every((each) => each === 0)).toBe(true);
  });

  it("come from MSI-X when MSI is enabled too", () => {
    const { vmm, raise } = make();
    const [second] = vmm.wire(msi, 0, 1);
    const [first] = vmm.wire(msix, 0, 1);
    raise(0);
    expect([first?.take(), second?.take()]).toEqual([1, 0]);
    vmm.disable(msix);
    raise(0);
    expect([first?.take(), second?.take()]).toEqual([0, 1]);
  });

  it("wait for their eventfd when the function's capability is enabled", () => {
    const { vmm, raise } = make();
    vmm.writeConfig(vmm.capability(0x11) + 2, 0x8000, 2);
    raise(3);
    raise(40);
    const eventfds = vmm.wire(msix, 0, 70);
    expect(take(eventfds).flatMap((each, i) => (each === 0 ? [] : [i, each]))).toEqual([
      3, 1, 40, 1,
    ]);
  });

  it("are lost while nothing is enabled", () => {
    const { vmm, raise } = make();
    raise(0);
    const [eventfd] = vmm.wire(msix, 0, 1);
    expect(eventfd?.take()).toBe(0);
  });

  it("fire for TRIGGER with NONE and with BOOL, on the vectors that are wired", () => {
    const { vmm } = make();
    const eventfds = vmm.wire(msix, 4, 3);
    expect(vmm.irqs(msix, flag.dataNone | trigger, 3, 3)).toBe(0);
    expect(take(eventfds)).toEqual([1, 1, 0]);
    expect(vmm.irqs(msix, flag.dataBool | trigger, 4, 3, [], [0, 1, 255])).toBe(0);
    expect(take(eventfds)).toEqual([0, 1, 1]);
    const [late] = vmm.wire(msix, 3, 1);
    expect(late?.take(), "an unwired vector was not raised").toBe(0);
  });

  it("stay pending while they are masked, and fire once when they are not", () => {
    const { vmm, raise } = make();
    const eventfds = vmm.wire(msix, 0, 3);
    expect(vmm.irqs(msix, flag.dataNone | flag.actionMask, 0, 2)).toBe(0);
    raise(0);
    raise(0);
    raise(1);
    raise(2);
    expect(take(eventfds)).toEqual([0, 0, 1]);
    expect(vmm.irqs(msix, flag.dataBool | flag.actionUnmask, 0, 2, [], [0, 1])).toBe(0);
    expect(take(eventfds)).toEqual([0, 1, 0]);
    expect(vmm.irqs(msix, flag.dataNone | flag.actionUnmask, 0, 3)).toBe(0);
    expect(take(eventfds)).toEqual([1, 0, 0]);
  });

  it("obey the function's own masks", () => {
    const { vmm, raise } = make();
    const control = vmm.capability(0x11) + 2;
    const eventfds = vmm.wire(msix, 0, 2);
    vmm.writeConfig(control, 0xc000, 2);
    raise(1);
    expect(take(eventfds)).toEqual([0, 0]);
    vmm.writeConfig(control, 0x8000, 2);
    expect(take(eventfds)).toEqual([0, 1]);
  });

  it("obey the mask bits of MSI and show the pending ones", () => {
    const { vmm, raise } = make();
    const at = vmm.capability(0x05);
    const eventfds = vmm.wire(msi, 0, 8);
    vmm.writeConfig(at + 0x10, 0x82);
    for (const vector of [0, 1, 7]) raise(vector);
    expect(take(eventfds)).toEqual([1, 0, 0, 0, 0, 0, 0, 0]);
    expect(vmm.config(at + 0x14)).toBe(0x82);
    vmm.writeConfig(at + 0x10, 0x80);
    expect(take(eventfds)).toEqual([0, 1, 0, 0, 0, 0, 0, 0]);
    expect(vmm.config(at + 0x14)).toBe(0x80);
  });

  it("can be given another eventfd, and none; the old one is closed", () => {
    const { vmm, raise } = make();
    const before = openFds();
    const [old] = vmm.wire(msix, 5, 1);
    const [fresh] = vmm.wire(msix, 5, 1);
    expect(openFds() - before, "ours twice, the device's once").toBe(3);
    raise(5);
    expect([old?.take(), fresh?.take()]).toEqual([0, 1]);
    expect(vmm.irqs(msix, flag.dataEventfd | trigger, 5, 1)).toBe(0);
    expect(openFds() - before).toBe(2);
    raise(5);
    expect(fresh?.take()).toBe(0);
  });

  it("are switched off as an index: masks and pending ones are forgotten", () => {
    const { vmm, raise, device } = make();
    const before = openFds();
    vmm.wire(msix, 0, 10).map((each) => each.close());
    vmm.irqs(msix, flag.dataNone | flag.actionMask, 0, 10);
    raise(1);
    expect(vmm.disable(msix)).toBe(0);
    expect(openFds()).toBe(before);
    expect(device.interrupts.vectors).toBe(0);
    const eventfds = vmm.wire(msix, 0, 2);
    expect(take(eventfds)).toEqual([0, 0]);
    raise(1);
    expect(take(eventfds)).toEqual([0, 1]);
  });

  it("tell of errors and of a wish to have the device back", () => {
    const { vmm, device } = make();
    const [error] = vmm.wire(err, 0, 1);
    const [request] = vmm.wire(req, 0, 1);
    device.interrupts.notify(err);
    expect([error?.take(), request?.take()]).toEqual([1, 0]);
    device.interrupts.notify(req);
    expect([error?.take(), request?.take()]).toEqual([0, 1]);
    expect(vmm.irqs(req, flag.dataNone | trigger, 0, 1)).toBe(0);
    expect(request?.take()).toBe(1);
  });
});

describe("the INTx line", () => {
  const wired = () => {
    const all = make();
    const [eventfd] = all.vmm.wire(intx, 0, 1);
    const unmask = () => all.vmm.irqs(intx, flag.dataNone | flag.actionUnmask, 0, 1);
    return { ...all, eventfd: eventfd as Eventfd, unmask };
  };

  it("is signalled once, and again after an unmask while it is asserted", () => {
    const { line, eventfd, unmask, vmm } = wired();
    line(1);
    line(1);
    expect(eventfd.take()).toBe(1);
    expect(vmm.config(0x06, 2) & 0x8, "interrupt status").toBe(0x8);
    unmask();
    expect(eventfd.take()).toBe(1);
    line(0);
    expect(vmm.config(0x06, 2) & 0x8).toBe(0);
    unmask();
    expect(eventfd.take()).toBe(0);
    line(1);
    expect(eventfd.take()).toBe(1);
  });

  it("is unmasked by an eventfd that the device watches", () => {
    const { line, eventfd, vmm, device } = wired();
    const resample = new Eventfd();
    expect(device.watches).toEqual([]);
    vmm.irqs(intx, flag.dataEventfd | flag.actionUnmask, 0, 1, [resample.fd]);
    const [watch] = device.watches;
    expect(watch?.fd).toBe(resample.fd);
    line(1);
    expect(eventfd.take()).toBe(1);
    watch?.ready();
    expect(eventfd.take(), "it was not readable").toBe(0);
    expect(vmm.irqs(intx, flag.dataNone | trigger, 0, 1)).toBe(0);
    expect(eventfd.take(), "a trigger of the client's").toBe(1);
    const other = createEventfd(1);
    vmm.irqs(intx, flag.dataEventfd | flag.actionUnmask, 0, 1, [other]);
    expect(device.watches).toHaveLength(1);
    device.watches[0]?.ready();
    expect(eventfd.take()).toBe(1);
    vmm.irqs(intx, flag.dataEventfd | flag.actionUnmask, 0, 1, []);
    expect(device.watches).toEqual([]);
  });

  it("is masked and unmasked by NONE and by BOOL", () => {
    const { line, eventfd, vmm } = wired();
    expect(vmm.irqs(intx, flag.dataNone | flag.actionMask, 0, 1)).toBe(0);
    line(1);
    expect(eventfd.take()).toBe(0);
    vmm.irqs(intx, flag.dataBool | flag.actionUnmask, 0, 1, [], [0]);
    expect(eventfd.take()).toBe(0);
    vmm.irqs(intx, flag.dataBool | flag.actionUnmask, 0, 1, [], [1]);
    expect(eventfd.take()).toBe(1);
    vmm.irqs(intx, flag.dataBool | flag.actionMask, 0, 1, [], [1]);
    vmm.irqs(intx, flag.dataBool | trigger, 0, 1, [], [0]);
    expect(eventfd.take()).toBe(0);
  });

  it("tells a new eventfd that it is asserted already", () => {
    const { line, vmm } = make();
    line(1);
    const [eventfd] = vmm.wire(intx, 0, 1);
    expect(eventfd?.take()).toBe(1);
    vmm.disable(intx);
    const [next] = vmm.wire(intx, 0, 1);
    expect(next?.take(), "and is not masked for it").toBe(1);
  });

  it("is silent while Interrupt Disable is set", () => {
    const { line, eventfd, vmm } = wired();
    vmm.writeConfig(0x04, 0x0400, 2);
    line(1);
    expect(eventfd.take()).toBe(0);
    expect(vmm.config(0x06, 2) & 0x8, "the status bit says it all the same").toBe(0x8);
    vmm.writeConfig(0x04, 0x0000, 2);
    expect(eventfd.take()).toBe(1);
  });

  it("is held back, and is signalled when it is let be", () => {
    const { line, eventfd, device, unmask } = wired();
    expect(device.holdLine(true).up).toBe(false);
    line(1);
    expect(eventfd.take()).toBe(0);
    expect(device.holdLine(false).up).toBe(true);
    expect(eventfd.take()).toBe(1);
    expect(device.holdLine(true).up, "the client has not looked").toBe(true);
    unmask();
    expect(device.holdLine(true).up).toBe(false);
    expect(eventfd.take()).toBe(0);
    line(0);
    device.holdLine(false);
    expect(eventfd.take(), "it is not asserted any more").toBe(0);
  });

  it("is not up for a client that has no eventfd", () => {
    const { line, device, vmm } = wired();
    line(1);
    vmm.disable(intx);
    expect(device.holdLine(true).up).toBe(false);
  });

  it("names a word that is read without effect", () => {
    const { device } = make();
    expect(device.holdLine(true).quiet).toEqual({ bar: 0, offset: 0 });
  });

  it("is silent while messages are enabled", () => {
    const { line, eventfd, vmm } = wired();
    vmm.wire(msix, 0, 1);
    line(1);
    expect(eventfd.take()).toBe(0);
    vmm.disable(msix);
    expect(eventfd.take()).toBe(1);
  });
});

describe("interrupts of a device that is stopped", () => {
  it("are not sent, and are sent when it runs again", () => {
    const { vmm, raise, line } = make();
    const eventfds = vmm.wire(msix, 0, 2);
    raise(0);
    line(1);
    expect(take(eventfds)).toEqual([1, 0]);
    vmm.move(MigState.stop);
    vmm.irqs(msix, flag.dataNone | trigger, 1, 1);
    expect(take(eventfds)).toEqual([0, 0]);
    vmm.move(MigState.running);
    expect(take(eventfds)).toEqual([0, 1]);
  });

  it("are gone after a reset; the wiring stays", () => {
    const { vmm, raise, line, device } = make();
    const eventfds = vmm.wire(msix, 0, 2);
    vmm.irqs(msix, flag.dataNone | flag.actionMask, 0, 1);
    raise(0);
    line(1);
    device.reset();
    expect(device.interrupts.line).toBe(false);
    vmm.irqs(msix, flag.dataNone | flag.actionUnmask, 0, 1);
    expect(take(eventfds)).toEqual([0, 0]);
    raise(1);
    expect(take(eventfds)).toEqual([0, 1]);
  });

  it("are unwired when the client is gone", () => {
    const { vmm, raise, device } = make();
    const before = openFds();
    vmm.wire(msix, 0, 4).map((each) => each.close());
    vmm.wire(intx, 0, 1).map((each) => each.close());
    vmm.irqs(intx, flag.dataEventfd | flag.actionUnmask, 0, 1, [createEventfd()]);
    device.detach();
    expect(openFds()).toBe(before);
    expect(device.watches).toEqual([]);
    raise(0);
  });
});
