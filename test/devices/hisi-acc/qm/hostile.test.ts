/** What a guest or a VMM may try. The bounds are counts of work, not of time. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../../../src/base/errno.ts";
import { inFlightMax, sliceRequestsMax } from "../../../../src/devices/hisi-acc/qm/requests.ts";
import { FunctionFaults } from "../../../../src/devices/hisi-acc/qm/state.ts";
import { AeqeType, guestBarBytes, qmBar, qmBarBytes } from "../../../../src/spec/hisi-qm.ts";
import { CapabilityId } from "../../../../src/spec/pci.ts";
import { Guest, Messenger, Vmm } from "../../../device/vmm.ts";
import { at, base, carved, command, makeBench, memoryBytes, ring } from "./driver.ts";

const nowhere = base + memoryBytes;
const { doorbell: doorbellFault } = FunctionFaults.mask;

const started = () => {
  const bench = makeBench();
  bench.driver.start();
  return { ...bench, pair: bench.driver.queue(0, 8), buffer: bench.driver.allocate(4096) };
};

describe("the control half", () => {
  it("is out of the guest's reach once it is carved off", () => {
    const { vf } = makeBench();
    const vmm = new Vmm(carved(vf));
    expect(vmm.device.regions[qmBar]).toMatchObject({ size: guestBarBytes, mmap: null });
    for (const offset of [0x8000, 0x8020, 0x8300, 0xfffc, 0x7ffd]) {
      expect(() => vmm.read(qmBar, offset)).toThrow(`${-errno.EINVAL}`);
      expect(vmm.write(qmBar, offset, 0xffffffff)).toBe(-errno.EINVAL);
    }
    expect(vmm.write(qmBar, 0x7ffc, 8, 8)).toBe(-errno.EINVAL);
    const whole = new Vmm(vf);
    for (let offset = 0x8000; offset < 0x8040; offset += 4) {
      expect(whole.read(qmBar, offset)).toBe(0);
    }
  });

  it("is not in the size that configuration space tells, over resets and migration too", () => {
    const { vf } = makeBench();
    const vmm = new Vmm(carved(vf));
    vmm.writeConfig(0x18, 0xffffffff);
    vmm.writeConfig(0x1c, 0xffffffff);
    expect([vmm.config(0x18), vmm.config(0x1c)]).toEqual([0xffff8004, 0xffffffff]);
    vmm.writeConfig(0x18, 0xfebd8000);
    expect(vmm.config(0x18)).toBe(0xfebd8004);
    const other = makeBench().vf;
    const wiring = vf.park();
    if (wiring === null) throw new Error("cannot be parked");
    other.unmapAllDma();
    expect(other.takeUp(wiring, vf.state.slice())).toBe(0);
    expect(new Vmm(carved(other)).config(0x18)).toBe(0xfebd8004);
    vmm.writeConfig(vmm.capability(CapabilityId.pciExpress) + 8, 1 << 15, 2);
    expect(vmm.config(0x18)).toBe(4);
  });
});

describe("doorbells", () => {
  it("for what is not there do nothing", () => {
    const { driver, vmm, vf, pf, pair, engine } = started();
    const doorbells: [number, number, number, number][] = [
      [1, ring.sq, 1, 0],
      [16, ring.sq, 1, 0],
      [0xfff, ring.sq, 1, 1],
      [1, ring.cq, 0, 1],
      [16, ring.cq, 0, 1],
      [0, ring.sq, 8, 0],
      [0, ring.sq, 0xffff, 0],
      [0, ring.cq, 8, 1],
      [0, 4, 0, 0],
      [0, 15, 0, 0],
      [0, ring.eq, 2048, 0],
      [0, ring.aeq, 1024, 0],
    ];
    for (const doorbell of doorbells) {
      vf.reset();
      driver.start();
      driver.install(pair);
      driver.doorbell(...doorbell);
      vmm.run();
      expect(pf.faults(1), doorbell.join()).toBe(doorbellFault);
    }
    driver.doorbell(0, ring.sq, 1, 0, 0x5555);
    vmm.run();
    expect([engine.served, driver.events(), driver.errors()]).toEqual([[], [], []]);
  });

  it("of other widths or places do nothing", () => {
    const { driver, vmm, vf, pair, engine } = started();
    pair.fill(0, 0, 0, 1);
    driver.write(at.queueDoorbell, 0);
    driver.write(at.queueDoorbell + 4, 1);
    const bytes = Buffer.alloc(32);
    bytes.writeUInt32LE(1, 4);
    bytes.writeUInt32LE(1, 8);
    bytes.writeUInt32LE(1, 12);
    vf.write(qmBar, at.queueDoorbell, bytes, 0, 16);
    vf.write(qmBar, at.queueDoorbell - 4, bytes, 0, 8);
    vf.write(qmBar, at.queueDoorbell + 4, bytes, 0, 8);
    vf.write(qmBar, at.queueDoorbell + 2, bytes, 0, 8);
    vf.write(qmBar, at.queueDoorbell, bytes, 0, 7);
    vmm.run();
    expect(engine.served).toEqual([]);
    pair.ring();
    vmm.run();
    expect(engine.served).toEqual([1]);
  });

  it("in a storm cost no more than there are requests", () => {
    const { driver, vmm, engine, pair } = started();
    for (let i = 0; i < 20_000; i++) {
      driver.doorbell(i & 0xfff, (i >>> 2) & 0xf, (i * 7) & 0xf, i & 1);
    }
    let slices = 0;
    for (; vmm.device.busy; slices++) vmm.device.work();
    expect(slices).toBeLessThan(10);
    expect(engine.served.length).toBeLessThanOrEqual(2 * sliceRequestsMax);
    pair.restart();
    pair.submit(0, 0, 0, 3);
    vmm.run();
    expect(engine.served.at(-1)).toBe(3);
  });
});

describe("a mailbox storm", () => {
  it("leaves a mailbox that works", () => {
    const { driver, vmm } = makeBench();
    fc.assert(
      fc.property(
        fc.array(
          fc.tuple(
            fc.integer({ min: 0, max: 0xffff }),
            fc.integer({ min: 0, max: 0xffff }),
            fc.oneof(fc.bigInt(0n, 2n ** 64n - 1n), fc.constant(BigInt(base)), fc.constant(0n)),
          ),
          { maxLength: 30 },
        ),
        (commands) => {
          for (const [head, queue, address] of commands) driver.storeMailbox(head, queue, address);
          vmm.run();
          expect(driver.command(command.vft, 0, 0, true)).toBe(0);
          expect(driver.result).toBe(0x0001_f010_0000_0000n);
        },
      ),
      { numRuns: 100 },
    );
  });
});

describe("rings", () => {
  it("that overlap each other and themselves come to an end", () => {
    const { driver, vmm, vf } = makeBench();
    driver.start();
    for (let queue = 0; queue < 16; queue++) {
      driver.command(command.sqc, queue, driver.sqc(queue, base, 4096));
      driver.command(command.cqc, queue, driver.cqc(base + 8 * queue, 4096));
    }
    driver.command(command.eqc, 0, driver.eventContext(base, 65_536));
    driver.command(command.aeqc, 0, driver.eventContext(base + 2, 65_536));
    for (let queue = 0; queue < 16; queue++) driver.doorbell(queue, ring.sq, 4095);
    let slices = 0;
    for (; vmm.device.busy; slices++) vmm.device.work();
    expect(slices).toBeLessThan(16 * 4096);
    expect(vf.reset()).toBe(0);
  });

  it("outside of all maps, or over their ends, cost one error", () => {
    const { driver, vmm, pf } = makeBench();
    driver.start();
    for (const [queue, address] of [0, nowhere, base - 64, 2 ** 63, 2 ** 64 - 4096].entries()) {
      driver.command(command.sqc, queue, driver.sqc(queue, address, 4096));
      driver.command(command.cqc, queue, driver.cqc(address, 4096));
      driver.doorbell(queue, ring.sq, 4095);
      vmm.run();
      expect(driver.errors()).toEqual([{ queue, type: AeqeType.cqeError }]);
    }
    expect(pf.faults(1)).toBe(FunctionFaults.mask.queueMemory);
  });

  it("across two maps work as if they were one", () => {
    const { driver, vmm, vf } = makeBench();
    const [low, high] = [new Guest(0x10000, 0x1000), new Guest(0x11000, 0x1000)];
    vmm.map(low);
    vmm.map(high);
    driver.start();
    const pair = driver.queue(0, 4);
    const sqe = driver.guest.read(pair.sqeAddress(pair.fill(0, 0, 0, 9)), 128);
    low.write(0x10fc0, sqe.subarray(0, 64));
    high.write(0x11000, sqe.subarray(64));
    driver.command(command.sqc, 0, driver.sqc(0, 0x10fc0, 4));
    driver.command(command.cqc, 0, driver.cqc(0x10ff8, 4));
    driver.doorbell(0, ring.sq, 1);
    vmm.run();
    expect(high.read(0x11000 + 0x30, 4).readUInt32LE(0), "the status").toBe(0x100);
    expect(high.read(0x11006, 2).readUInt16LE(0), "the phase").toBe(1);
    expect(vf.unmapDma(0x11000, 0x1000)).toBe(0);
    driver.doorbell(0, ring.sq, 2);
    vmm.run();
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqeError }]);
  });

  it("that are read-only cannot be written", () => {
    const { driver, vmm } = started();
    const guest = new Guest(0x10000, 0x1000);
    vmm.map(guest, { readable: true, writable: false });
    driver.command(command.cqc, 0, driver.cqc(0x10000, 8));
    driver.doorbell(0, ring.sq, 1);
    vmm.run();
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqeError }]);
    expect(guest.read(0x10000, 16)).toEqual(Buffer.alloc(16));
  });
});

describe("a request", () => {
  it("that is rewritten while it is served was read before", () => {
    const { driver, vmm, guest, pair, buffer, compute } = started();
    guest.write(buffer, Buffer.from("sixteen letters!"));
    const slot = pair.submit(buffer, buffer + 64, 16, 0x20, true);
    vmm.run();
    guest.write(pair.sqeAddress(slot), Buffer.alloc(128, 0xff));
    driver.guest.write(buffer, Buffer.alloc(16, 0xff));
    compute.finish();
    vmm.run();
    expect(guest.read(buffer + 64, 16).toString()).toBe("SIXTEEN\0LETTERS\x01");
    expect(guest.read(pair.sqeAddress(slot), 4), "only the status is written").toEqual(
      Buffer.alloc(4, 0xff),
    );
  });

  it("whose memory goes while it computes ends with an error and no completion", () => {
    const { driver, vmm, vf, pair, compute } = started();
    const guest = new Guest(0x10000, 0x1000);
    vmm.map(guest);
    pair.submit(0x10000, 0x10000, 16, 0xff, true);
    vmm.run();
    vf.unmapDma(0x10000, 0x1000);
    compute.finish();
    vmm.run();
    expect(driver.errors()).toEqual([{ queue: 0, type: AeqeType.cqeError }]);
    expect([pair.poll(), guest.read(0x10000, 1)[0]]).toEqual([[], 0]);
  });

  it("that computes for ever keeps a bounded number of others company", () => {
    const { driver, vmm, compute } = makeBench({ queues: 64 });
    driver.start(2048, 1024, 64);
    for (let queue = 0; queue < 64; queue++) driver.queue(queue, 4).submit(0, 0, 0, 1, true);
    vmm.run();
    expect([compute.waiting.length, vmm.device.busy]).toEqual([inFlightMax, false]);
  });

  it("whose queue is installed anew again and again ends once", () => {
    const { driver, vmm, vf, pair, compute, engine } = started();
    for (let i = 0; i < 100; i++) {
      pair.submit(0, 0, 0, 1, true);
      vmm.run();
      expect(compute.waiting).toHaveLength(1);
      pair.restart();
      vmm.run();
      expect([compute.waiting.length, vf.busy]).toEqual([0, false]);
    }
    pair.submit(0, 0, 0, 2);
    vmm.run();
    expect([engine.served, pair.poll().length, driver.errors()]).toEqual([[2], 1, []]);
  });
});

describe("a VMM that never answers", () => {
  it("holds up nothing but what waits for it, and a reset ends that", () => {
    const { driver, vmm, vf, pair } = started();
    const messenger = new Messenger(64);
    vf.attach(messenger);
    vmm.mapForMessages(0, 4096);
    const mute = driver.queue(1, 4);
    mute.submit(0, 0, 16, 1);
    driver.storeMailbox(0x2000 | command.sqc, 5, 0);
    pair.submit(0, 0, 0, 1);
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    expect(vf.busy).toBe(false);
    vf.reset();
    expect([messenger.waiting, driver.command(command.vft, 0, 0, true)]).toEqual([[], 0]);
  });
});

describe("any access to the BAR", () => {
  it("is answered, and leaves a function that a reset brings back", () => {
    const access = fc.record({
      offset: fc.oneof(
        fc.integer({ min: 0, max: qmBarBytes - 1 }),
        fc.constantFrom(0, 4, 0xc, 0x20, 0x24, 0x2c, 0x204, 0x300, 0x308, 0x30c, 0x1000, 0x2000),
        fc.constantFrom(0x8000, 0x8018, 0x8020, 0x8038, 0x8300, 0x830c),
      ),
      count: fc.constantFrom(1, 2, 4, 8, 16),
      bytes: fc.uint8Array({ minLength: 16, maxLength: 16 }),
      write: fc.boolean(),
    });
    const { driver, vmm, vf } = makeBench();
    fc.assert(
      fc.property(fc.array(access, { maxLength: 60 }), (accesses) => {
        driver.start();
        driver.command(command.sqc, 1, driver.sqc(1, base, 16));
        for (const { offset, count, bytes, write } of accesses) {
          const outside = offset + count > qmBarBytes;
          const into = Buffer.alloc(16);
          const result = write
            ? vf.write(qmBar, offset, bytes, 0, count)
            : vf.read(qmBar, offset, into, 0, count);
          expect(result < 0).toBe(outside);
          if (vf.busy) vf.work();
        }
        vmm.run();
        vf.reset();
        expect(driver.command(command.vft, 0, 0, true)).toBe(0);
      }),
      { numRuns: 40 },
    );
  });
});
