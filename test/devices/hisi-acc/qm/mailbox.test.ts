import { describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { qmBar } from "../../../../src/spec/hisi-qm.ts";
import { Messenger } from "../../../device/vmm.ts";
import { at, base, command, makeBench, memoryBytes, type Store } from "./driver.ts";

const busy = 0x2000;
const failed = 0x200;
const nowhere = base + memoryBytes;

describe("the mailbox", () => {
  it.each<Store>(["16", "8+8", "4x4"])("executes when its last dword is in (%s)", (store) => {
    const { driver } = makeBench();
    driver.store = store;
    expect(driver.command(command.sqcTable, 0, 0x1234_5678_9abc)).toBe(0);
    expect(driver.command(command.sqcTable, 0, 0, true)).toBe(0);
    expect(driver.result).toBe(0x1234_5678_9abcn);
  });

  it("is busy from its first part on, and does nothing before the last", () => {
    const { driver, vmm } = makeBench();
    const parts = [busy | 0x4006, 0, 0];
    for (const [index, part] of parts.entries()) {
      driver.write(at.mailbox + 4 * index, part);
      expect(driver.read(at.mailbox)).toBe(busy | 0x4006);
    }
    expect(driver.read(at.mailbox + 8)).toBe(0);
    driver.write(at.mailbox + 12, 0);
    expect(driver.read(at.mailbox)).toBe(0x4006);
    expect(driver.read(at.mailbox + 8)).toBe(0x1f010);
    expect(vmm.bytes(qmBar, at.mailbox, 16).readUInt32LE(8), "16 bytes at once").toBe(0x1f010);
  });

  it("does nothing that does not say busy", () => {
    const { driver } = makeBench();
    driver.storeMailbox(0x4006, 0, 0x77);
    expect([driver.read(at.mailbox), driver.read(at.mailbox + 4)]).toEqual([0x4006, 0x77]);
  });

  it("answers what it does not have, or cannot do, with a status", () => {
    const { driver } = makeBench();
    const { sqc, cqc, vft, stopQueue, send, receive } = command;
    for (const op of [0x7, 0xa, 0xb, 0xf, 0xff]) expect(driver.command(op)).toBe(1);
    for (const op of [sqc, cqc, stopQueue]) {
      for (const queue of [16, 1023, 0xffff]) expect(driver.command(op, queue, base)).toBe(1);
    }
    expect(driver.command(vft, 0, 0), "VFT cannot be set").toBe(1);
    for (const queue of [1, 0xffff]) expect(driver.command(send, queue), "another VF").toBe(1);
    expect(driver.command(receive, 1)).toBe(1);
    driver.storeMailbox(busy | 0xf, 3, 0x55);
    expect(driver.read(at.mailbox), "all else stays").toBe(failed | 0xf | (3 << 16));
    expect(driver.command(vft, 0, 0, true), "and the next one is not disturbed").toBe(0);
  });

  it("leaves out the commands that the capabilities leave out", () => {
    const { driver } = makeBench({ functionCaps: 1 });
    for (const op of [command.stopQueue, command.flush, command.send, command.receive]) {
      expect(driver.command(op)).toBe(1);
    }
    const able = makeBench({ functionCaps: 0x0601 }).driver;
    expect(able.command(command.stopQueue)).toBe(0);
    expect(able.command(command.flush)).toBe(0);
    expect(able.command(command.send)).toBe(1);
  });

  it("tells memory that is not there with a status", () => {
    const { driver } = makeBench();
    for (const op of [command.sqc, command.cqc, command.eqc, command.aeqc]) {
      for (const asGet of [false, true]) {
        expect(driver.command(op, 0, nowhere - 27, asGet)).toBe(1);
        expect(driver.command(op, 0, 0, asGet)).toBe(1);
        expect(driver.command(op, 0, 2 ** 53 - 1, asGet)).toBe(1);
      }
    }
    expect(driver.read(at.eqc + 24)).toBe(0);
  });

  it("reads an EQ's context of 28 bytes and no more", () => {
    const { driver, guest } = makeBench();
    const context = driver.guest.read(driver.eventContext(base, 16), 28);
    guest.write(nowhere - 28, context);
    expect(driver.command(command.eqc, 0, nowhere - 28)).toBe(0);
    expect(driver.command(command.eqc, 0, nowhere - 28, true)).toBe(0);
  });

  it("takes nothing while a command runs", () => {
    const { driver, vmm, vf } = makeBench();
    const messenger = new Messenger(8192);
    vf.attach(messenger);
    vmm.mapForMessages(0, 8192);
    driver.storeMailbox(busy | command.sqc, 2, 0x100);
    expect(driver.read(at.mailbox)).toBe(busy | (2 << 16));
    driver.storeMailbox(busy | 0x4000 | command.vft, 0, 0);
    driver.write(at.mailbox, 0);
    expect(driver.read(at.mailbox), "still the first one").toBe(busy | (2 << 16));
    expect([messenger.waiting.length, vmm.device.busy]).toEqual([1, false]);
    messenger.answer(-errno.EIO);
    expect(vmm.device.busy).toBe(true);
    vmm.run();
    expect(driver.read(at.mailbox)).toBe(failed | (2 << 16));
  });

  it("dumps a context as the driver reads it", () => {
    const { driver, guest, vmm } = makeBench();
    driver.start();
    const pair = driver.queue(1, 4, 9);
    const buffer = driver.allocate(4096);
    for (let i = 0; i < 6; i++) {
      pair.submit(buffer, buffer, 4, 1);
      vmm.run();
      pair.poll(i % 2 === 0);
    }
    expect(driver.command(command.sqc, 1, buffer, true)).toBe(0);
    const sqc = guest.read(buffer, 32);
    expect([sqc.readUInt16LE(0), sqc.readUInt16LE(2)], "head and tail").toEqual([2, 2]);
    expect(Number(sqc.readBigUInt64LE(4))).toBe(pair.sq);
    expect(sqc.readUInt32LE(0x0c)).toBe(0x7003);
    expect(sqc.readUInt16LE(0x16), "its tail has wrapped once").toBe(1 << 6);
    expect([sqc.readUInt16LE(0x18), sqc.readUInt16LE(0x1a)]).toEqual([1, 9 << 8]);
    expect(driver.command(command.cqc, 1, buffer, true)).toBe(0);
    const cqc = guest.read(buffer, 32);
    expect([cqc.readUInt16LE(0), cqc.readUInt16LE(2)]).toEqual([2, 2]);
    expect(Number(cqc.readBigUInt64LE(4))).toBe(pair.cq.address);
    expect([cqc.readUInt16LE(0x16), cqc.readUInt32LE(0x18)], "phase 0").toEqual([1 << 6, 0]);
    expect(driver.command(command.eqc, 0, buffer, true)).toBe(0);
    const eqc = guest.read(buffer, 32);
    expect(eqc.readUInt32LE(24)).toBe(0x107ff);
    expect(eqc.subarray(28), "only 28 bytes").toEqual(cqc.subarray(28));
    for (let dword = 0; dword < 7; dword++) {
      expect(driver.read(at.eqc + 4 * dword)).toBe(eqc.readUInt32LE(4 * dword));
    }
  });
});

describe("contexts that make no sense", () => {
  const { driver } = makeBench();
  const queue = 2;
  const install = (sqc: number) => driver.command(command.sqc, queue, sqc);
  const installCq = (cqc: number) => driver.command(command.cqc, queue, cqc);

  it("an SQ of depth 1 or another entry size, of another CQ, or disabled", () => {
    expect(install(driver.sqc(queue, base, 2))).toBe(0);
    expect(install(driver.sqc(queue, base, 1)), "depth 1").toBe(1);
    expect(install(driver.sqc(queue, base, 2, { dw3: 0x6001 })), "64 bytes").toBe(1);
    expect(install(driver.sqc(queue, base, 2, { dw3: 0xf001 })), "32 KiB").toBe(1);
    expect(install(driver.sqc(queue, base, 2, { cqNumber: 1 }))).toBe(1);
    expect(install(driver.sqc(queue, base, 2, { w13: 0x40 })), "disabled").toBe(1);
    expect(install(driver.sqc(queue, base, 4096)), "the largest").toBe(0);
    expect(install(driver.sqc(queue, base, 2, { head: 99, tail: 77 })), "not looked at").toBe(0);
  });

  it("a CQ of depth 1 or another entry size", () => {
    expect(installCq(driver.cqc(base, 4096))).toBe(0);
    expect(installCq(driver.cqc(base, 1))).toBe(1);
    expect(installCq(driver.cqc(base, 2, { dw3: 0x5001 }))).toBe(1);
  });

  it("an EQ or AEQ of depth 1", () => {
    for (const op of [command.eqc, command.aeqc]) {
      expect(driver.command(op, 0, driver.eventContext(base, 65_536))).toBe(0);
      expect(driver.command(op, 0, driver.eventContext(base, 1))).toBe(1);
      expect(driver.command(op, 0, driver.eventContext(base, 2))).toBe(0);
    }
  });
});

describe("a control mailbox", () => {
  const control = 0x8300;
  const pause = (driver: { write(offset: number, value: number): void }) => {
    for (const [index, part] of [busy | command.pause, 0, 0, 0].entries()) {
      driver.write(control + 4 * index, part);
    }
  };

  it("is not there, as on silicon: the guest's does it all", () => {
    const { driver, vf } = makeBench();
    pause(driver);
    expect(driver.read(control)).toBe(0);
    expect(driver.command(command.pause)).toBe(0);
    expect(vf.busy).toBe(false);
  });

  it("alone can pause where it is", () => {
    const { driver, vmm } = makeBench({ controlMailbox: true });
    driver.start();
    const pair = driver.queue(0);
    expect(driver.command(command.pause)).toBe(1);
    pause(driver);
    expect(driver.read(control)).toBe(command.pause);
    expect(driver.command(command.vft, 0, 0, true), "the guest's is its own").toBe(0);
    const buffer = driver.allocate(16);
    pair.submit(buffer, buffer, 4, 1);
    vmm.run();
    expect(pair.poll()).toEqual([]);
  });

  it("pauses what the guest's mailbox waits for", () => {
    const { driver, vmm } = makeBench({ controlMailbox: true });
    driver.start();
    const pair = driver.queue(0);
    pair.submit(0, 0, 0, 1);
    driver.storeMailbox(busy | command.stopQueue, 0, 0);
    expect(driver.read(at.mailbox) & busy).not.toBe(0);
    pause(driver);
    vmm.run();
    expect([driver.read(at.mailbox), pair.poll()]).toEqual([command.stopQueue, []]);
  });
});
