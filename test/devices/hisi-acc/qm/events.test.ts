import { describe, expect, it } from "vitest";
import { FunctionFaults } from "../../../../src/devices/hisi-acc/qm/state.ts";
import { AeqeType } from "../../../../src/spec/hisi-qm.ts";
import { PciIrq } from "../../../../src/spec/vfio.ts";
import { at, base, command, makeBench, memoryBytes, ring } from "./driver.ts";

const fault = FunctionFaults.mask;
const nowhere = base + memoryBytes;

/** A started driver with queues, and requests that do nothing but complete. */
function started(queues = 1, depth = 8, eqDepth = 2048, aeqDepth = 1024) {
  const bench = makeBench();
  const { driver, vmm } = bench;
  driver.start(eqDepth, aeqDepth);
  const pairs = Array.from({ length: queues }, (_, number) => driver.queue(number, depth));
  const submit = (queue = 0) => {
    pairs[queue]?.submit(0, 0, 0, 1);
    vmm.run();
  };
  const taken = () => driver.irqs.map((irq) => irq.take());
  return { ...bench, pairs, pair: pairs[0] as (typeof pairs)[0], submit, taken };
}

describe("events", () => {
  it("come once until the queue is armed again", () => {
    const { driver, submit, pair, taken } = started();
    submit();
    submit();
    submit();
    expect([taken(), driver.events().length]).toEqual([[1, 0, 0], 1]);
    expect(pair.poll(false)).toHaveLength(3);
    submit();
    expect(taken(), "nobody has armed it").toEqual([0, 0, 0]);
    expect(pair.poll(false)).toHaveLength(1);
    driver.doorbell(0, ring.cq, pair.cq.head, 1);
    expect(taken()).toEqual([0, 0, 0]);
    submit();
    expect([taken(), driver.events().length]).toEqual([[1, 0, 0], 1]);
  });

  it("come at once when the queue is armed too late", () => {
    const { driver, submit, pair, taken, vmm } = started();
    submit();
    taken();
    driver.events();
    submit();
    driver.doorbell(0, ring.cq, 1, 1);
    vmm.run();
    expect([taken(), driver.events()]).toEqual([[1, 0, 0], [{ queue: 0, type: 0 }]]);
    expect(pair.poll()).toHaveLength(2);
  });

  it("interrupt once until the EQ's doorbell, which finds what came meanwhile", () => {
    const { driver, submit, taken } = started(3);
    submit(0);
    submit(1);
    expect(taken()).toEqual([1, 0, 0]);
    driver.doorbell(0, ring.eq, 1);
    expect(taken(), "one is left").toEqual([1, 0, 0]);
    submit(2);
    expect(taken()).toEqual([0, 0, 0]);
    expect(driver.read(0x08), "source").toBe(1);
    driver.doorbell(0, ring.eq, 3);
    expect([taken(), driver.read(0x08)]).toEqual([[0, 0, 0], 0]);
  });

  it("wait for the mask", () => {
    const { driver, submit, taken } = started();
    driver.write(at.eqMask, 1);
    submit();
    expect([taken(), driver.read(0x08)]).toEqual([[0, 0, 0], 1]);
    driver.write(at.eqMask, 0);
    expect(taken()).toEqual([1, 0, 0]);
    driver.write(at.eqMask, 1);
    driver.write(at.eqMask, 0);
    expect(taken(), "it is one-shot").toEqual([0, 0, 0]);
  });

  it("of errors wait for their own mask", () => {
    const { driver, vmm, pair, taken } = started();
    driver.write(at.aeqMask, 1);
    pair.submit(nowhere, 0, 16, 1);
    vmm.run();
    expect([taken(), driver.read(0x00)]).toEqual([[0, 0, 0], 1]);
    driver.write(at.aeqMask, 0);
    expect(taken()).toEqual([0, 1, 0]);
    expect([driver.errors().length, driver.read(0x00)]).toEqual([1, 0]);
  });

  it("do not matter to a guest without an EQ", () => {
    const { driver, vmm } = makeBench();
    const pair = driver.queue(0, 4);
    for (let i = 0; i < 9; i++) {
      pair.submit(0, 0, 0, 1);
      vmm.run();
      expect(pair.poll(false)).toHaveLength(1);
    }
    driver.start();
    pair.submit(0, 0, 0, 1);
    vmm.run();
    expect(driver.events(), "it was armed all the time").toEqual([{ queue: 0, type: 0 }]);
  });

  it("are told of with a single vector too, but errors are not", () => {
    const { driver, vmm } = makeBench({ vectors: "single" });
    expect([0x310c, 0x3110, 0x3114, 0x3118, 0x311c].map((each) => driver.read(each))).toEqual([
      0x00010000, 0, 0, 0, 0x00040001,
    ]);
    driver.start();
    const pair = driver.queue(0);
    pair.submit(0, 0, 0, 1);
    vmm.run();
    expect(driver.irqs.map((irq) => irq.take())).toEqual([1, 0, 0]);
    driver.events();
    pair.submit(nowhere, 0, 16, 1);
    vmm.run();
    expect(driver.irqs.map((irq) => irq.take())).toEqual([0, 0, 0]);
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqeError }]);
  });

  it("are kept back by MSI's own masks", () => {
    const { driver, vmm, submit, taken } = started();
    const mask = vmm.capability(5) + 0x10;
    vmm.writeConfig(mask, 1);
    submit();
    expect([taken(), vmm.config(mask + 4)]).toEqual([[0, 0, 0], 1]);
    vmm.writeConfig(mask, 0);
    expect(taken()).toEqual([1, 0, 0]);
    vmm.disable(PciIrq.msi);
    driver.events();
  });
});

describe("overflow", () => {
  it("of a CQ stops its queue and tells of it; the others go on", () => {
    const { driver, vmm, submit, pairs, pair, taken, pf } = started(2, 4);
    for (let i = 0; i < 3; i++) submit();
    taken();
    driver.events();
    // The SQ has gone round once; the guest has looked at no completion.
    submit();
    expect(taken()).toEqual([0, 1, 0]);
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqOverflow }]);
    expect(pf.faults(1)).toBe(fault.cqOverflow);
    expect(pair.poll()).toHaveLength(3);
    pair.ring();
    vmm.run();
    expect(pair.poll(), "it is stopped").toEqual([]);
    submit(1);
    expect(pairs[1]?.poll()).toHaveLength(1);
    pair.restart();
    submit();
    expect(pair.poll()).toHaveLength(1);
  });

  it("of the EQ is told once, and no completion is lost", () => {
    const { driver, submit, pairs, taken, pf, vmm } = started(5, 8, 4);
    for (let queue = 0; queue < 5; queue++) submit(queue);
    expect(taken()).toEqual([1, 1, 0]);
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.eqOverflow }]);
    submit(3);
    submit(4);
    expect(driver.errors(), "once").toEqual([]);
    expect(pf.faults(1)).toBe(fault.eqOverflow);
    expect(driver.events().map(({ queue }) => queue)).toEqual([0, 1, 2]);
    for (const pair of pairs) expect(pair.poll().length).toBeGreaterThan(0);
    submit(4);
    expect(
      driver.events().map(({ queue }) => queue),
      "its queue is armed still",
    ).toEqual([4]);
    for (let queue = 0; queue < 4; queue++) submit(queue);
    expect(driver.errors(), "told anew").toEqual([{ queue: 0, type: AeqeType.eqOverflow }]);
    expect(vmm.device.busy).toBe(false);
  });

  it("of the AEQ leaves nothing but a fault", () => {
    const { driver, pairs, vmm, pf } = started(8, 8, 16, 4);
    for (const pair of pairs) pair.submit(nowhere, 0, 16, 1);
    vmm.run();
    expect(driver.errors()).toHaveLength(3);
    expect(pf.faults(1)).toBe(fault.queueMemory | fault.aeqOverflow);
    expect(vmm.device.busy).toBe(false);
  });

  it("goes round the AEQ with its phases", () => {
    const { driver, vmm, pairs } = started(3, 8, 16, 3);
    for (let round = 0; round < 10; round++) {
      for (const pair of pairs) {
        pair.submit(nowhere, 0, 16, 1);
        vmm.run();
        expect(driver.errors()).toEqual([{ queue: pair.number, type: AeqeType.cqeError }]);
        pair.restart();
      }
    }
  });
});

describe("memory that is not there", () => {
  it.each([
    ["an entry", (driver: Setup) => driver.sqc(0, nowhere - 127, 8), null],
    ["a ring of entries", (driver: Setup) => driver.sqc(0, nowhere, 8), null],
    ["addresses above all memory", (driver: Setup) => driver.sqc(0, 2 ** 64 - 2 ** 12, 8), null],
    ["completions", null, (driver: Setup) => driver.cqc(nowhere - 15, 8)],
    ["the last byte of a completion", null, (driver: Setup) => driver.cqc(nowhere - 1, 8)],
  ])("for %s stops the queue", (_what, sqc, cqc) => {
    const { driver, vmm, pair, taken, pf } = started();
    if (sqc !== null) expect(driver.command(command.sqc, 0, sqc(driver))).toBe(0);
    if (cqc !== null) expect(driver.command(command.cqc, 0, cqc(driver))).toBe(0);
    pair.submit(0, 0, 0, 1);
    vmm.run();
    expect([taken(), driver.errors()]).toEqual([
      [0, 1, 0],
      [{ queue: 0, type: AeqeType.cqeError }],
    ]);
    expect(pf.faults(1)).toBe(fault.queueMemory);
    pair.ring();
    vmm.run();
    expect(driver.errors()).toEqual([]);
  });

  it("for a request's input or output stops the queue", () => {
    const { driver, vmm, pair } = started();
    const buffer = driver.allocate(4096);
    for (const [source, target] of [
      [nowhere - 8, buffer],
      [buffer, nowhere - 8],
      [buffer, 0],
    ] as const) {
      const slot = pair.submit(source, target, 16, 1);
      pair.submit(buffer, buffer, 16, 1);
      vmm.run();
      expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqeError }]);
      expect([pair.status(slot), pair.poll()]).toEqual([0, []]);
      pair.restart();
    }
  });

  it("for an event is an overflow of the EQ", () => {
    const { driver, submit, pair, pf, taken } = started();
    driver.command(command.eqc, 0, driver.eventContext(nowhere, 16));
    submit();
    expect(taken()).toEqual([0, 1, 0]);
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.eqOverflow }]);
    expect(pf.faults(1)).toBe(fault.eventMemory | fault.eqOverflow);
    expect(pair.poll()).toHaveLength(1);
  });

  it("for an error event leaves nothing but a fault", () => {
    const { driver, pair, vmm, pf } = started();
    driver.command(command.aeqc, 0, driver.eventContext(nowhere, 16));
    pair.submit(nowhere, 0, 16, 1);
    vmm.run();
    expect(pf.faults(1)).toBe(fault.eventMemory | fault.queueMemory);
    expect(vmm.device.busy).toBe(false);
  });
});

type Setup = ReturnType<typeof makeBench>["driver"];
