import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { at, command, makeBench, ring } from "./driver.ts";

describe("a queue's rings", () => {
  it.each([
    [2, 3],
    [3, 2],
    [4, 4],
    [5, 7],
    [16, 8],
  ])("of %i entries, with an EQ of %i, go round and keep their phases", (depth, eqDepth) => {
    const { driver, vmm, engine } = makeBench();
    driver.start(eqDepth, 4);
    const pair = driver.queue(7, depth);
    const buffer = driver.allocate(4096);
    let interrupts = 0;
    let done = 0;
    for (let i = 0; i < 5 * depth * eqDepth; i++) {
      const slot = pair.submit(buffer, buffer, 4, i & 0xff);
      vmm.run();
      interrupts += driver.irqs[0]?.take() ?? 0;
      expect(driver.events()).toEqual([{ queue: 7, type: 0 }]);
      expect(pair.poll()).toEqual([{ sqHead: slot, sqNumber: 7 }]);
      done += 1;
    }
    expect([interrupts, engine.served.length]).toEqual([done, done]);
    expect(driver.errors()).toEqual([]);
  });

  it("complete in order, whatever comes at once and however deep they are", () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 2, max: 9 }),
        fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 1, maxLength: 12 }),
        fc.boolean(),
        (depth, batches, polled) => {
          const { driver, vmm, engine } = makeBench();
          driver.start();
          const pair = driver.queue(1, depth);
          const buffer = driver.allocate(4096);
          const expected: number[] = [];
          for (const batch of batches) {
            const slots: number[] = [];
            for (let i = 0; i < Math.min(batch, depth - 1); i++) {
              slots.push(pair.fill(buffer, buffer, 1, expected.length));
              expected.push(expected.length);
            }
            pair.ring();
            vmm.run();
            if (!polled) expect(driver.events()).toEqual([{ queue: 1, type: 0 }]);
            expect(pair.poll(!polled).map(({ sqHead }) => sqHead)).toEqual(slots);
          }
          expect(engine.served).toEqual(expected);
        },
      ),
      { numRuns: 60 },
    );
  });

  it("of the largest depth go round", () => {
    const { driver, vmm, engine } = makeBench();
    driver.start();
    const pair = driver.queue(0, 4096);
    const buffer = driver.allocate(4096);
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 4095; i++) pair.fill(buffer, buffer, 1, i & 0xff);
      pair.ring();
      vmm.run();
      expect(pair.poll()).toHaveLength(4095);
    }
    expect(engine.served).toHaveLength(3 * 4095);
  });

  it("are served in turn, and in bounded slices", () => {
    const { driver, vmm, engine } = makeBench();
    driver.start();
    const buffer = driver.allocate(4096);
    const pairs = Array.from({ length: 16 }, (_, number) => driver.queue(number, 64));
    for (const pair of pairs) {
      for (let i = 0; i < 20; i++) pair.fill(buffer, buffer, 1, pair.number);
      pair.ring();
    }
    let slices = 0;
    for (; vmm.device.busy; slices++) {
      const before = engine.served.length;
      vmm.device.work();
      expect(engine.served.length - before).toBeLessThanOrEqual(64);
    }
    expect(slices).toBeGreaterThanOrEqual(5);
    for (let turn = 0; turn < 20; turn++) {
      const each = engine.served.slice(16 * turn, 16 * turn + 16);
      expect(each).toEqual(pairs.map(({ number }) => number));
    }
  });

  it("go on while another queue's request computes", () => {
    const { driver, vmm, compute } = makeBench();
    driver.start();
    const [slow, fast] = [driver.queue(0), driver.queue(1)];
    const buffer = driver.allocate(4096);
    const first = slow.submit(buffer, buffer, 4, 1, true);
    const second = slow.submit(buffer, buffer, 4, 2);
    vmm.run();
    expect([compute.waiting.length, vmm.device.busy, driver.read(0x200)]).toEqual([1, false, 1]);
    fast.submit(buffer, buffer, 4, 3);
    vmm.run();
    expect([fast.poll().length, slow.poll().length]).toEqual([1, 0]);
    compute.finish();
    expect(vmm.device.busy).toBe(true);
    vmm.run();
    expect(slow.poll().map(({ sqHead }) => sqHead)).toEqual([first, second]);
    expect(driver.read(0x200)).toBe(0);
  });

  it("take the guest's output, status and completion in one slice", () => {
    const { driver, vmm, guest } = makeBench();
    driver.start();
    const pair = driver.queue(0);
    const buffer = driver.allocate(4096);
    const slot = pair.submit(buffer, buffer + 64, 4, 0xff, true);
    vmm.run();
    expect([guest.read(buffer + 64, 4).readUInt32LE(0), pair.status(slot)]).toEqual([0, 0]);
  });
});

describe("stopping", () => {
  const withRequests = () => {
    const bench = makeBench();
    bench.driver.start();
    const pair = bench.driver.queue(4);
    const buffer = bench.driver.allocate(4096);
    const submit = (long = false) => pair.submit(buffer, buffer, 4, 1, long);
    return { ...bench, pair, submit };
  };

  it("a queue finishes its requests first, and takes no more afterwards", () => {
    const { driver, vmm, pair, submit, compute } = withRequests();
    submit();
    submit(true);
    submit();
    driver.storeMailbox(0x2000 | command.stopQueue, 4, 0);
    vmm.run();
    expect(driver.read(at.mailbox) & 0x2000, "a long one is under way").not.toBe(0);
    submit();
    compute.finish();
    vmm.run();
    expect(driver.read(at.mailbox)).toBe((4 << 16) | command.stopQueue);
    expect(pair.poll(), "the one that came too late is not among them").toHaveLength(3);
    pair.ring();
    vmm.run();
    expect(pair.poll()).toEqual([]);
    pair.restart();
    submit();
    vmm.run();
    expect(pair.poll(), "a new context starts it again").toHaveLength(1);
  });

  it("flush does it for all, and what is installed anew works", () => {
    const { driver, vmm, submit, pair } = withRequests();
    submit();
    const other = driver.queue(5);
    expect(driver.command(command.flush)).toBe(0);
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    other.submit(0, 0, 0, 1);
    vmm.run();
    expect(other.poll()).toEqual([]);
    other.restart();
    other.submit(0, 0, 0, 1);
    vmm.run();
    expect(other.poll()).toHaveLength(1);
  });

  it("pause finishes what is under way, keeps doorbells, and a resume doorbell goes on", () => {
    const { driver, vmm, pair, submit, compute } = withRequests();
    submit(true);
    vmm.run();
    driver.storeMailbox(0x2000 | command.pause, 0, 0);
    expect(driver.read(at.mailbox) & 0x2000).not.toBe(0);
    submit();
    compute.finish();
    vmm.run();
    expect(driver.read(at.mailbox)).toBe(command.pause);
    expect(pair.poll()).toHaveLength(1);
    submit();
    vmm.run();
    expect(pair.poll()).toEqual([]);
    for (let queue = 0; queue < 16; queue++) driver.doorbell(queue, ring.sq, 0, 1);
    vmm.run();
    expect(pair.poll(), "index 0 was not taken for a tail").toHaveLength(2);
  });

  it("a stop of a paused function does not wait for what is not served", () => {
    const { driver, vmm, submit, pair } = withRequests();
    expect(driver.command(command.pause)).toBe(0);
    submit();
    expect(driver.command(command.stopQueue, 4)).toBe(0);
    vmm.run();
    expect(pair.poll()).toEqual([]);
  });

  it("a drain without STOP_QP can be seen in dumped contexts", () => {
    const { driver, vmm, submit, guest, compute } = withRequests();
    const dump = driver.allocate(64);
    const tails = () => {
      driver.command(command.sqc, 4, dump, true);
      driver.command(command.cqc, 4, dump + 32, true);
      return [guest.read(dump + 2, 2).readUInt16LE(0), guest.read(dump + 34, 2).readUInt16LE(0)];
    };
    submit(true);
    vmm.run();
    expect(tails()).toEqual([1, 0]);
    compute.finish();
    vmm.run();
    expect(tails()).toEqual([1, 1]);
  });
});
