import { describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { QueueRecord } from "../../../../src/devices/hisi-acc/qm/state.ts";
import { AeqeType, Cqc, Sqc } from "../../../../src/spec/hisi-qm.ts";
import { MigState, PciIrq } from "../../../../src/spec/vfio.ts";
import { at, type Bench, command, Driver, makeBench, type QueuePair, ring } from "./driver.ts";

/** A function that has worked for a while, on rings that have wrapped. */
function worked(long = 0) {
  const bench = makeBench();
  const { driver, vmm } = bench;
  driver.start(4, 4);
  const pairs = [driver.queue(0, 4, 1), driver.queue(9, 5, 2)];
  for (let i = 0; i < 11; i++) {
    for (const pair of pairs) pair.submit(0, 0, 0, 1);
    vmm.run();
    driver.events();
    for (const pair of pairs) pair.poll();
  }
  for (const irq of driver.irqs) irq.take();
  if (long > 0) {
    for (const pair of pairs) {
      pair.submit(0, 0, 0, 0x55, true);
      pair.submit(0, 0, 0, 0x66);
    }
  }
  return { ...bench, pairs };
}

/** The driver goes on with another device. */
function follow(from: Bench & { pairs: QueuePair[] }): Bench & { pairs: QueuePair[] } {
  const to = makeBench({}, from.guest);
  const driver = Object.assign(new Driver(to.vmm, from.guest, from.driver.allocate(0)), {
    eq: from.driver.eq,
    aeq: from.driver.aeq,
    sqcTable: from.driver.sqcTable,
    cqcTable: from.driver.cqcTable,
  });
  to.vmm.write(2, at.eqMask, 0);
  const pairs = from.pairs.map((pair) => Object.assign(Object.create(pair), { driver }));
  return { ...to, driver, pairs };
}

function expectToWork({ driver, vmm, pairs }: Bench & { pairs: QueuePair[] }): void {
  for (let i = 0; i < 11; i++) {
    for (const pair of pairs) pair.submit(0, 0, 0, 7);
    vmm.run();
    expect(driver.irqs[0]?.take()).toBe(1);
    expect(driver.events().map(({ queue }) => queue)).toEqual([0, 9]);
    for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
  }
  expect(driver.errors()).toEqual([]);
}

describe("a function that migrates", () => {
  it.each([0, 1])(
    "goes on with %i long requests under way, from the head of each queue",
    (long) => {
      const source = worked(long);
      source.vmm.run();
      expect(source.compute.waiting).toHaveLength(2 * long);
      source.vmm.move(MigState.stopCopy);
      expect(source.compute.waiting, "nobody waits for them any more").toEqual([]);
      const image = source.vmm.save();
      const target = follow(source);
      target.vmm.move(MigState.resuming);
      target.vmm.load(image);
      expect(target.vmm.move(MigState.running)).toBe(0);
      target.vmm.run();
      expect(target.compute.waiting).toHaveLength(2 * long);
      for (let i = 0; i < 2 * long; i++) target.compute.finish();
      target.vmm.run();
      expect(target.engine.served.sort((a, b) => a - b)).toEqual(
        long === 0 ? [] : [0x55, 0x55, 0x66, 0x66],
      );
      for (const pair of target.pairs) expect(pair.poll()).toHaveLength(2 * long);
      target.driver.events();
      target.driver.irqs[0]?.take();
      expectToWork(target);
      expect(target.driver.command(command.vft, 0, 0, true)).toBe(0);
    },
  );

  it("goes on where it was after a stop", () => {
    const bench = worked(1);
    bench.vmm.run();
    bench.vmm.move(MigState.stop);
    bench.vmm.run();
    bench.driver.storeMailbox(0x6000 | command.vft, 0, 0);
    bench.driver.doorbell(0, ring.sq, 0);
    expect(bench.driver.read(at.mailbox), "nothing is taken").not.toBe(0x4000 | command.vft);
    bench.vmm.move(MigState.running);
    bench.vmm.run();
    for (let i = 0; i < 2; i++) bench.compute.finish();
    bench.vmm.run();
    for (const pair of bench.pairs) expect(pair.poll()).toHaveLength(2);
  });

  it("keeps a mailbox command, an interrupt and a pause that were under way", () => {
    const source = worked(1);
    source.vmm.run();
    source.driver.storeMailbox(0x2000 | command.pause, 0, 0);
    source.vmm.disable(PciIrq.msi);
    source.vmm.writeConfig(source.vmm.capability(5) + 2, 0x21, 2);
    source.driver.doorbell(0, ring.eq, 3);
    source.vmm.move(MigState.stopCopy);
    const image = source.vmm.save();
    const target = follow(source);
    target.vmm.move(MigState.resuming);
    target.vmm.load(image);
    target.vmm.move(MigState.running);
    expect(target.driver.irqs[0]?.take()).toBe(1);
    expect(target.driver.read(at.mailbox) & 0x2000).not.toBe(0);
    target.vmm.run();
    expect(target.driver.read(at.mailbox)).toBe(command.pause);
    expect(target.compute.waiting).toEqual([]);
    target.driver.doorbell(0, ring.sq, 0, 1);
    target.vmm.run();
    expect(target.compute.waiting, "resumed").toHaveLength(2);
  });

  it("is parked and taken up", () => {
    const source = worked(1);
    source.vmm.run();
    const wiring = source.vf.park();
    if (wiring === null) throw new Error("cannot be parked");
    const target = follow({ ...source });
    target.vf.unmapAllDma();
    expect(target.vf.takeUp(wiring, source.vf.state.slice())).toBe(0);
    target.vmm.run();
    for (let i = 0; i < 2; i++) target.compute.finish();
    target.vmm.run();
    for (const pair of target.pairs) expect(pair.poll()).toHaveLength(2);
    expect(source.driver.irqs[0]?.take(), "the source's eventfd went along").toBe(1);
  });

  it("goes by its tables too: written back here, looked up there", () => {
    const source = worked();
    const { driver, guest, vmm } = source;
    driver.command(command.stopQueue, 9);
    expect(driver.command(command.pause)).toBe(0);
    source.pairs[0]?.submit(0, 0, 0, 0x44);
    driver.write(at.writeBack, 1);
    expect([driver.read(at.writeBackDone), driver.read(at.writeBack)]).toEqual([1, 0]);
    const stopped = guest.read(driver.sqcTable + 9 * 32, 32);
    expect(stopped.readUInt16LE(Sqc.offset.w13), "disabled").toBe(0x240);
    expect(guest.read(driver.sqcTable + 5 * 32, 32), "never installed").toEqual(Buffer.alloc(32));
    const eqc = Array.from({ length: 7 }, (_, dword) => driver.read(at.eqc + 4 * dword));
    const aeqc = Array.from({ length: 7 }, (_, dword) => driver.read(at.aeqc + 4 * dword));
    const target = follow(source);
    for (const [dword, value] of eqc.entries()) target.driver.write(at.eqc + 4 * dword, value);
    for (const [dword, value] of aeqc.entries()) target.driver.write(at.aeqc + 4 * dword, value);
    expect(target.driver.command(command.sqcTable, 0, driver.sqcTable)).toBe(0);
    expect(target.driver.command(command.cqcTable, 0, driver.cqcTable)).toBe(0);
    target.driver.doorbell(0, ring.eq, driver.eq.head);
    for (let queue = 0; queue < 16; queue++) target.driver.doorbell(queue, ring.sq, 0, 1);
    target.vmm.run();
    expect(target.engine.served).toEqual([0x44]);
    expect(target.driver.events().map(({ queue }) => queue)).toEqual([0]);
    const [first, other] = target.pairs as [QueuePair, QueuePair];
    expect(first.poll()).toHaveLength(1);
    for (let i = 0; i < 9; i++) {
      first.submit(0, 0, 0, 2);
      target.vmm.run();
      expect([target.driver.events().length, first.poll().length]).toEqual([1, 1]);
    }
    other.submit(0, 0, 0, 3);
    target.vmm.run();
    expect(other.poll(), "it is stopped there too").toEqual([]);
    vmm.run();
  });

  it("finds nothing in tables that are not there", () => {
    const { driver, vmm, pf } = makeBench();
    driver.doorbell(0, ring.sq, 0, 1);
    vmm.run();
    driver.start();
    driver.doorbell(0, ring.sq, 0, 1);
    driver.command(command.sqcTable, 0, 0x1000);
    driver.doorbell(1, ring.sq, 0, 1);
    driver.doorbell(2, ring.cq, 0, 1);
    vmm.run();
    driver.write(at.writeBack, 1);
    expect(driver.read(at.writeBackDone), "there was nothing to write").toBe(1);
    driver.queue(3);
    driver.write(at.writeBack, 1);
    expect(driver.read(at.writeBackDone)).toBe(0);
    expect(pf.faults(1)).not.toBe(0);
  });
});

describe("a state that makes no sense", () => {
  const source = worked();
  source.vmm.move(MigState.stopCopy);
  const image = source.vmm.save();
  const queues = image.length - 16 * QueueRecord.size;
  const start = Math.floor(queues / 64) * 64;
  const record = start + 9 * QueueRecord.size;

  const load = (change: (image: Buffer) => void): number => {
    const target = makeBench();
    target.driver.start();
    const changed = Buffer.from(image);
    change(changed);
    target.vmm.move(MigState.resuming);
    target.vmm.load(changed);
    const result = target.vmm.move(MigState.stop);
    if (result < 0) {
      expect([target.vmm.state, target.vmm.device.reset()]).toEqual([MigState.error, 0]);
      target.driver.start();
      const pair = target.driver.queue(1);
      pair.submit(0, 0, 0, 1);
      target.vmm.run();
      expect(pair.poll()).toHaveLength(1);
    }
    return result;
  };

  it("lies where this test thinks it does", () => {
    expect(image.readUInt16LE(record + Sqc.offset.cqNumber)).toBe(9);
    expect(load(() => {})).toBe(0);
  });

  it.each<[string, number, number]>([
    ["an SQ's head", Sqc.offset.head, 5],
    ["an SQ's tail", Sqc.offset.tail, 0xffff],
    ["an SQ's depth", Sqc.offset.dw3, 0x7000],
    ["an SQ's entry size", Sqc.offset.dw3, 0xf004],
    ["an SQ's CQ", Sqc.offset.cqNumber, 8],
    ["a CQ's head", 32 + Cqc.offset.head, 5],
    ["a CQ's tail", 32 + Cqc.offset.tail, 5],
    ["a CQ's depth", 32 + Cqc.offset.dw3, 0x4000],
    ["a queue's flags", 64 + 2, 0xffff],
  ])("in %s is refused", (_what, offset, value) => {
    expect(load((bytes) => bytes.writeUInt16LE(value, record + offset))).toBe(-errno.EINVAL);
  });

  it("as other capabilities is refused", () => {
    const at = image.indexOf(Buffer.from([0x77, 0x7c, 0, 0]));
    expect(load((bytes) => bytes.writeUInt32LE(0x7c78, at))).toBe(-errno.EINVAL);
  });

  it("in the EQ's context is brought into bounds", () => {
    const { driver, vmm } = makeBench();
    driver.start(4, 4);
    driver.write(at.eqc, 0xfff7fff9);
    const pair = driver.queue(0, 4);
    pair.submit(0, 0, 0, 1);
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    expect(driver.read(at.eqc) & 0xfffcfffc).toBe(0);
    expect(AeqeType.eqOverflow).toBe(1);
  });
});
