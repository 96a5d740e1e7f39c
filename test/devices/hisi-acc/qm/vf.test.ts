/** The three accelerators as `ferry serve` makes them, with a request of the real engine. */
import { createCipheriv } from "node:crypto";
import { describe, expect, it } from "vitest";
import type { VfioDevice } from "../../../../src/device/vfio-device.ts";
import * as hpre from "../../../../src/devices/hisi-hpre/index.ts";
import * as sec2 from "../../../../src/devices/hisi-sec2/index.ts";
import * as zip from "../../../../src/devices/hisi-zip/index.ts";
import { Bd3, BdParam, CIcvKey, Cipher } from "../../../../src/spec/hisi-sec2.ts";
import { Guest, Vmm } from "../../../device/vmm.ts";
import { base, command, Driver, memoryBytes, ring } from "./driver.ts";

function drive(device: VfioDevice) {
  const guest = new Guest(base, memoryBytes);
  const vmm = new Vmm(device);
  vmm.map(guest);
  return { vmm, guest, driver: new Driver(vmm, guest) };
}

describe.each([
  ["hisi-sec2", sec2, 0xa256_19e5, 0x100000],
  ["hisi-zip", zip, 0xa251_19e5, 0x120000],
  ["hisi-hpre", hpre, 0xa259_19e5, 0x100000],
] as const)("%s", (name, { create }, id, classCode) => {
  it("is a VF of its kind, and starts", () => {
    const { vmm, driver } = drive(create());
    expect([vmm.device.name, vmm.config(0)]).toEqual([name, id]);
    expect(vmm.config(8)).toBe(classCode * 0x100 + 0x30);
    expect(vmm.device.regions[2]?.size).toBe(0x8000);
    driver.command(command.vft, 0, 0, true);
    expect(driver.result).toBe(0x001f_f000_0000_0000n);
    driver.start(2048, 1024, 256);
    expect(driver.read(0x3144)).not.toBe(0);
  });

  it("takes its options as text", () => {
    const { driver } = drive(create({ queues: "4", depth: "64", vectors: "single" }));
    driver.command(command.vft, 0, 0, true);
    expect(driver.result).toBe(0x0000_7000_0000_0000n);
    expect([driver.read(0x3108), driver.read(0x311c)]).toEqual([0x00400040, 0x00040001]);
  });

  it.each([
    [{ queues: "0" }, "queues=0"],
    [{ queues: "many" }, "queues=many"],
    [{ depth: "4097" }, "sqDepth=4097"],
    [{ depth: "-1" }, "depth=-1"],
    [{ vectors: "two" }, "vectors=two"],
  ])("refuses %o with a sentence", (options, sentence) => {
    expect(() => create(options)).toThrow(sentence);
  });
});

describe("hisi-sec2", () => {
  it("offers the algorithms that it is told to", () => {
    const { driver } = drive(sec2.create({ algorithms: "cbc(aes), ctr(aes)" }));
    expect([driver.read(0x3144), driver.read(0x3148)]).toEqual([6, 0]);
    expect(() => sec2.create({ algorithms: "cbc(aes),rot13" })).toThrow("rot13 is not known");
    expect(() => sec2.create({ algorithms: "" })).toThrow("algorithms");
  });

  it("encrypts what the driver gives it", () => {
    const { vmm, guest, driver } = drive(sec2.create({ algorithms: "cbc(aes)" }));
    driver.start(2048, 1024, 256);
    const pair = driver.queue(255);
    const at = { key: 0, iv: 64, source: 128, target: 1024 };
    const buffer = driver.allocate(4096);
    const [key, iv, text] = [Buffer.alloc(16, 7), Buffer.alloc(16, 9), Buffer.alloc(512, 0x61)];
    guest.write(buffer + at.key, key);
    guest.write(buffer + at.iv, iv);
    guest.write(buffer + at.source, text);
    const sqe = Buffer.alloc(Bd3.size);
    const { offset } = Bd3;
    sqe.writeUInt32LE(BdParam.pack({ type: 3, de: 1 }), offset.bdParam);
    sqe.writeUInt16LE(CIcvKey.pack({ cipher: Cipher.encrypt }), offset.cIcvKey);
    sqe.writeUInt8(0x21, offset.cModeAlg);
    sqe.writeUInt32LE(text.length, offset.cLenIvin);
    sqe.writeBigUInt64LE(0xffff_8000_1234_5678n, offset.tag);
    sqe.writeBigUInt64LE(BigInt(buffer + at.key), offset.cKeyAddr);
    sqe.writeBigUInt64LE(BigInt(buffer + at.iv), offset.cIvinAddr);
    sqe.writeBigUInt64LE(BigInt(buffer + at.source), offset.dataSrcAddr);
    sqe.writeBigUInt64LE(BigInt(buffer + at.target), offset.dataDstAddr);
    guest.write(pair.sqeAddress(0), sqe);
    driver.doorbell(255, ring.sq, 1);
    vmm.run();
    expect(driver.irqs[0]?.take()).toBe(1);
    expect(pair.poll()).toEqual([{ sqHead: 0, sqNumber: 255 }]);
    sqe.writeUInt16LE(0x0101, offset.doneFlag);
    expect(guest.read(pair.sqeAddress(0), Bd3.size), "only the status is written").toEqual(sqe);
    const expected = createCipheriv("aes-128-cbc", key, iv).setAutoPadding(false).update(text);
    expect(guest.read(buffer + at.target, text.length)).toEqual(expected);
  });
});
