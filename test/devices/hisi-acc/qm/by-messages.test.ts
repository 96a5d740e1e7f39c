import { describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { inFlightMax } from "../../../../src/devices/hisi-acc/qm/requests.ts";
import { Direction } from "../../../../src/memory/transfer.ts";
import { AeqeType } from "../../../../src/spec/hisi-qm.ts";
import { MigState } from "../../../../src/spec/vfio.ts";
import { Messenger } from "../../../device/vmm.ts";
import { command, makeBench, QueuePair, ring } from "./driver.ts";

const bytes = 1 << 16;
const source = 0x8000;
const target = 0x9000;

/** Buffers, and rings too when `all` is true, are memory that only messages reach. */
function byMessages() {
  const bench = makeBench();
  const { driver, vmm, vf } = bench;
  const messenger = new Messenger(bytes);
  vf.attach(messenger);
  vmm.mapForMessages(0, bytes);
  driver.start();
  const pair = driver.queue(2, 8);
  messenger.memory.write("sixteen letters!", source);
  /** Answers everything, one at a time; tells what was asked for. */
  const answerAll = (): [Direction, number, number][] => {
    const asked: [Direction, number, number][] = [];
    vmm.run();
    while (messenger.waiting.length > 0) {
      const { direction, iova, length } = messenger.answer();
      asked.push([direction, iova, length]);
      vmm.run();
    }
    return asked;
  };
  const plain = (at: number) => messenger.memory.subarray(at, at + 16).toString();
  return { ...bench, messenger, pair, answerAll, plain };
}

type Bench = ReturnType<typeof byMessages>;

describe("a request whose memory only messages reach", () => {
  it("waits for its input without taking turns, then for its output", () => {
    const { vmm, messenger, pair, plain } = byMessages();
    pair.submit(source, target, 16, 0x20);
    vmm.run();
    expect([messenger.waiting.length, vmm.device.busy]).toEqual([1, false]);
    messenger.answer();
    vmm.run();
    expect(pair.poll(), "the output is not written").toEqual([]);
    expect(messenger.waiting.map(({ direction }) => direction)).toEqual([Direction.write]);
    messenger.answer();
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    expect(plain(target)).toBe("SIXTEEN\0LETTERS\x01");
  });

  it("has its rings written in order, one after the other's answer", () => {
    const { driver, vmm, pair, answerAll, messenger } = byMessages();
    const at = { sq: 0x1000, cq: 0x2000, eq: 0x3000, entry: 0x1000 };
    const slot = pair.fill(source, target, 16, 0x20);
    messenger.memory.set(driver.guest.read(pair.sqeAddress(slot), 128), at.sq);
    driver.command(command.sqc, 2, driver.sqc(2, at.sq, 8));
    driver.command(command.cqc, 2, driver.cqc(at.cq, 8));
    driver.command(command.eqc, 0, driver.eventContext(at.eq, 8));
    driver.doorbell(2, ring.sq, 1);
    const read = Direction.read;
    const write = Direction.write;
    const irqs = () => driver.irqs.map((irq) => irq.take());
    vmm.run();
    expect(irqs()).toEqual([0, 0, 0]);
    expect(answerAll()).toEqual([
      [read, at.sq, 128],
      [read, source, 16],
      [write, target, 16],
      [write, at.sq + 0x70, 4],
      [write, at.cq, 16],
      [write, at.eq, 4],
    ]);
    expect(irqs()).toEqual([1, 0, 0]);
    expect(messenger.memory.readUInt16LE(at.cq + 0x0e)).toBe(1);
    expect(messenger.memory.readUInt32LE(at.eq)).toBe(0x10002);
  });

  it("stops its queue when the VMM refuses, or never answers", () => {
    for (const status of [-errno.EFAULT, -errno.ETIMEDOUT, -errno.EIO]) {
      const { driver, vmm, messenger, pair } = byMessages();
      pair.submit(source, target, 16, 1);
      vmm.run();
      messenger.answer(status);
      vmm.run();
      expect(driver.errors()).toEqual([{ queue: 2, type: AeqeType.cqeError }]);
      expect(messenger.waiting).toEqual([]);
    }
  });

  it("faults when its memory is unmapped meanwhile", () => {
    const { driver, vmm, vf, messenger, pair } = byMessages();
    pair.submit(source, target, 16, 1);
    vmm.run();
    expect(vf.unmapDma(0, bytes)).toBe(0);
    expect(messenger.waiting).toEqual([]);
    vmm.run();
    expect(driver.errors()).toEqual([{ queue: 2, type: AeqeType.cqeError }]);
  });

  it("asks again when its transfers end for no fault of its own", () => {
    const { vmm, messenger, pair, answerAll } = byMessages();
    pair.submit(source, target, 16, 0x20);
    vmm.run();
    messenger.answer(-errno.ECANCELED);
    expect(answerAll()).toHaveLength(2);
    expect(pair.poll()).toHaveLength(1);
  });

  it("leaves a queue that is installed anew alone", () => {
    const { driver, vmm, messenger, pair, engine, vf } = byMessages();
    pair.submit(source, target, 16, 0x20);
    vmm.run();
    pair.restart();
    pair.submit(0, 0, 0, 0x77);
    vmm.run();
    expect(pair.poll().map(({ sqHead }) => sqHead)).toEqual([0]);
    messenger.answer();
    vmm.run();
    expect([engine.served, pair.poll(), vf.busy]).toEqual([[0x77], [], false]);
    expect(driver.errors()).toEqual([]);
  });

  it("is one of a bounded number", () => {
    const bench = makeBench({ queues: 64 });
    const { driver, vmm, vf } = bench;
    const messenger = new Messenger(bytes);
    vf.attach(messenger);
    vmm.mapForMessages(0, bytes);
    driver.start(2048, 1024, 64);
    const pairs = Array.from({ length: 64 }, (_, number) => driver.queue(number, 4));
    for (const pair of pairs) pair.submit(source, target, 16, 1);
    vmm.run();
    expect(messenger.waiting).toHaveLength(inFlightMax);
    while (messenger.waiting.length > 0) {
      messenger.answer();
      vmm.run();
      expect(messenger.waiting.length).toBeLessThanOrEqual(inFlightMax);
    }
    for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
  });
});

describe("an event that messages write", () => {
  it("is written after a stop too, whether it is a completion's or an error's", () => {
    const { driver, vmm, pair, messenger } = byMessages();
    const ringAt = { eq: 0x3000, aeq: 0x4000 };
    driver.command(command.eqc, 0, driver.eventContext(ringAt.eq, 8));
    driver.command(command.aeqc, 0, driver.eventContext(ringAt.aeq, 8));
    pair.submit(0, 0, 0, 1);
    vmm.run();
    const other = driver.queue(3, 8);
    other.submit(2 ** 40, 0, 16, 1);
    vmm.run();
    expect(messenger.waiting.map(({ iova }) => iova)).toEqual([ringAt.eq]);
    vmm.move(MigState.stop);
    expect(messenger.waiting).toEqual([]);
    vmm.move(MigState.running);
    vmm.run();
    expect(messenger.answer().iova, "errors first").toBe(ringAt.aeq);
    vmm.run();
    expect(messenger.answer().iova).toBe(ringAt.eq);
    vmm.run();
    expect(messenger.memory.readUInt32LE(ringAt.eq)).toBe(0x10002);
    expect(messenger.memory.readUInt32LE(ringAt.aeq)).toBe(0x50003);
    expect(driver.irqs.map((irq) => irq.take())).toEqual([1, 1, 0]);
  });

  it("goes to the ring that is there when it is answered", () => {
    const { driver, vmm, pair, messenger } = byMessages();
    driver.command(command.eqc, 0, driver.eventContext(0x3000, 8));
    pair.submit(0, 0, 0, 1);
    vmm.run();
    driver.command(command.eqc, 0, driver.eventContext(0x5000, 8));
    messenger.answer();
    vmm.run();
    expect(messenger.answer().iova).toBe(0x5000);
    vmm.run();
    expect(driver.irqs[0]?.take()).toBe(1);
  });
});

/** Another device with such a state, of the same guest. */
function restored(image: Buffer, from: Bench) {
  const bench = makeBench({}, from.guest);
  const { vmm, vf } = bench;
  vmm.mapForMessages(0, bytes);
  vf.attach(from.messenger);
  vmm.move(MigState.resuming);
  vmm.load(image);
  expect(vmm.move(MigState.running)).toBe(0);
  return bench;
}

describe("a request that is stopped while messages write its output", () => {
  it("is written anew, not computed anew, where it goes on in the same process", () => {
    const { vmm, messenger, pair, plain, engine } = byMessages();
    pair.submit(source, source, 16, 0x20);
    vmm.run();
    messenger.answer();
    vmm.run();
    const write = messenger.waiting[0];
    messenger.memory.set(write?.bytes.subarray(0, 8) ?? [], source);
    vmm.move(MigState.stop);
    expect(messenger.waiting).toEqual([]);
    vmm.move(MigState.running);
    vmm.run();
    messenger.answer();
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    expect([plain(source), engine.served]).toEqual(["SIXTEEN\0LETTERS\x01", [0x20]]);
  });

  /** Up to the first message that writes; returns the state that another device gets. */
  function torn(to: number) {
    const bench = byMessages();
    const { vmm, messenger, pair } = bench;
    pair.submit(source, to, 16, 0x20);
    vmm.run();
    messenger.answer();
    vmm.run();
    expect(messenger.waiting.map(({ direction }) => direction)).toEqual([Direction.write]);
    vmm.move(MigState.stopCopy);
    return { ...bench, image: vmm.save() };
  }

  it("is served again elsewhere if its input is still there", () => {
    const from = torn(target);
    const { vmm, engine } = restored(from.image, from);
    vmm.run();
    from.messenger.answer();
    vmm.run();
    from.messenger.answer();
    vmm.run();
    expect(from.pair.cq.take((entry) => entry.readUInt16LE(14) & 1)).not.toBeNull();
    expect([from.plain(target), engine.served]).toEqual(["SIXTEEN\0LETTERS\x01", [0x20]]);
  });

  it("is an error elsewhere if it writes over its own input", () => {
    const from = torn(source);
    const { vmm, engine } = restored(from.image, from);
    vmm.run();
    const entry = from.driver.aeq.take((each) => (each.readUInt32LE(0) >>> 16) & 1);
    expect(entry?.readUInt32LE(0)).toBe(0x10002 | (AeqeType.cqeError << 17));
    expect([from.messenger.waiting, engine.served]).toEqual([[], []]);
  });

  /** Up to the message that writes the completion; returns the state that another device gets. */
  function answering() {
    const bench = byMessages();
    const { driver, vmm, messenger } = bench;
    const pair = new QueuePair(driver, 3, 8);
    const cq = { address: 0x2000, depth: 8 };
    driver.command(command.sqc, 3, driver.sqc(3, pair.sq, 8));
    driver.command(command.cqc, 3, driver.cqc(cq.address, cq.depth));
    pair.submit(source, source, 16, 0x20);
    for (let i = 0; i < 2; i++) {
      vmm.run();
      messenger.answer();
    }
    vmm.run();
    expect(messenger.waiting.map(({ iova }) => iova)).toEqual([cq.address]);
    vmm.move(MigState.stopCopy);
    return { ...bench, pair, cq, image: vmm.save() };
  }

  it("has its completion written elsewhere when nothing else was missing", () => {
    const from = answering();
    const { vmm, engine } = restored(from.image, from);
    vmm.run();
    expect(from.messenger.answer().iova).toBe(from.cq.address);
    vmm.run();
    expect(from.messenger.memory.readUInt16LE(from.cq.address + 14) & 1).toBe(1);
    expect([from.messenger.waiting, engine.served]).toEqual([[], []]);
    expect(from.driver.errors()).toEqual([]);
  });

  it("goes on behind a completion that was taken before", () => {
    const from = answering();
    const { vmm, vf, driver, engine } = restored(from.image, from);
    // The guest has seen it, and says so to the other device.
    driver.doorbell(3, ring.cq, 1, 1);
    vmm.run();
    expect([from.messenger.waiting, engine.served]).toEqual([[], []]);
    expect(vf.counters["requests completed"]).toBe(1);
    expect(from.driver.errors()).toEqual([]);
  });
});

describe("an event that is stopped while a message writes it", () => {
  const eq = 0x3000;

  /** The event of queue 5 is under way when queue 2 gets one too. */
  function telling() {
    const bench = byMessages();
    const { driver, vmm, messenger, pair } = bench;
    driver.command(command.eqc, 0, driver.eventContext(eq, 8));
    const other = driver.queue(5, 8);
    other.submit(0, 0, 0, 1);
    vmm.run();
    expect(messenger.waiting.map(({ iova }) => iova)).toEqual([eq]);
    pair.submit(0, 0, 0, 1);
    vmm.run();
    vmm.move(MigState.stopCopy);
    return { ...bench, image: vmm.save() };
  }

  it("is written again in its place, before any other", () => {
    const from = telling();
    const { vmm } = restored(from.image, from);
    vmm.run();
    from.messenger.answer();
    vmm.run();
    from.messenger.answer();
    vmm.run();
    const [first, second] = [eq, eq + 4].map((at) => from.messenger.memory.readUInt32LE(at));
    expect([first, second]).toEqual([0x10005, 0x10002]);
  });

  it("is not written again when the guest has taken it", () => {
    const from = telling();
    const { vmm, driver } = restored(from.image, from);
    driver.doorbell(0, ring.eq, 1);
    vmm.run();
    expect(from.messenger.answer().iova).toBe(eq + 4);
    expect(from.messenger.memory.readUInt32LE(eq + 4)).toBe(0x10002);
  });
});
