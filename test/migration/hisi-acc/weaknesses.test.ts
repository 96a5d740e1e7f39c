/**
 * Linux's driver for the same devices, and what its reviewers and its history say of it: 25
 * findings, each with a test that shows the described behaviour to be impossible here. The other
 * ones are in `weaknesses-of-sessions.test.ts`.
 */
import { describe, expect, it } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import { accessMsMax } from "../../../src/devices/hisi-acc/qm/pf.ts";
import { HisiAccDriver } from "../../../src/migration/drivers/hisi-acc/driver.ts";
import { AccSection, QueueEntry } from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccVfData } from "../../../src/spec/acc-vf-data.ts";
import { Qm, qmBar } from "../../../src/spec/hisi-qm.ts";
import { FunctionFaults } from "../../../src/spec/hisi-qm-control.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { Messenger } from "../../device/vmm.ts";
import { at, command, ring } from "../../devices/hisi-acc/qm/driver.ts";
import { arrive, boot, controls, Host, type Machine } from "./bench.ts";
import { changed, savedSections, streamOf, withSection } from "./streams.ts";
import { expectToWork, prepared, refused } from "./worked.ts";

const { running, stop, stopCopy } = MigState;
const { vfData, queues } = AccSection;
const busy = 0x2000;

describe.each(controls)("what is wrong elsewhere is impossible here (%s)", (control) => {
  it("1: a match check that fails and does not keep the state out", () => {
    const { host, vfDataOf, good, source } = prepared(control);
    const before = host.accesses.length;
    expect(refused(host, vfDataOf({ queueCount: 8 }))).toContain("its queueCount is not 16");
    expect(host.move(stop).result, "what was refused is not loaded later").toBe(-errno.EINVAL);
    const writes = host.accesses.slice(before).filter((each) => each.writes);
    expect(writes.filter(({ offset }) => offset >= Qm.at.EQC && offset < 0x8040)).toEqual([]);
    expect(host.register("EQC", 6)).toBe(0);
    expect(host.load(good())).toMatchObject({ result: 0 });
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(target);
  });

  it("2: a loop as long as a stream says", () => {
    const { host, vfDataOf, good, source } = prepared(control);
    expect(refused(host, vfDataOf({ queueCount: 0xffffffff }))).toContain("queueCount");
    expect(host.load(good())).toMatchObject({ result: 0 });
    arrive(source, host);
    host.accesses.length = 0;
    host.move(running);
    const rung = host.accesses.filter(({ offset }) => offset === Qm.at.QUEUE_DOORBELL);
    expect(rung).toHaveLength(control === "silicon" ? 16 : 0);
  });

  it("3: a check that one good migration switches off for ever", () => {
    const { host, vfDataOf, good } = prepared(control);
    expect(host.load(good())).toMatchObject({ result: 0 });
    expect(refused(host, vfDataOf({ deviceId: 0xa251 }))).toContain("its deviceId is not 0xa256");
    expect(host.load(good())).toMatchObject({ result: 0 });
    expect(refused(host, vfDataOf({ isolation: 1 }))).toContain("its isolation is not 0");
  });

  it("4: a physical function that is taken for granted", () => {
    const { device } = new Host(control);
    const { broker: _, ...planes } = device.planes;
    expect(() => new HisiAccDriver(planes)).toThrow("nobody answers for its physical function");
    const silent = { driver: "x", vf: 1, acquire: () => -errno.EAGAIN };
    expect(() => new HisiAccDriver({ ...planes, broker: silent })).toThrow("does not answer now");
    const other = { ...silent, vf: 2, acquire: () => ({ ...silent, facts: null, release() {} }) };
    expect(() => new HisiAccDriver({ ...planes, broker: other })).toThrow("does not answer now");
    const host = new Host(control);
    host.pf.beginReset();
    expect(host.device.reset()).toBe(0);
    expect(host.vmm.writeConfig(host.vmm.capability(0x10) + 8, 0x8000, 2)).toBeGreaterThanOrEqual(
      0,
    );
  });

  it("5: two who ask the physical function at once", () => {
    const a = new Host(control);
    const b = new Host(control, { queues: 32 }, a.pf);
    const [first, second] = [a.pf.broker(1), a.pf.broker(2)];
    const handle = first.acquire();
    if (typeof handle === "number") throw new Error("nobody answers");
    expect(second.acquire()).toBe(-errno.EBUSY);
    expect(handle.facts).toMatchObject({ vf: 1, queueBase: 0x100, queueCount: 16 });
    handle.release();
    const next = second.acquire();
    if (typeof next === "number") throw new Error("nobody answers");
    expect(handle.facts, "only while he has it").toBe(null);
    handle.release();
    expect(next.facts).toMatchObject({ vf: 2, queueBase: 0x110, queueCount: 32 });
    a.clock.ms += accessMsMax;
    expect([next.facts, typeof first.acquire()], "nobody has it for ever").toEqual([
      null,
      "object",
    ]);
    a.clock.ms += accessMsMax;
    for (const host of [a, b]) expect(host.move(stopCopy)).toMatchObject({ result: 0 });
  });

  it("6: results that a guest can write", () => {
    const plain = boot(new Host(control));
    const expected = savedSections(plain.host);
    const { host, driver } = boot(new Host(control));
    const forged = [0x4004, 0x1000, 0x2000, 0];
    host.perTurn = () => {
      for (const [index, word] of forged.entries()) {
        host.vmm.write(qmBar, at.mailbox + 4 * index, word);
      }
      driver.doorbell(0, ring.sq, 3);
      expect(host.vmm.write(qmBar, Qm.at.CONTROL_MAILBOX, 1)).toBeLessThanOrEqual(0);
    };
    expect(savedSections(host)).toEqual(expected);
  });

  it("7: a guest that goes on writing while its function stands still", () => {
    const source = boot(new Host(control));
    const { host, driver } = source;
    host.move(stop);
    const before = Buffer.from(host.vf.state);
    driver.write(at.eqMask, 1);
    driver.doorbell(0, ring.sq, 2);
    driver.doorbell(0, ring.eq, 1);
    host.vmm.device.write(qmBar, at.mailbox, Buffer.alloc(16, 0xff), 0, 16);
    expect(host.vmm.device.read(qmBar, at.mailbox, new Uint8Array(4), 0, 4)).toBe(-errno.EIO);
    host.vmm.run();
    expect(Buffer.from(host.vf.state).equals(before)).toBe(true);
    host.move(running);
    expectToWork(source);
  });

  it("8: a guest that has a veto", () => {
    const lies: ReadonlyArray<(machine: Machine) => void> = [
      ({ driver }) => driver.write(at.vfState, 1),
      ({ host }) => void host.pf.isolate(true, 1),
      ({ driver }) => driver.write(at.ifcSet, 1),
      ({ driver }) => driver.write(at.ifcMask, 0),
      ({ driver }) => driver.write(at.eqMask, 1),
      ({ driver }) => driver.write(at.mailbox, busy | command.flush),
      ({ driver }) => driver.write(at.pageSize, 3),
      ({ driver }) => driver.doorbell(0, ring.sq, 4095),
      ({ driver }) => void driver.command(command.stopQueue, 9),
    ];
    for (const lie of lies) {
      const machine = boot(new Host(control));
      lie(machine);
      const sections = savedSections(machine.host);
      expect(sections.get(vfData)?.bytes, String(lie)).toHaveLength(AccVfData.size);
      expect(sections.get(queues)?.bytes.length).toBe(2 * QueueEntry.size);
      const host = new Host(control);
      expect(host.load(streamOf(host, sections.values())), host.device.refusal).toMatchObject({
        result: 0,
      });
    }
  });

  it("9: faults of one function that keep another one", () => {
    const a = boot(new Host(control));
    const b = new Host(control, {}, a.host.pf);
    a.driver.doorbell(0xfff, ring.sq, 0);
    a.host.pf.setBroken(1, true);
    expect(a.host.pf.faults(1)).toBe(FunctionFaults.mask.doorbell);
    expect(b.move(stopCopy)).toMatchObject({ result: 0 });
    expect(a.host.move(stopCopy), "its own do").toMatchObject({ result: -errno.EIO });
    a.host.pf.setBroken(1, false);
    a.host.move(running);
    expectToWork(a);
  });

  it("10: waits that hold everything up", () => {
    const { host, driver } = boot(new Host(control));
    const messenger = new Messenger(1 << 16);
    host.vf.attach(messenger);
    host.vmm.mapForMessages(0, 1 << 16);
    const pair = driver.queue(3, 8);
    pair.submit(0x100, 0x200, 16, 1);
    host.vmm.run();
    expect(messenger.waiting, "nobody answers").toHaveLength(1);
    let most = 0;
    let last = host.accesses.length;
    host.perTurn = () => {
      most = Math.max(most, host.accesses.length - last);
      last = host.accesses.length;
    };
    const { result, report } = host.move(stopCopy);
    expect(result).toBe(control === "own" ? 0 : -errno.ETIMEDOUT);
    for (const { phase, elapsedMs } of report.phases) expect(elapsedMs, phase).toBeLessThan(3001);
    expect(most, "accesses of one turn").toBeLessThan(64 * 40);
  });

  it("11: addresses and depths as a guest or a stream has them", () => {
    const { host, sections } = prepared(control);
    const entry = QueueEntry.get(new DataView(sections.get(queues)!.bytes.buffer), 0);
    const sqc = (index: number, word: number) => ({ sqc: entry.sqc.with(index, word) });
    const cases = [
      [sqc(1, 0x1001), "its base is no ring's address"],
      [sqc(2, 0x200000), "its base is no ring's address"],
      [sqc(3, 0x7000), "its depth is less than 2"],
      [sqc(3, 0x6003), "its entries have another size"],
      [sqc(0, 4), "its head is not below its depth"],
      [sqc(0, 4 << 16), "its tail is not below its depth"],
    ] as const;
    for (const [changes, sentence] of cases) {
      const section = changed(sections.get(queues)!, QueueEntry, changes);
      const said = refused(host, streamOf(host, withSection(sections, section)));
      expect(said).toContain(`(queues): queue 0: sqc: ${sentence}`);
    }
    // What is no memory at all is found when it is used: the queue stops, and nothing else does.
    const nowhere = changed(sections.get(queues)!, QueueEntry, sqc(2, 0x1fffff));
    const { driver, pairs, host: next } = boot(new Host(control));
    next.move(stop);
    expect(next.load(streamOf(host, withSection(sections, nowhere)))).toMatchObject({ result: 0 });
    next.move(running);
    driver.doorbell(0, ring.sq, 3);
    next.vmm.run();
    expect([driver.errors(), pairs[0]?.poll()]).toEqual([[{ queue: 0, type: 2 }], []]);
  });

  it("12: values of a stream that are written as they come", () => {
    const { host, vfDataOf, source } = prepared(control);
    const fields = {
      aeqIntMask: 2,
      eqIntMask: 0xffffffff,
      ifcIntSource: 2,
      ifcIntMask: 4,
      pageSize: 3,
    };
    for (const [field, value] of Object.entries(fields)) {
      expect(refused(host, vfDataOf({ [field]: value }))).toContain(`its ${field} is not`);
    }
    host.accesses.length = 0;
    expect(host.load(vfDataOf({ ifcIntSet: 1 }))).toMatchObject({ result: 0 });
    arrive(source, host);
    host.move(running);
    const written = host.accesses.filter(({ writes }) => writes).map(({ offset }) => offset);
    expect(written, "no message to this host's PF").not.toContain(Qm.at.IFC_INT_SET);
  });

  it("13: a function that stays paused, by a stop that fails or one without a save", () => {
    const machine = boot(new Host(control));
    const { host } = machine;
    expect(host.move(stop)).toMatchObject({ result: 0 });
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(machine);
    host.pf.setBroken(1, true);
    expect(host.move(stopCopy).result).toBe(-errno.EIO);
    host.pf.setBroken(1, false);
    expect(host.device.migrationState).toBe(running);
    expectToWork(machine);
    expect(host.move(stop)).toMatchObject({ result: 0 });
    host.pf.setBroken(1, true);
    expect(host.move(stopCopy).result, "found out by save").toBe(-errno.EIO);
    expect(host.device.migrationState).toBe(stop);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(machine);
  });
});
