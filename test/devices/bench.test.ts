import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { create } from "../../src/devices/bench/index.ts";
import { MigState, PciIrq } from "../../src/spec/vfio.ts";
import { Guest, Messenger, Vmm } from "../device/vmm.ts";

const at = {
  doorbell: 0x80,
  address: 0x100,
  length: 0x108,
  repeat: 0x10c,
  command: 0x110,
  status: 0x114,
  elapsed: 0x118,
  first: 0x120,
};
const mappedRead = 1;
const mappedFill = 2;
const messageRead = 3;
const messageWrite = 4;
const base = 0x4000_0000;
const mib = 1 << 20;

const make = () => {
  const vmm = new Vmm(create({ stateMiB: "1" }));
  const read = (register: keyof typeof at, count = 4) => vmm.read(0, at[register], count);
  const start = (command: number, address: number, length: number, repeat: number) => {
    vmm.write(0, at.address, address, 8);
    vmm.write(0, at.length, length);
    vmm.write(0, at.repeat, repeat);
    vmm.write(0, at.command, command);
  };
  return { vmm, device: vmm.device, read, start };
};
const withGuest = () => {
  const all = make();
  const guest = new Guest(base, 4 * mib);
  expect(all.vmm.map(guest)).toBe(0);
  return { ...all, guest };
};

/** A client that has memory without a file where the tests look for it. */
const withMessages = () => {
  const all = make();
  expect(all.vmm.mapForMessages(0, 8192)).toBe(0);
  return all;
};

describe("bench", () => {
  it("is what the measuring client expects", () => {
    const { vmm, device } = make();
    expect(vmm.config(0x00)).toBe(0x0002fe22);
    expect(device.regions.slice(0, 3).map(({ size }) => size)).toEqual([mib, 65536, 0]);
    expect(device.regions[1]?.mmap?.areas).toEqual([{ offset: 0x1000, size: 0x4000 }]);
    expect(device.irqs.map(({ count }) => count)).toEqual([1, 0, 32, 1, 1]);
    vmm.write(0, 0x1000, 0x12345678);
    expect(vmm.read(0, 0x1000)).toBe(0x12345678);
    expect(vmm.bytes(0, 0, mib), "a read of all of it").toHaveLength(mib);
  });

  it("raises the vector that the doorbell is given", () => {
    const { vmm } = make();
    const eventfds = vmm.wire(PciIrq.msix, 0, 32);
    for (const vector of [0, 31, 32, 0xffffffff]) vmm.write(0, at.doorbell, vector);
    expect(eventfds.map((each) => each.take())).toEqual([1, ...Array(30).fill(0), 1]);
  });

  it("reads mapped memory as often as it is told, in slices", () => {
    const { vmm, device, guest, read, start } = withGuest();
    guest.write(base, Uint8Array.of(0x42));
    start(mappedRead, base, 4096, 5000);
    expect(device.busy).toBe(true);
    let slices = 0;
    for (; device.busy; slices++) device.work();
    expect(slices).toBe(5);
    expect([read("status"), read("first", 8)]).toEqual([0, 0x42]);
    expect(read("elapsed", 8)).toBeGreaterThan(0);
    start(mappedRead, base, 3 * mib, 4);
    for (slices = 0; device.busy; slices++) device.work();
    expect(slices, "two of three MiB each").toBe(2);
    vmm.run();
  });

  it("fills mapped memory", () => {
    const { vmm, guest, read, start } = withGuest();
    start(mappedRead, base, 4096, 1);
    vmm.run();
    start(mappedFill, base + 100, 8192, 3);
    vmm.run();
    expect(read("status")).toBe(0);
    expect(guest.read(base + 100, 8192).every((byte) => byte === 0x5a)).toBe(true);
    expect([guest.read(base + 99, 1)[0], guest.read(base + 8292, 1)[0]]).toEqual([0, 0]);
    start(mappedFill, base, 16384, 1);
    vmm.run();
    expect(guest.read(base, 16384).every((byte) => byte === 0x5a)).toBe(true);
  });

  it("works on while a client asks for the status, but not for ever", () => {
    const { device, read, start } = withGuest();
    start(mappedRead, base, 4096, 10_000);
    expect(read("status")).toBe(0);
    expect(device.busy).toBe(false);
    start(mappedRead, base, 0, 0xffffffff);
    expect(read("status")).toBe(errno.EINPROGRESS);
    expect(device.busy).toBe(true);
    device.reset();
    expect([device.busy, read("status")]).toEqual([false, 0]);
  });

  it("says what is wrong with a command", () => {
    const { vmm, read, start } = withGuest();
    const status = (command: number, address: number, length: number, repeat = 1) => {
      start(command, address, length, repeat);
      vmm.run();
      return read("status");
    };
    expect(status(0, base, 16)).toBe(errno.EINVAL);
    expect(status(5, base, 16)).toBe(errno.EINVAL);
    expect(status(mappedRead, base, 16 * mib + 1)).toBe(errno.EINVAL);
    expect(status(mappedRead, base - 1, 16)).toBe(errno.EFAULT);
    expect(status(mappedFill, base, 16, 0)).toBe(0);
    vmm.mapForMessages(0x1000, 4096);
    expect(status(mappedRead, 0x1000, 16), "only by messages").toBe(errno.EFAULT);
    expect(status(messageRead, 0x1000, 16), "which nobody carries").toBe(errno.ENOTCONN);
  });

  it("moves memory by messages, one at a time", () => {
    const { vmm, device, read, start } = withMessages();
    const messenger = new Messenger(8192);
    device.attach(messenger);
    messenger.memory.fill(0x33);
    start(messageRead, 0x100, 4096, 3);
    for (let i = 0; i < 3; i++) {
      vmm.run();
      expect([messenger.waiting.length, device.busy]).toEqual([1, false]);
      expect(read("status")).toBe(errno.EINPROGRESS);
      messenger.answer();
    }
    vmm.run();
    expect([messenger.waiting.length, read("status"), read("first", 8)]).toEqual([0, 0, 0x33]);
    start(messageWrite, 0x200, 100, 1);
    vmm.run();
    messenger.answer();
    vmm.run();
    expect([...new Set(messenger.memory.subarray(0x200, 0x264))]).toEqual([0x5a]);
    expect(messenger.memory[0x264]).toBe(0x33);
    start(messageRead, 0x100, 16, 10);
    vmm.run();
    messenger.answer(-errno.EIO);
    vmm.run();
    expect([read("status"), messenger.waiting.length]).toEqual([errno.EIO, 0]);
    start(messageRead, 0x100, 0, 1);
    vmm.run();
    expect([read("status"), messenger.waiting.length]).toEqual([errno.EINVAL, 0]);
  });

  it("gives up what it has asked for when it is reset, wherever it was", () => {
    const { vmm, device, start } = withMessages();
    const messenger = new Messenger(8192);
    device.attach(messenger);
    start(messageRead, 0x100, 16, 1);
    vmm.run();
    expect(messenger.waiting).toHaveLength(1);
    device.reset();
    expect([messenger.waiting.length, device.busy]).toEqual([0, false]);
  });

  it("asks again for what was in flight when it was stopped", () => {
    const { vmm, device, read, start } = withMessages();
    const messenger = new Messenger(8192);
    device.attach(messenger);
    start(messageRead, 0x100, 16, 1);
    vmm.run();
    vmm.move(MigState.stop);
    expect(messenger.waiting).toEqual([]);
    vmm.move(MigState.running);
    vmm.run();
    messenger.answer();
    vmm.run();
    expect([read("status"), messenger.waiting.length]).toEqual([0, 0]);
  });

  it("asks nobody for memory that is not mapped", () => {
    const { vmm, device, read, start } = withMessages();
    const messenger = new Messenger(8192);
    device.attach(messenger);
    for (const address of [8192, 8190, 2 ** 40]) {
      start(messageRead, address, 16, 1);
      vmm.run();
      expect([read("status"), messenger.waiting.length]).toEqual([errno.EFAULT, 0]);
    }
  });

  it("takes no command while one runs", () => {
    const { vmm, read, start, device } = withMessages();
    const messenger = new Messenger(8192);
    device.attach(messenger);
    start(messageRead, 0, 16, 2);
    vmm.run();
    vmm.write(0, at.command, mappedFill);
    expect(messenger.waiting).toHaveLength(1);
    messenger.answer();
    vmm.run();
    expect([read("status"), messenger.waiting.length]).toEqual([errno.EINPROGRESS, 1]);
  });

  it("goes on with a command on the other side of a migration", () => {
    const source = withGuest();
    source.start(mappedRead, base, 4096, 3000);
    source.device.work();
    source.vmm.move(MigState.stopCopy);
    const target = make();
    target.vmm.map(source.guest);
    target.vmm.move(MigState.resuming);
    target.vmm.load(source.vmm.save(mib), mib);
    target.vmm.move(MigState.running);
    expect(target.vmm.read(0, 0x128), "still to do").toBe(3000 - 1024);
    target.vmm.run();
    expect([target.read("status"), target.vmm.read(0, 0x128)]).toEqual([0, 0]);
  });
});

describe("bench's state", () => {
  it("is as large as told, and the same bytes in PRE_COPY and STOP_COPY", () => {
    const vmm = new Vmm(create({ stateMiB: "3" }));
    vmm.move(MigState.preCopy);
    const early = vmm.save(mib);
    vmm.move(MigState.stopCopy);
    const late = vmm.save(mib);
    expect(late.length).toBeGreaterThan(3 * mib);
    expect(late.length).toBeLessThan(3 * mib + 1.25 * mib);
    // But for the word that says in which of the states it is.
    expect(early.subarray(4096).equals(late.subarray(4096))).toBe(true);
    expect(early.length).toBe(late.length);
  });

  it("has a size that makes sense", () => {
    for (const stateMiB of ["-1", "1.5", "x", "2049", ""]) {
      expect(() => create({ stateMiB })).toThrow("stateMiB");
    }
  });
});
