/**
 * The last twelve of the findings of `weaknesses.test.ts`: resets, sessions, and what a stream
 * says.
 */
import { describe, expect, it } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import { describeDevice } from "../../../src/device/description.ts";
import { accessMsMax, resetMsMax } from "../../../src/devices/hisi-acc/qm/pf.ts";
import { fromLinux, toLinux } from "../../../src/migration/drivers/hisi-acc/linux-format.ts";
import { FunctionEntry, QueueEntry } from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccMatch, AccVfData, accMagic } from "../../../src/spec/acc-vf-data.ts";
import { Qm, qmBar, qmBarBytes } from "../../../src/spec/hisi-qm.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { command } from "../../devices/hisi-acc/qm/driver.ts";
import { xorSqe } from "../../devices/hisi-acc/qm/xor-engine.ts";
import { readAll } from "../operator.ts";
import { arrive, boot, controls, Host, type Machine } from "./bench.ts";
import { savedSections, streamOf, withSection, withWord } from "./streams.ts";
import { expectToWork, prepared, refused } from "./worked.ts";

const { running, stop, stopCopy, resuming, preCopy } = MigState;

describe.each(controls)("what is wrong elsewhere is impossible here (%s)", (control) => {
  it("14: a reset of the physical function that nobody owns", () => {
    const machine = boot(new Host(control));
    const { host } = machine;
    const { pf, clock } = host;
    const owner = pf.beginReset();
    expect(pf.beginReset(), "there is one").toBe(null);
    expect(host.move(stopCopy).result).toBe(-errno.ETIMEDOUT);
    expect(host.device.migrationState).toBe(running);
    expectToWork(machine);
    clock.ms += resetMsMax;
    const next = pf.beginReset();
    expect(next, "the first one has taken too long").not.toBe(null);
    if (owner !== null) pf.endReset(owner);
    expect(pf.broker(1).acquire(), "the second one is not ended by it").toBe(-errno.EAGAIN);
    if (next !== null) pf.endReset(next);
    expect(host.move(stop)).toMatchObject({ result: 0 });
    const short = pf.beginReset();
    if (short !== null) pf.endReset(short);
    expect(host.move(stopCopy).result, "one between stop and save").toBe(-errno.EIO);
    host.move(running);
    expectToWork(machine);
  });

  it("15: data that is read while something is locked", () => {
    const { host, source, good } = prepared(control);
    const stream = good();
    host.move(resuming);
    for (let i = 0; i < stream.length; i++) {
      const one = stream.slice(i, i + 1);
      expect(host.device.writeStream(one, 0, 1)).toBe(0);
      one.fill(0xff);
      if (i === 300) expect(host.device.read(qmBar, 0, new Uint8Array(4), 0, 4)).toBe(-errno.EIO);
    }
    expect(host.move(stop)).toMatchObject({ result: 0 });
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(target);
  });

  it("16: a session that outlives its device's state", () => {
    const { host, good } = prepared(control);
    host.move(resuming);
    host.device.writeStream(good(), 0, 500);
    host.device.reset();
    expect(host.device.writeStream(good(), 0, 1)).toBe(-errno.EINVAL);
    expect([host.migration.next(), host.migration.check()]).toEqual([
      null,
      "the stream has no section acc-vf-data",
    ]);
    boot(host);
    host.move(stopCopy);
    host.device.reset();
    expect(host.migration.next()).toBe(null);
    expect(host.device.migrationState).toBe(running);
  });

  it("17: memory that a failed save leaves behind", () => {
    const machine = boot(new Host(control));
    const { host, driver } = machine;
    host.move(stop);
    host.pf.setBroken(1, true);
    for (let i = 0; i < 50; i++) {
      expect(host.move(stopCopy).result).toBe(-errno.EIO);
      expect(host.migration.next()).toBe(null);
    }
    expect(typeof host.pf.broker(1).acquire(), "the PF is not kept").toBe("object");
    host.clock.ms += accessMsMax;
    host.pf.setBroken(1, false);
    host.move(running);
    expect(driver.command(command.vft, 0, 0, true)).toBe(0);
    expectToWork(machine);
  });

  it("18: one queue, or as many as there can be", () => {
    for (const count of [1, 1024]) {
      const last = count - 1;
      const source = boot(new Host(control, { queues: count }), [[last, 4]]);
      expectToWork({ ...source, pairs: [] });
      const stream = source.host.save();
      const host = new Host(control, { queues: count });
      const target = arrive(source, host);
      expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
      expect(host.move(running)).toMatchObject({ result: 0 });
      expectToWork(target);
    }
  });

  it("19: looking at a function that a guest uses", () => {
    const { host } = boot(new Host(control));
    host.accesses.length = 0;
    const { migration, device } = host;
    expect(migration.judge(migration.compatibility)).toBe(null);
    host.move(preCopy);
    expect([device.pending, device.stopCopyBytes]).toEqual([
      { initialBytes: AccMatch.size, dirtyBytes: 0 },
      AccVfData.size + 16 * QueueEntry.size + FunctionEntry.size,
    ]);
    expect(readAll(device).length).toBeGreaterThan(AccMatch.size);
    host.move(running);
    expect(host.accesses).toEqual([]);
  });

  it("20: a PRE_COPY that does not say when there is nothing more", () => {
    const source = boot(new Host(control));
    const { device } = source.host;
    source.host.move(preCopy);
    expect(device.pending.initialBytes).toBe(AccMatch.size);
    const first = readAll(device);
    expect(device.pending).toEqual({ initialBytes: 0, dirtyBytes: 0 });
    expect(readAll(device)).toHaveLength(0);
    source.host.move(stopCopy);
    const stream = Buffer.concat([first, readAll(device)]);
    const host = new Host(control);
    expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
  });

  it("21: addresses of the guest in what people read", () => {
    const { host, sections } = prepared(control);
    const secret = 0x2345_6789;
    const said: unknown[] = [host.migration.compatibility, describeDevice(host.device)];
    for (const section of sections.values()) {
      for (let at = 0; at < section.bytes.length; at += 4) {
        const arrival = host.load(
          streamOf(host, withSection(sections, withWord(section, at, secret))),
        );
        said.push(arrival, host.device.refusal);
      }
    }
    expect(new Set(said.filter((each) => typeof each === "string")).size).toBeGreaterThan(25);
    expect(JSON.stringify(said)).not.toMatch(/23456789|591751049/);
  });

  it("21: what lies in the guest's memory in what is sent", () => {
    const { host, guest, driver, pairs } = boot(new Host(control));
    const pointer = Buffer.from("a kernel pointer");
    const data = driver.allocate(4096);
    guest.write(data, pointer);
    for (const pair of pairs) {
      const slot = pair.fill(data, data + 0x100, pointer.length, 1);
      guest.write(pair.sqeAddress(slot) + xorSqe.bytes - pointer.length, pointer);
      pair.ring();
    }
    expect(Buffer.from(host.save()).includes(pointer)).toBe(false);
  });

  it("22: a stream without a length, a checksum or a version", () => {
    const { host, source, good, vfDataOf } = prepared(control);
    const stream = good();
    expect(refused(host, stream.subarray(0, stream.length - 1))).toContain("ends in");
    const damaged = stream.slice();
    damaged[400] = (damaged[400] as number) ^ 4;
    expect(refused(host, damaged)).toContain("damaged");
    expect(refused(host, vfDataOf({ major: 2 }))).toContain("its major is not 1");
    expect(refused(host, vfDataOf({ magic: [...accMagic.v1] }))).toContain("its magic");
    const old = toLinux([...savedFrom(source)]) as Uint8Array;
    new DataView(old.buffer).setUint32(0, accMagic.v1[0], true);
    new DataView(old.buffer).setUint32(4, accMagic.v1[1], true);
    expect(fromLinux(old)).toContain("version 1");
    const taken = fromLinux(old, { acceptV1: true });
    if (typeof taken === "string") throw new Error(taken);
    expect(host.load(streamOf(host, taken)), host.device.refusal).toMatchObject({ result: 0 });
  });

  it("23: a state that is loaded before the guest's memory is there", () => {
    const { host, good, source } = prepared(control);
    expect(host.load(good())).toMatchObject({ result: 0 });
    expect(host.vf.memory.mapCount).toBe(0);
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(target);
  });

  it("24: a doorbell that is another function's", () => {
    const { host, good, source } = prepared(control);
    host.load(good());
    arrive(source, host);
    host.move(running);
    host.move(stopCopy);
    const outside = host.accesses.filter(({ offset, count }) => offset + count > qmBarBytes);
    expect(outside).toEqual([]);
    const rung = new Set(
      host.accesses.filter(({ count }) => count === 8).map((each) => each.offset),
    );
    const doorbells: number[] = [Qm.at.QUEUE_DOORBELL, Qm.at.EVENT_DOORBELL];
    for (const offset of rung) expect(doorbells).toContain(offset);
  });

  // Who changes the checksums, too, is kept out by the link: `host/tls.test.ts`.
  it("25: a stream that was tampered with on its way to the guest", () => {
    const { host, good } = prepared(control);
    const stream = good();
    for (let at = 0; at < stream.length; at += 7) {
      const tampered = stream.slice();
      tampered[at] = (tampered[at] as number) ^ (1 << (at % 8));
      expect(refused(host, tampered), `byte ${at}`).not.toBe("");
    }
    expect(host.load(stream)).toMatchObject({ result: 0 });
  });
});

/** What a function that stands still in STOP_COPY has to say once more. */
function savedFrom({ host }: Machine) {
  host.move(stop);
  return savedSections(host).values();
}
