import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { create } from "../../src/devices/hello/index.ts";
import { MigState, PciIrq, PciRegion } from "../../src/spec/vfio.ts";
import { type Eventfd, Guest, Messenger, Vmm } from "../device/vmm.ts";

/** The registers as a driver knows them, from the device's data sheet. */
const at = {
  magic: 0x00,
  counter: 0x04,
  doorbell: 0x08,
  cause: 0x0c,
  source: 0x10,
  target: 0x18,
  length: 0x20,
  status: 0x24,
  start: 0x28,
  scratch: 0x2c,
};
const busy = 1;
const failed = (number: number) => (0x80000000 | number) >>> 0;
const base = 0x1_0000_0000;

const make = () => {
  const vmm = new Vmm(create());
  const read = (register: keyof typeof at, count = 4) => vmm.read(0, at[register], count);
  const write = (register: keyof typeof at, value: number, count = 4) =>
    vmm.write(0, at[register], value, count);
  const echo = (source: number, target: number, length: number) => {
    write("source", source, 8);
    write("target", target, 8);
    write("length", length);
    write("start", 1);
  };
  return { vmm, device: vmm.device, read, write, echo };
};
const withGuest = () => {
  const all = make();
  const guest = new Guest(base, 1 << 20);
  expect(all.vmm.map(guest)).toBe(0);
  return { ...all, guest };
};
const pattern = (length: number, seed = 1) =>
  Buffer.from(Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff));
const take = (eventfds: readonly Eventfd[]) => eventfds.map((each) => each.take());

describe("hello", () => {
  it("is what its data sheet says", () => {
    const { vmm, device, read, write } = make();
    expect(vmm.config(0x00)).toBe(0x0001fe22);
    expect(vmm.config(0x08)).toBe(0xff000001);
    expect(vmm.config(0x2c)).toBe(0x0001fe22);
    expect(vmm.config(0x3d, 1)).toBe(1);
    expect(device.regions.map(({ size }) => size)).toEqual([
      4096, 0, 65536, 0, 4096, 0, 0, 4096, 0,
    ]);
    expect(device.irqs.map(({ count }) => count)).toEqual([1, 2, 2, 1, 1]);
    expect([0x01, 0x10, 0x05, 0x11].map((id) => vmm.capability(id) > 0)).toEqual(
      Array(4).fill(true),
    );
    const msix = vmm.capability(0x11);
    expect([vmm.config(msix + 4), vmm.config(msix + 8)]).toEqual([4, 0x804]);
    expect(read("magic")).toBe(0x6f6c6568);
    write("magic", 0);
    expect(read("magic")).toBe(0x6f6c6568);
    write("scratch", 0xcafef00d);
    expect([read("scratch"), read("doorbell"), read("start")]).toEqual([0xcafef00d, 0, 0]);
  });

  it("counts the doorbell and interrupts by the line until it is acknowledged", () => {
    const { vmm, read, write } = make();
    const [line] = vmm.wire(PciIrq.intx, 0, 1);
    write("doorbell", 1);
    write("doorbell", 0);
    expect([read("counter"), read("cause"), line?.take()]).toEqual([2, 1, 1]);
    vmm.irqs(PciIrq.intx, 1 | 16, 0, 1);
    expect(line?.take(), "not acknowledged").toBe(1);
    write("cause", 1);
    vmm.irqs(PciIrq.intx, 1 | 16, 0, 1);
    expect([read("cause"), line?.take()]).toEqual([0, 0]);
  });

  it.each([
    ["MSI-X", PciIrq.msix],
    ["MSI", PciIrq.msi],
  ])("interrupts by %s, one vector a cause or one for both", (_, index) => {
    const { vmm, write, echo, guest } = withGuest();
    const two = vmm.wire(index, 0, 2);
    write("doorbell", 1);
    expect(take(two)).toEqual([1, 0]);
    echo(guest.iova, guest.iova + 4096, 16);
    vmm.run();
    expect(take(two)).toEqual([0, 1]);
    vmm.disable(index);
    const [one] = vmm.wire(index, 0, 1);
    echo(guest.iova, guest.iova + 4096, 16);
    vmm.run();
    expect(one?.take()).toBe(1);
  });

  it.each([0, 1, 4096, 4099, 65536])("echoes %i bytes from odd places", (length) => {
    const { vmm, guest, echo, read } = withGuest();
    const data = pattern(length);
    guest.write(base + 4093, data);
    echo(base + 4093, base + 0x40001, length);
    expect([read("status"), read("cause")]).toEqual([busy, 0]);
    vmm.run();
    expect([read("status"), read("cause")]).toEqual([0, 2]);
    expect(guest.read(base + 0x40001, length).equals(data)).toBe(true);
    expect(guest.read(base + 0x40001 + length, 64)).toEqual(Buffer.alloc(64));
  });

  it("reads all of the source before it writes over it", () => {
    const { vmm, guest, echo } = withGuest();
    const data = pattern(60000);
    guest.write(base, data);
    echo(base, base + 100, 60000);
    vmm.run();
    expect(guest.read(base + 100, 60000).equals(data)).toBe(true);
  });

  it("says why an echo failed, and goes on", () => {
    const { vmm, guest, echo, read } = withGuest();
    const fails = (source: number, target: number, length: number) => {
      echo(source, target, length);
      vmm.run();
      return read("status");
    };
    expect(fails(base, base, 65537)).toBe(failed(errno.EINVAL));
    expect(fails(base - 1, base, 16)).toBe(failed(errno.EFAULT));
    expect(fails(base, base + (1 << 20) - 8, 16)).toBe(failed(errno.EFAULT));
    expect(fails(Number.MAX_SAFE_INTEGER, base, 16)).toBe(failed(errno.EFAULT));
    expect(fails(2 ** 64 - 4096, base, 4096)).toBe(failed(errno.EFAULT));
    expect(vmm.mapForMessages(0x1000, 4096)).toBe(0);
    expect(fails(0x1000, base, 16), "nobody carries messages").toBe(failed(errno.ENOTCONN));
    expect(fails(base, base + 4096, 16)).toBe(0);
    expect(guest.read(base + 4096, 16)).toEqual(Buffer.alloc(16));
  });

  it("ignores a second start, and bears registers that change under an echo", () => {
    const { vmm, write, read, guest } = withGuest();
    const { messenger } = messages(vmm);
    write("source", 0x1000, 8);
    write("target", base, 8);
    write("length", 16);
    write("start", 1);
    vmm.run();
    write("start", 1);
    write("length", 0xffffffff);
    write("target", base + 32, 8);
    expect(messenger.waiting).toHaveLength(1);
    messenger.answer();
    vmm.run();
    expect(read("status")).toBe(0);
    expect(guest.read(base + 32, 4)).toEqual(Buffer.alloc(4));
  });
});

/** Lets a VMM carry DMA to 64 KiB at 0x1000, and lets the messages be seen. */
function messages(vmm: Vmm) {
  const messenger = new Messenger(0x20000);
  vmm.device.attach(messenger);
  expect(vmm.mapForMessages(0x1000, 0x10000)).toBe(0);
  return { messenger };
}

describe("hello's echo by messages", () => {
  it("waits for the VMM without being busy", () => {
    const { vmm, device, echo, read } = make();
    const { messenger } = messages(vmm);
    const data = pattern(5000);
    messenger.memory.set(data, 0x1000);
    echo(0x1000, 0x4000, 5000);
    vmm.run();
    expect([device.busy, messenger.waiting.length, read("status")]).toEqual([false, 1, busy]);
    messenger.answer();
    expect(device.busy).toBe(true);
    vmm.run();
    expect([device.busy, messenger.waiting.length, read("status")]).toEqual([false, 1, busy]);
    messenger.answer();
    vmm.run();
    expect([read("status"), read("cause")]).toEqual([0, 2]);
    expect(messenger.memory.subarray(0x4000, 0x4000 + 5000).equals(data)).toBe(true);
  });

  it("is not started again while it writes", () => {
    const { vmm, echo, read, write } = make();
    const { messenger } = messages(vmm);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    messenger.answer();
    vmm.run();
    write("start", 1);
    messenger.answer();
    vmm.run();
    expect([read("status"), messenger.waiting.length]).toEqual([0, 0]);
  });

  it("does not wait for a client that has gone", () => {
    const { vmm, device, echo, read } = make();
    messages(vmm);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    device.attach(null);
    device.detach();
    vmm.run();
    expect(read("status")).toBe(failed(errno.EFAULT));
  });

  it("ends with the VMM's error", () => {
    const { vmm, echo, read } = make();
    const { messenger } = messages(vmm);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    messenger.answer(-errno.EIO);
    vmm.run();
    expect(read("status")).toBe(failed(errno.EIO));
  });

  it("ends when its memory is unmapped", () => {
    const { vmm, device, echo, read } = make();
    const { messenger } = messages(vmm);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    expect(device.unmapDma(0x1000, 0x10000)).toBe(0);
    expect(messenger.waiting).toEqual([]);
    vmm.run();
    expect(read("status")).toBe(failed(errno.ECANCELED));
  });

  it("leaves nothing of what it has read behind a reset", () => {
    const { vmm, device, guest, echo } = withGuest();
    const pristine = Buffer.from(device.state as Uint8Array);
    guest.write(base + 0x1000, pattern(5000));
    echo(base + 0x1000, base + 0x8000, 5000);
    vmm.run();
    expect(device.reset()).toBe(0);
    expect(pristine.equals(device.state as Uint8Array)).toBe(true);
  });

  it.each([
    ["DEVICE_RESET", (vmm: Vmm) => vmm.device.reset()],
    ["FLR", (vmm: Vmm) => vmm.writeConfig(vmm.capability(0x10) + 8, 0x8000, 2)],
  ])("is forgotten by %s, and the next one is another", (_, reset) => {
    const { vmm, device, echo, read } = make();
    const { messenger } = messages(vmm);
    messenger.memory.fill(0x11, 0x1000, 0x2000);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    reset(vmm);
    expect([device.busy, read("status"), read("length"), messenger.waiting.length]).toEqual([
      false,
      0,
      0,
      0,
    ]);
    echo(0x1002, 0x5000, 20);
    vmm.run();
    expect(messenger.answer()).toMatchObject({ iova: 0x1002, length: 20 });
    vmm.run();
    expect(messenger.answer()).toMatchObject({ iova: 0x5000, length: 20 });
    vmm.run();
    expect([read("status"), messenger.memory[0x5000], messenger.memory[0x4000]]).toEqual([
      0, 0x11, 0,
    ]);
  });
});

describe("hello's migration", () => {
  /** A target that has taken up what the source streams. */
  const moved = (source: Vmm) => {
    expect(source.move(MigState.stopCopy)).toBe(0);
    const target = make();
    target.vmm.move(MigState.resuming);
    expect(target.vmm.load(source.save(1 << 20), 1 << 20)).toBe(0);
    return target;
  };

  it.each([
    ["it has read nothing", 0],
    ["it is reading", 1],
    ["it has read and not written", 2],
    ["it is writing", 3],
  ])("finishes an echo on the other side when %s", (_, progress) => {
    const source = make();
    const { messenger } = messages(source.vmm);
    const data = pattern(3000, 7);
    messenger.memory.set(data, 0x1000);
    source.echo(0x1000, 0x1800, 3000);
    if (progress > 0) source.vmm.run();
    if (progress > 1) messenger.answer();
    if (progress > 2) source.vmm.run();
    if (progress > 2) messenger.memory.fill(0xff, 0x1800, 0x1a00);
    const target = moved(source.vmm);
    expect(messenger.waiting, "the source asks for nothing more").toEqual([]);
    target.vmm.device.attach(messenger);
    target.vmm.mapForMessages(0x1000, 0x10000);
    expect(target.vmm.device.busy, "not before it runs").toBe(false);
    expect(target.vmm.move(MigState.running)).toBe(0);
    for (let answers = 0; answers < 2 && target.read("status") === busy; answers++) {
      target.vmm.run();
      messenger.answer();
      target.vmm.run();
    }
    expect([target.read("status"), target.read("cause")]).toEqual([0, 2]);
    expect(messenger.memory.subarray(0x1800, 0x1800 + 3000).equals(data)).toBe(true);
  });

  it("goes on here when the migration is given up", () => {
    const { vmm, echo, read } = make();
    const { messenger } = messages(vmm);
    echo(0x1000, 0x4000, 10);
    vmm.run();
    vmm.move(MigState.stopCopy);
    expect(messenger.waiting).toEqual([]);
    vmm.move(MigState.running);
    vmm.run();
    messenger.answer();
    vmm.run();
    messenger.answer();
    vmm.run();
    expect(read("status")).toBe(0);
  });

  it("brings counter, cause, memory and the line along", () => {
    const source = make();
    source.write("doorbell", 1);
    source.write("scratch", 77);
    source.vmm.write(2, 0x8000, 88);
    const target = moved(source.vmm);
    const [line] = target.vmm.wire(PciIrq.intx, 0, 1);
    target.vmm.move(MigState.running);
    expect([target.read("counter"), target.read("cause"), target.read("scratch")]).toEqual([
      1, 1, 77,
    ]);
    expect([target.vmm.read(2, 0x8000), line?.take()]).toEqual([88, 1]);
  });
});

describe("hello's options", () => {
  it("offer BAR2 for mapping when told", () => {
    expect(create().regions[2]?.mmap).toBeNull();
    expect(create({ mmap: "never" }).regions[2]?.mmap).toBeNull();
    expect(create({ mmap: "trusted" }).regions[2]?.mmap?.areas).toBeNull();
    expect(() => create({ mmap: "yes" })).toThrow("mmap=yes");
    expect(() => create({ msix: "yes" })).toThrow("msix=yes");
    expect(create({ mmap: "trusted" }).regions[PciRegion.bar2]?.mmap?.fd).toBeGreaterThan(2);
  });
});
