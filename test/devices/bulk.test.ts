import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import {
  BulkCommand,
  BulkControlCommand,
  BulkFunctionState,
  BulkPause,
  create,
} from "../../src/devices/bulk/index.ts";
import { Feature, MigState, PciIrq } from "../../src/spec/vfio.ts";
import { Window } from "../../src/sys/window.ts";
import { Messenger, Vmm } from "../device/vmm.ts";
import { guestBase, hostBase, make, mib } from "./bulk-driver.ts";

const { fill, toBoard, toGuest } = BulkCommand;
const { take, load, zero, clear, saveFunction, loadFunction } = BulkControlCommand;
const { run, beginNothing, standStill } = BulkPause;
const page = 4096;

describe("bulk", () => {
  it("is what its data sheet says", () => {
    const { guest, driver } = make();
    expect(driver.vmm.config(0x00)).toBe(0x0003fe22);
    expect(guest.regions.slice(0, 5).map(({ size }) => size)).toEqual([4096, 0, 65536, 0, 4096]);
    expect([driver.get("MAGIC"), driver.get("MEMORY_BYTES")]).toEqual([0x6b6c7562, 4 * mib]);
    expect(guest.regions[2]?.mmap).toBeNull();
  });

  it("fills, and moves memory both ways, in slices, with an interrupt at the end", () => {
    const { guest, driver } = make();
    const [vector] = driver.vmm.wire(PciIrq.msix, 0, 1);
    expect(driver.run(fill, 5, 3 * mib, { value: 0x7e })).toBe(0);
    expect([driver.get("COMPLETED"), driver.get("CAUSE"), vector?.take()]).toEqual([1, 1, 1]);
    expect([...driver.peek(0, 6)]).toEqual([0, 0, 0, 0, 0, 0x7e]);
    expect([...driver.peek(3 * mib + 4, 2)]).toEqual([0x7e, 0]);
    driver.ram.write(guestBase + 3, Buffer.from("from the guest"));
    expect(driver.run(toBoard, 1.5 * mib, 14, { at: guestBase + 3 })).toBe(0);
    expect(driver.peek(1.5 * mib, 14).toString()).toBe("from the guest");
    driver.start(toGuest, 1.5 * mib - 1, 2 * mib, { at: guestBase + mib });
    let slices = 0;
    for (; guest.busy; slices++) guest.work();
    expect([slices, driver.get("STATUS"), driver.get("DONE")]).toEqual([2, 0, 2 * mib]);
    expect(driver.ram.read(guestBase + mib, 3).toString()).toBe("~fr");
  });

  it("shows all of its memory through the window, and takes no other place", () => {
    const { driver } = make();
    driver.poke(4 * mib - 4, 0x01020304);
    expect([...driver.peek(4 * mib - 4, 4)]).toEqual([4, 3, 2, 1]);
    expect(driver.get("WINDOW")).toBe(63);
    driver.set("WINDOW", 64);
    driver.set("WINDOW", 0xffffffff);
    expect(driver.get("WINDOW")).toBe(63);
    driver.vmm.device.reset();
    expect(driver.get("WINDOW")).toBe(0);
    expect([...driver.peek(4 * mib - 4, 4)]).toEqual([0, 0, 0, 0]);
  });

  it("says what is wrong with a command, and goes on", () => {
    const { driver } = make();
    const all = 4 * mib;
    expect(driver.run(fill, 1, all, {})).toBe(errno.EINVAL);
    expect(driver.run(fill, all, 1, {})).toBe(errno.EINVAL);
    expect(driver.run(fill, 2 ** 63, 1, {})).toBe(errno.EINVAL);
    expect(driver.run(fill, 0, 0, {})).toBe(errno.EINVAL);
    expect(driver.run(0, 0, 1, {})).toBe(errno.EINVAL);
    expect(driver.run(4, 0, 1, {})).toBe(errno.EINVAL);
    expect(driver.run(toBoard, 0, 16, { at: 2 ** 63 })).toBe(errno.EINVAL);
    expect(driver.run(toBoard, 0, 16, { at: guestBase - 8 })).toBe(errno.EFAULT);
    expect(driver.run(toGuest, 0, 2 * mib, { at: guestBase + 3 * mib })).toBe(errno.EFAULT);
    expect(driver.get("COMPLETED")).toBe(9);
    expect(driver.run(fill, 0, all, {})).toBe(0);
  });

  it("logs the guest's pages that it writes", () => {
    const { driver, memory } = make();
    expect(memory.loggingStart(page, [])).toBe(0);
    driver.run(toGuest, 0, page, { at: guestBase + 5 * page });
    driver.run(toBoard, 0, page, { at: guestBase + 9 * page });
    const bitmap = new Uint8Array(8);
    expect(memory.loggingReport(guestBase, 64 * page, page, bitmap, 0)).toBe(0);
    expect([...bitmap]).toEqual([0x20, 0, 0, 0, 0, 0, 0, 0]);
  });

  it("takes the registers when a command starts, whatever is written to them afterwards", () => {
    const { guest, driver } = make();
    driver.start(fill, 0, 2 * mib, { value: 1 });
    guest.work();
    for (const register of ["BOARD_OFFSET", "LENGTH", "VALUE", "SEQUENCE"] as const) {
      driver.set(register, 0xffffff);
    }
    driver.set("COMMAND", fill);
    driver.vmm.run();
    expect([driver.get("STATUS"), driver.get("COMPLETED")]).toEqual([0, 1]);
    expect([...driver.peek(2 * mib - 1, 2)]).toEqual([1, 0]);
  });

  it("does nothing by halves: a slice that waits for messages is done anew after a stop", () => {
    const { guest, driver, host } = make();
    driver.vmm.mapForMessages(0, 2 * mib);
    const messenger = new Messenger(2 * mib);
    guest.attach(messenger);
    messenger.memory.fill(0x44);
    driver.start(toBoard, 0, 2 * mib, { at: 0 });
    driver.vmm.run();
    messenger.answer();
    driver.vmm.run();
    expect([driver.get("DONE"), messenger.waiting.length]).toEqual([mib, 1]);
    host.pause(standStill);
    expect([messenger.waiting.length, guest.busy]).toEqual([0, false]);
    messenger.memory.fill(0x55);
    host.pause(run);
    driver.vmm.run();
    messenger.answer();
    driver.vmm.run();
    expect([driver.get("STATUS"), driver.get("DONE")]).toEqual([0, 2 * mib]);
    expect([...driver.peek(mib - 1, 2)]).toEqual([0x44, 0x55]);
  });

  it("has options that make sense", () => {
    for (const memoryMiB of ["0", "2049", "x", ""]) {
      expect(() => create({ memoryMiB })).toThrow("memoryMiB");
    }
    expect(() => create({ memoryMiB: "3", mmap: "trusted" })).toThrow("power of two");
    expect(() => create({ mmap: "yes" })).toThrow("mmap=yes");
    expect(() => create({ prealloc: "on" })).toThrow("prealloc=on");
  });
});

describe("bulk's control function", () => {
  it("is a function of its own, of which the guest sees nothing", () => {
    const { guest, control, driver, host } = make();
    expect(host.vmm.config(0x00)).toBe(0x0004fe22);
    expect([host.get("MAGIC"), host.get("MEMORY_BYTES")]).toEqual([0x636b6c62, 4 * mib]);
    expect(control.state).not.toBe(guest.state);
    host.set("HOST_ADDRESS", 0x1234);
    driver.vmm.write(0, 0x38, 0x5678, 8);
    expect(host.get("HOST_ADDRESS")).toBe(0x1234);
    driver.run(fill, 0, page, { value: 1 });
    host.set("TRACKING", 1);
    expect(host.run(take, 0, mib, guestBase), "the guest's memory is not there").toBe(errno.EFAULT);
    expect(host.get("DIRTY_PAGES"), "and nothing is lost").toBe(1);
    expect(driver.run(toGuest, 0, 16, { at: hostBase }), "nor the host's for the guest").toBe(
      errno.EFAULT,
    );
  });

  it("finds what was ever written, and then what changes, each once", () => {
    const { driver, host } = make();
    driver.run(fill, 3 * page, page, { value: 1 });
    driver.run(fill, 4 * page, 2 * page, { value: 0 });
    expect(host.get("DIRTY_PAGES"), "nobody has asked").toBe(0);
    host.set("TRACKING", 1);
    const found = () => {
      const result = host.run(take, 0, 2 * mib);
      return [result, host.get("BOARD_OFFSET") / page, host.get("LENGTH") / page, host.get("ZERO")];
    };
    expect(found()).toEqual([0, 3, 1, 0]);
    expect(host.memory.read(hostBase, page).every((byte) => byte === 1)).toBe(true);
    expect(found()).toEqual([0, 4, 2, 1]);
    expect(found()[0]).toBe(errno.ENOENT);
    driver.poke(100 * page + 8, 7);
    driver.run(fill, 0, 300 * page, { value: 2 });
    expect(host.get("DIRTY_PAGES")).toBe(300);
    expect(found(), "behind what was found last, at most a MiB").toEqual([0, 6, 256, 0]);
    expect(found()).toEqual([0, 262, 38, 0]);
    expect(found()).toEqual([0, 0, 6, 0]);
    host.set("TRACKING", 0);
    driver.poke(0, 1);
    expect(host.get("DIRTY_PAGES")).toBe(0);
  });

  it("changes a device only when it stands still", () => {
    const { driver, host } = make();
    host.memory.write(hostBase, Buffer.alloc(page, 0x66));
    for (const command of [load, zero, clear, loadFunction]) {
      host.pause(beginNothing);
      expect(host.run(command, 0, page)).toBe(errno.EBUSY);
    }
    host.pause(standStill);
    expect(host.run(load, page, page)).toBe(0);
    expect(host.run(load, 4 * mib, page)).toBe(errno.EINVAL);
    expect(host.run(load, 2 * mib, mib)).toBe(0);
    expect(host.run(load, 2 * mib, mib + 1)).toBe(errno.EINVAL);
    expect(host.run(load, 0, page, 0)).toBe(errno.EFAULT);
    expect(host.run(zero, page + 1, 2)).toBe(0);
    expect(host.run(99)).toBe(errno.EINVAL);
    host.pause(run);
    expect([...driver.peek(page - 1, 5)]).toEqual([0, 0x66, 0, 0, 0x66]);
    host.pause(standStill);
    expect(host.run(clear)).toBe(0);
    host.pause(run);
    expect(driver.peek(page, page)).toEqual(Buffer.alloc(page));
  });

  it("holds the guest's function: nothing begins, then nothing happens", () => {
    const { guest, driver, host } = make();
    const [vector] = driver.vmm.wire(PciIrq.msix, 0, 1);
    driver.start(fill, 0, 2 * mib, { value: 1 });
    guest.work();
    host.pause(beginNothing);
    expect([guest.busy, host.get("PAUSED")]).toEqual([false, beginNothing]);
    host.pause(standStill);
    driver.set("VALUE", 9);
    driver.poke(0, 0xff);
    expect([guest.busy, driver.get("VALUE"), driver.peek(0, 1)[0]]).toEqual([false, 1, 1]);
    host.pause(beginNothing);
    host.pause(run);
    driver.vmm.run();
    expect([driver.get("STATUS"), vector?.take()]).toEqual([0, 1]);
  });

  it("moves what is not on the board, in the middle of a command", () => {
    const source = make();
    source.driver.vmm.wire(PciIrq.msix, 0, 1);
    source.driver.vmm.irqs(PciIrq.msix, 1 | 8, 0, 1);
    source.driver.run(fill, 0, page, { value: 5 });
    source.driver.start(fill, 0, 2 * mib, { value: 1 });
    source.guest.work();
    source.host.pause(standStill);
    expect(source.host.run(saveFunction)).toBe(0);
    const target = make();
    const [vector] = target.driver.vmm.wire(PciIrq.msix, 0, 1);
    target.host.pause(standStill);
    target.host.memory.write(hostBase, source.host.memory.read(hostBase, BulkFunctionState.size));
    expect(target.host.run(loadFunction)).toBe(0);
    expect([target.driver.get("COMPLETED"), target.driver.get("DONE")]).toEqual([1, mib]);
    target.host.pause(run);
    expect(vector?.take(), "the vector was masked there").toBe(1);
    target.driver.vmm.run();
    expect([target.driver.get("STATUS"), target.driver.get("COMPLETED")]).toEqual([0, 2]);
    expect([...target.driver.peek(mib - 1, 2)]).toEqual([0, 1]);
    expect(vector?.take()).toBe(1);
  });

  it("believes no state that makes no sense", () => {
    const { host, driver } = make();
    driver.start(fill, 0, 2 * mib, { value: 1 });
    host.pause(standStill);
    host.run(saveFunction);
    const good = host.memory.read(hostBase, BulkFunctionState.size);
    const { offset } = BulkFunctionState;
    const wrong: ReadonlyArray<readonly [string, number, number]> = [
      ["magic", 0x00, 1],
      ["cause", 0x04, 2],
      ["window", 0x10, 64],
      ["status", 0x20, 0],
      ["command", offset.request, 4],
      ["board offset", offset.request + 16 + 4, 1],
      ["length", offset.request + 24 + 2, 0x80],
      ["guest address", offset.request + 32 + 7, 0x80],
      ["done", offset.request + 40 + 2, 0x20],
      ["pending", offset.pending, 2],
      ["reserved", offset.reserved, 1],
    ];
    for (const [name, at, value] of wrong) {
      const state = Buffer.from(good);
      state[at] = value;
      host.memory.write(hostBase, state);
      expect(host.run(loadFunction), name).toBe(errno.EINVAL);
    }
    expect(driver.get("STATUS")).toBe(errno.EINPROGRESS);
  });

  it("knows when the guest's function was reset", () => {
    const { guest, driver, host } = make();
    driver.run(fill, 0, page, { value: 1 });
    host.set("TRACKING", 1);
    host.pause(standStill);
    guest.reset();
    expect(
      ["PAUSE", "PAUSED", "TRACKING", "DIRTY_PAGES"].map((name) => host.get(name as "PAUSE")),
    ).toEqual([0, 0, 0, 0]);
    expect(driver.run(fill, 0, page, { value: 1 }), "it runs").toBe(0);
  });
});

describe("bulk with a mapping that is kept", () => {
  const mapped = () => {
    const all = make({ memoryMiB: "128", mmap: "trusted" });
    const offer = all.guest.regions[2];
    expect(offer?.size).toBe(128 * mib);
    const window = Window.reserve(128 * mib);
    expect(window?.lay(offer?.mmap?.fd ?? -1, 0, 128 * mib, true)).toBe(0);
    return { ...all, seen: window?.bytes ?? new Uint8Array(0) };
  };
  const at = 100 * mib;

  it("is one memory with what commands reach", () => {
    const { driver, seen } = mapped();
    seen[at] = 3;
    expect(driver.run(toGuest, at, 1, {})).toBe(0);
    expect(driver.ram.read(guestBase, 1)[0]).toBe(3);
    driver.run(fill, at, 2, { value: 4 });
    expect(seen[at + 1]).toBe(4);
    expect(driver.vmm.read(2, at, 2)).toBe(0x0404);
    driver.vmm.device.reset();
    expect([seen[at], driver.vmm.read(2, at, 1)]).toEqual([0, 0]);
    seen[at] = 5;
    expect(driver.vmm.read(2, at, 1)).toBe(5);
  });

  it("has its stores found, though nobody says that they were made", () => {
    const { host, seen } = mapped();
    host.set("TRACKING", 1);
    seen[at] = 6;
    let result = host.run(take);
    for (let tries = 0; result === errno.ENOENT && tries < 3; tries++) result = host.run(take);
    expect([result, host.get("BOARD_OFFSET"), host.get("LENGTH")]).toEqual([0, at, page]);
    expect(host.memory.read(hostBase, 1)[0]).toBe(6);
  });

  it("changes nothing that is saved once the device stands still; then the device wins", () => {
    const { driver, host, seen } = mapped();
    host.set("TRACKING", 1);
    seen[at] = 7;
    host.pause(standStill);
    expect([host.get("PAUSED"), host.get("DIRTY_PAGES")]).toEqual([standStill, 1]);
    seen[at] = 8;
    seen[0] = 8;
    expect([host.run(take), host.get("BOARD_OFFSET")]).toEqual([0, at]);
    expect(host.memory.read(hostBase, 1)[0]).toBe(7);
    expect(host.run(take)).toBe(errno.ENOENT);
    host.pause(run);
    expect([seen[at], seen[0], driver.vmm.read(2, at, 1)]).toEqual([7, 0, 7]);
    seen[at] = 9;
    expect(driver.vmm.read(2, at, 1)).toBe(9);
  });

  it("stands still and is reset, and is one memory again", () => {
    const { driver, host, seen } = mapped();
    host.pause(standStill);
    seen[at] = 1;
    driver.vmm.device.reset();
    expect(seen[at]).toBe(0);
    seen[at] = 2;
    expect(driver.vmm.read(2, at, 1)).toBe(2);
  });
});

describe("bulk without a migration driver", () => {
  it("migrates as the models do, all of it at once", () => {
    const { driver } = make({ memoryMiB: "2" });
    driver.run(fill, mib, mib, { value: 9 });
    driver.start(fill, 0, 16, { value: 3 });
    const { vmm } = driver;
    expect(vmm.move(MigState.stopCopy)).toBe(0);
    const target = new Vmm(create({ memoryMiB: "2" }));
    target.move(MigState.resuming);
    expect(target.load(vmm.save(mib), mib)).toBe(0);
    expect(target.move(MigState.running)).toBe(0);
    target.run();
    target.write(0, 0x10, 16);
    expect(target.read(2, 0)).toBe(0x09090909);
    target.write(0, 0x10, 0);
    expect(target.read(2, 12)).toBe(0x03030303);
    expect((target.get(Feature.migDataSize) as Buffer).readUInt32LE(0)).toBeLessThan(2.1 * mib);
  });

  it("has as much memory as it may have", () => {
    const { driver, host } = make({ memoryMiB: "2048" });
    expect(driver.run(fill, 2047 * mib, page, { value: 9 })).toBe(0);
    expect(driver.peek(2047 * mib, 1)[0]).toBe(9);
    host.set("TRACKING", 1);
    expect([host.run(take), host.get("BOARD_OFFSET")]).toEqual([0, 2047 * mib]);
    expect(host.run(take)).toBe(errno.ENOENT);
  });
});
