/**
 * What a hostile guest may try with the real engines, by name, each with the bound that holds it.
 * Bounds are counts of work, not of time. Behind each attack a reset brings back a function that
 * works, and nothing was touched beside the memory that the guest was given.
 */
import { randomBytes } from "node:crypto";
import { readdirSync } from "node:fs";
import { deflateRawSync } from "node:zlib";
import { afterEach, describe, expect, it, vi } from "vitest";
import { workersMax } from "../../../../src/devices/hisi-acc/compute.ts";
import { HpreEngine } from "../../../../src/devices/hisi-acc/hpre/engine.ts";
import { stepBytesMax } from "../../../../src/devices/hisi-acc/qm/fiber.ts";
import { inFlightMax, sliceRequestsMax } from "../../../../src/devices/hisi-acc/qm/requests.ts";
import { Sec2Engine } from "../../../../src/devices/hisi-acc/sec2/engine.ts";
import { ZipEngine } from "../../../../src/devices/hisi-acc/zip/engine.ts";
import { AeqeType } from "../../../../src/spec/hisi-qm.ts";
import { sglEntriesMax } from "../../../../src/spec/hisi-sgl.ts";
import { ZipDw3, ZipSqe, ZipStatus, zipBytesMax } from "../../../../src/spec/hisi-zip.ts";
import { PollSet } from "../../../../src/sys/poll.ts";
import { at, base, command, QueuePair, ring } from "../qm/driver.ts";
import { cbcEntry, inflateEntry, listOf, rsaEntry } from "./entries.ts";
import { makeTarget, slicesOf, type Target } from "./guarded.ts";

const open: Target[] = [];
function attacked(engine = new Sec2Engine() as Parameters<typeof makeTarget>[0], size = 8 << 20) {
  const made = makeTarget(engine, size);
  made.driver.start(2048, 1024, 64);
  open.push(made);
  return made;
}

afterEach(() => {
  vi.restoreAllMocks();
  for (const { vf, driver, guest, compute } of open.splice(0)) {
    expect(vf.reset()).toBe(0);
    expect(driver.command(command.vft, 0, 0, true), "it works after a reset").toBe(0);
    vf.detach();
    compute.close();
    expect(guest.touched, "memory beside what is mapped").toBe(0);
  }
});

/** Writes an entry to the next slot of a queue, which is told of it later. */
function put(pair: QueuePair, sqe: Uint8Array): void {
  pair.driver.guest.write(pair.sq + pair.tail * sqe.length, sqe);
  pair.tail = (pair.tail + 1) % pair.depth;
}

/** Works until every request has ended, in compute workers too. */
function finish({ vf }: Target): void {
  const poll = new PollSet(8);
  for (let turns = 0; ; turns++) {
    if (turns > 20_000) throw new Error("requests do not end");
    slicesOf({ vf }, 100_000);
    const { watches } = vf;
    if (watches.length === 0) return;
    poll.clear();
    for (const { fd } of watches) poll.add(fd, 1);
    if (poll.wait(1000) > 0) for (const each of watches) each.ready();
  }
}

describe("rings", () => {
  it("of depth 0 or a huge one serve what they hold, in bounded slices", () => {
    const { driver, vf, guest } = attacked();
    const [zero, cq] = [driver.queue(0, 4096), driver.queue(1, 2)];
    const key = driver.allocate(4096);
    const before = guest.read(key, 16);
    const sqe = cbcEntry(key, 16, key);
    for (let slot = 0; slot < 4096; slot++) put(zero, sqe);
    driver.command(command.sqc, 0, driver.sqc(0, zero.sq, 0));
    driver.command(command.cqc, 0, driver.cqc(zero.cq.address, 0));
    driver.doorbell(0, ring.sq, 4095);
    expect(slicesOf({ vf }, 8192)).toBeGreaterThanOrEqual(4095 / sliceRequestsMax);
    expect(zero.poll()).toHaveLength(4095);
    expect(guest.read(key, 16)).not.toEqual(before);
    for (const depth of [0, 1]) {
      const status = driver.command(command.sqc, 1, driver.sqc(1, cq.sq, depth));
      expect(status === 0, `depth ${depth}`).toBe(depth === 0);
    }
  });

  it("outside or across the ends of DMA maps cost an error each and no other access", () => {
    const { driver, vf, guest } = attacked();
    const end = base + guest.mappedBytes;
    const places = [0, base - 4096, base - 64, end - 64, end, 2 ** 53, 2 ** 64 - 4096];
    for (const [queue, place] of places.entries()) {
      driver.command(command.sqc, queue, driver.sqc(queue, place, 4096));
      driver.command(command.cqc, queue, driver.cqc(place, 4096));
      const write = vi.spyOn(vf.memory, "write");
      driver.doorbell(queue, ring.sq, 4095);
      expect(slicesOf({ vf }, 4)).toBeLessThanOrEqual(2);
      expect(driver.errors()).toEqual([{ queue, type: AeqeType.cqeError }]);
      expect(write.mock.results.filter(({ value }) => value === 0).length).toBeLessThanOrEqual(1);
      write.mockRestore();
    }
  });

  it("that overlap each other, the tables and the events end after what they hold", () => {
    const target = attacked();
    const { driver } = target;
    for (let queue = 0; queue < 8; queue++) {
      driver.command(command.sqc, queue, driver.sqc(queue, base, 4096));
      driver.command(command.cqc, queue, driver.cqc(base + 8 * queue, 4096));
    }
    driver.command(command.eqc, 0, driver.eventContext(base, 65_536));
    driver.command(command.aeqc, 0, driver.eventContext(base + 2, 65_536));
    driver.command(command.sqcTable, 0, base);
    driver.command(command.cqcTable, 0, base + 16);
    for (let queue = 0; queue < 8; queue++) driver.doorbell(queue, ring.sq, 4095);
    driver.write(at.writeBack, 1);
    expect(slicesOf(target, 8 * 4096)).toBeLessThan(8 * 4096);
  });
});

describe("lists", () => {
  it("that loop, to themselves or to each other, are read once", () => {
    const target = attacked();
    const { driver, vf, guest } = target;
    const pair = driver.queue(0, 16);
    const [one, two, key] = [driver.allocate(4096), driver.allocate(4096), driver.allocate(4096)];
    guest.write(one, listOf([[one, 64]], 1, one));
    guest.write(
      two,
      listOf(
        [
          [two, 32],
          [one, 32],
        ],
        2,
        one,
      ),
    );
    put(pair, cbcEntry(one, 64, key, true));
    put(pair, cbcEntry(two, 64, key, true));
    put(pair, cbcEntry(one, 128, key, true));
    const read = vi.spyOn(vf.memory, "read");
    pair.ring();
    finish(target);
    expect(read.mock.calls.length).toBeLessThanOrEqual(3 * 8);
    expect([pair.poll().length, driver.errors()]).toEqual([3, []]);
  });

  it("and entries with counts and lengths that lie read and write what their bounds allow", () => {
    const target = attacked();
    const { driver, vf, guest } = target;
    const [list, key] = [driver.allocate(16_384), driver.allocate(4096)];
    const read = vi.spyOn(vf.memory, "read");
    const word = () => randomBytes(4).readUInt32LE(0);
    let completed = 0;
    for (let round = 0; round < 80; round++) {
      const pair = driver.queue(round % 64, 4);
      const pieces = Array.from({ length: 255 }, (_, i) => [base + 64 * i, word() >>> (i % 32)]);
      guest.write(list, listOf(pieces as [number, number][], word() & 0x1ff));
      const sqe = Buffer.from(cbcEntry(list, word() & 0xff_fff0, key, (round & 1) === 0));
      if (round % 4 === 3) sqe.writeUInt32LE(word(), 4 * (word() % 32));
      read.mockClear();
      put(pair, sqe);
      pair.ring();
      finish(target);
      const bytes = read.mock.calls.reduce((sum, [, , , length]) => sum + length, 0);
      expect(bytes).toBeLessThan(2 ** 24 + 2 ** 16 + 32 * (sglEntriesMax + 64));
      completed += pair.poll().length;
    }
    expect(completed).toBeGreaterThan(0);
  });
});

describe("memory", () => {
  it("with descriptors and lists rewritten between any two slices stays within its map", () => {
    const target = attacked();
    const { driver, vf, guest } = target;
    const pairs = Array.from({ length: 16 }, (_, queue) => driver.queue(queue, 16));
    const [list, data, key] = [
      driver.allocate(4096),
      driver.allocate(1 << 20),
      driver.allocate(64),
    ];
    for (let round = 0; round < 8; round++) {
      for (const pair of pairs) {
        pair.restart();
        for (let i = 0; i < 15; i++) put(pair, cbcEntry(list, 600_000, key, true));
        pair.ring();
      }
      for (let slices = 0; vf.busy && slices < 60; slices++) {
        const pieces = [
          [data, randomBytes(4).readUInt32LE(0)],
          [data + 2 ** 21, 2 ** 31],
        ] as const;
        guest.write(list, slices % 3 === 0 ? randomBytes(128) : listOf(pieces));
        guest.write(pairs[slices % 16]?.sq ?? 0, randomBytes(512));
        vf.work();
      }
    }
    for (const pair of pairs) pair.restart();
    finish(target);
  });

  it("unmapped behind any slice of a request ends it with one error or one completion", () => {
    const target = attacked(new Sec2Engine(), 16 << 20);
    const { driver, vf, vmm, guest } = target;
    const length = 3 * stepBytesMax;
    const key = driver.allocate(4096);
    for (let slices = 0; slices < 24; slices++) {
      const pair = driver.queue(slices, 4);
      put(pair, cbcEntry(base + 2 ** 23, length, key));
      pair.ring();
      for (let i = 0; i < slices; i++) vf.work();
      expect(vf.unmapDma(guest.iova, guest.mappedBytes)).toBe(0);
      vmm.run();
      expect(guest.map(vf)).toBe(0);
      finish(target);
      expect(pair.poll().length).toBeLessThanOrEqual(1);
      driver.errors();
    }
  });
});

describe("storms", () => {
  it("of doorbells, also for missing queues, leave no more work than there are requests", () => {
    const target = attacked();
    const { driver, vf } = target;
    const pairs = Array.from({ length: 4 }, (_, queue) => driver.queue(queue, 16));
    const key = driver.allocate(4096);
    for (const pair of pairs) for (let i = 0; i < 15; i++) put(pair, cbcEntry(key, 16, key));
    const read = vi.spyOn(vf.memory, "read");
    for (let i = 0; i < 100_000; i++) {
      driver.doorbell((i * 7) & 0xfff, i & 0xf, (i * 5) & 0xffff, i & 1);
    }
    expect(read.mock.calls.length, "a doorbell itself reads nothing").toBe(0);
    expect(slicesOf(target, 64)).toBeLessThanOrEqual(8);
    for (const pair of pairs) expect(pair.poll(false).length).toBeLessThanOrEqual(15);
  });

  it("of commands do a bounded piece of work each, and leave a mailbox that answers", () => {
    const { driver, vf } = attacked();
    const read = vi.spyOn(vf.memory, "read");
    const write = vi.spyOn(vf.memory, "write");
    for (let i = 0; i < 20_000; i++) {
      driver.storeMailbox(0x2000 | (i & 0xff), i & 0x7f, BigInt(base) + BigInt(i));
      expect(read.mock.calls.length + write.mock.calls.length).toBeLessThanOrEqual(2);
      if (vf.busy) vf.work();
      read.mockClear();
      write.mockClear();
    }
    slicesOf({ vf }, 64);
    expect(driver.command(command.vft, 0, 0, true)).toBe(0);
  });

  it("of zip bombs make no more output than a request may have, and no more threads", () => {
    const target = attacked(new ZipEngine(), 32 << 20);
    const { driver, guest, vf } = target;
    const bomb = deflateRawSync(Buffer.alloc(4 * zipBytesMax));
    const [source, room] = [driver.allocate(bomb.length), driver.allocate(zipBytesMax)];
    guest.write(source, bomb);
    const before = readdirSync("/proc/self/task").length;
    const write = vi.spyOn(vf.memory, "write");
    const pairs = Array.from({ length: 16 }, (_, queue) => driver.queue(queue, 4, 1));
    for (const pair of pairs) {
      for (let i = 0; i < 3; i++) {
        put(pair, inflateEntry(source, bomb.length, room, 0xffff_ffff));
      }
    }
    for (const { number, tail } of pairs) driver.doorbell(number, ring.sq, tail);
    write.mockClear();
    finish(target);
    const most = Math.max(...write.mock.calls.map(([, , , length]) => length));
    expect(most, "nothing of a bomb is written").toBeLessThanOrEqual(64);
    expect(readdirSync("/proc/self/task").length - before).toBeLessThanOrEqual(3 * workersMax + 2);
    for (const pair of pairs) {
      expect(pair.poll()).toHaveLength(3);
      const dw3 = guest.read(pair.sqeAddress(0) + ZipSqe.offset.dw3, 4).readUInt32LE(0);
      expect(ZipDw3.unpack(dw3).status).toBe(ZipStatus.destinationTooSmall);
    }
  });

  it("of RSA-4096 keep a bounded number under way, and end with a reset", () => {
    const target = attacked(new HpreEngine());
    const { driver, guest, vf } = target;
    const [key, input, output] = [
      driver.allocate(4096),
      driver.allocate(4096),
      driver.allocate(4096),
    ];
    const numbers = randomBytes(1024);
    numbers[512] = 0xff;
    numbers[1023] = 0xff;
    guest.write(key, numbers);
    for (let queue = 0; queue < 64; queue++) {
      const pair = new QueuePair(driver, queue, 16);
      const lastSlot64 = 15 | (6 << 12);
      driver.command(command.sqc, queue, driver.sqc(queue, pair.sq, 16, { dw3: lastSlot64 }));
      driver.command(command.cqc, queue, driver.cqc(pair.cq.address, 16));
      for (let i = 0; i < 15; i++) put(pair, rsaEntry(key, input, output, 512));
      pair.ring();
    }
    expect(slicesOf({ vf }, 4 * inFlightMax)).toBeLessThanOrEqual(2 * inFlightMax);
    expect([vf.busy, vf.watches.length], "it waits for its workers").toEqual([false, 1]);
    expect(driver.read(at.vfState)).toBe(0);
    expect(vf.reset()).toBe(0);
    expect([vf.busy, vf.watches.length]).toEqual([false, 0]);
  });
});

describe("interrupts", () => {
  it("masked and never acknowledged are raised never, and once when they are unmasked", () => {
    const target = attacked();
    const { driver } = target;
    driver.write(at.eqMask, 1);
    driver.write(at.aeqMask, 1);
    driver.command(command.eqc, 0, driver.eventContext(driver.allocate(64), 4));
    const key = driver.allocate(4096);
    const pairs = Array.from({ length: 32 }, (_, queue) => driver.queue(queue, 64));
    let slices = 0;
    for (const pair of pairs) {
      for (let i = 0; i < 300; i++) put(pair, cbcEntry(key, 16, key));
      for (let i = 0; i < 8; i++) {
        driver.doorbell(pair.number, ring.sq, (i * 63) % 64);
        slices += slicesOf(target, 64);
      }
    }
    expect(slices).toBeLessThan(32 * 16);
    expect(driver.irqs.map((irq) => irq.take())).toEqual([0, 0, 0]);
    driver.write(at.eqMask, 0);
    driver.write(at.aeqMask, 0);
    expect(driver.irqs.map((irq) => irq.take())).toEqual([1, 1, 0]);
    expect(driver.errors().length, "an overflow of the EQ, and one of each CQ").toBeLessThan(34);
  });
});
