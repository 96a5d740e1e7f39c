/** How long a register read can wait for a slice of work, by a clock that only work moves. */
import { performance } from "node:perf_hooks";
import { afterEach, describe, expect, it, vi } from "vitest";
import { inlineCostMax } from "../../../../src/devices/hisi-acc/compute.ts";
import { Fiber, stepBytesMax } from "../../../../src/devices/hisi-acc/qm/fiber.ts";
import { inFlightMax, sliceMs } from "../../../../src/devices/hisi-acc/qm/requests.ts";
import { pending } from "../../../../src/memory/transfer.ts";
import { AeqeType } from "../../../../src/spec/hisi-qm.ts";
import { MigState } from "../../../../src/spec/vfio.ts";
import { Guest } from "../../../device/vmm.ts";
import { base, makeBench } from "./driver.ts";

const queues = 2 * inFlightMax;
const inlineMs = inlineCostMax / 1e6;
/** Bytes that memory gives in a millisecond, for the clock. */
const bytesPerMs = 4e6;
const stepMs = stepBytesMax / bytesPerMs;
const sourceBytes = 1 << 22;

afterEach(() => {
  vi.restoreAllMocks();
});

/** A function with as many busy queues as it has; what work costs moves the clock. */
function busyBench() {
  const bench = makeBench({ queues }, new Guest(base, 32 << 20));
  const { driver, vf, compute } = bench;
  driver.start(2048, 1024, queues);
  const pairs = Array.from({ length: queues }, (_, number) => driver.queue(number, 8));
  let nowMs = 0;
  const read = vf.memory.read.bind(vf.memory);
  vi.spyOn(performance, "now").mockImplementation(() => nowMs);
  vi.spyOn(vf.memory, "read").mockImplementation((iova, bytes, at, length) => {
    nowMs += length / bytesPerMs;
    return read(iova, bytes, at, length);
  });
  compute.inline = (cost) => {
    nowMs += cost / 1e6;
  };
  /** Works to the end: the longest slice in milliseconds of the clock, and how many there were. */
  const run = () => {
    let [longestMs, slices] = [0, 0];
    for (; vf.busy; slices++) {
      const begunMs = nowMs;
      vf.work();
      longestMs = Math.max(longestMs, nowMs - begunMs);
    }
    return { longestMs, slices };
  };
  return { ...bench, pairs, run };
}

describe("a slice of work", () => {
  it("ends behind the computation that used its time up, of new requests", () => {
    const { pairs, run, engine } = busyBench();
    for (const pair of pairs) pair.submit(0, 0, 0, 1, 2);
    const { longestMs, slices } = run();
    expect(engine.served).toHaveLength(queues);
    expect(longestMs).toBeLessThanOrEqual(sliceMs + inlineMs);
    expect(slices).toBeGreaterThanOrEqual(queues);
  });

  it("ends behind the computation that used its time up, of requests under way", () => {
    const { driver, pairs, run, engine } = busyBench();
    const source = driver.allocate(sourceBytes);
    for (const pair of pairs) pair.submit(source, source, stepBytesMax + 1, 1, 2);
    const { longestMs, slices } = run();
    expect(engine.served).toHaveLength(queues);
    expect(longestMs).toBeLessThanOrEqual(sliceMs + stepMs + inlineMs);
    expect(slices).toBeGreaterThanOrEqual(queues);
  });

  it.each([sourceBytes, stepBytesMax + 4096, 65_536, 48])(
    "reads no more of a long source than a step may, in pieces of %i bytes",
    (pieceBytes) => {
      const { vf } = busyBench();
      const fiber = new Fiber(vf.memory);
      const bytes = new Uint8Array(pieceBytes);
      const pieces = Math.ceil(sourceBytes / pieceBytes);
      fiber.start(
        (function* () {
          for (let i = 0; i < pieces; i++) yield* fiber.read(base, bytes, 0, pieceBytes);
          return 0;
        })(),
      );
      const reads = vi.mocked(vf.memory.read).mock.calls;
      let steps = 1;
      for (reads.length = 0; fiber.step(0) === pending; steps++) {
        expect(fiber.ready(0), "it goes on by itself").toBe(true);
        const stepBytes = reads.splice(0).reduce((sum, [, , , length]) => sum + length, 0);
        expect(stepBytes).toBe(stepBytesMax);
      }
      expect(steps).toBe(Math.ceil((pieces * pieceBytes) / stepBytesMax));
    },
  );

  it("ends in time while as many long sources as can be are read at once", () => {
    const { driver, pairs, run, engine } = busyBench();
    const source = driver.allocate(sourceBytes);
    for (const pair of pairs) pair.submit(source, source, sourceBytes, 0);
    const { longestMs } = run();
    expect(engine.served).toHaveLength(queues);
    expect(longestMs).toBeLessThanOrEqual(sliceMs + 2 * stepMs);
  });
});

/** One request of `sourceBytes` that works in place, and what must come of it. */
function inPlace() {
  const bench = makeBench({}, new Guest(base, 32 << 20));
  const { driver, guest, vf } = bench;
  driver.start();
  const pair = driver.queue(3, 4);
  const buffer = driver.allocate(sourceBytes);
  const before = Buffer.alloc(sourceBytes, "in place");
  const after = before.map((byte) => byte ^ 0x20);
  guest.write(buffer, before);
  pair.submit(buffer, buffer, sourceBytes, 0x20);
  const content = () => guest.read(buffer, sourceBytes);
  /** Works for so many slices, unless it is done before. */
  const work = (slices: number) => {
    for (let i = 0; i < slices && vf.busy; i++) vf.work();
  };
  return { ...bench, pair, buffer, before, after, content, work };
}

describe("a long output", () => {
  const parts = sourceBytes / stepBytesMax;

  it("is written in parts, its status and completion last", () => {
    const { vf, pair, after, content } = inPlace();
    const write = vi.spyOn(vf.memory, "write");
    let slices = 0;
    for (; vf.busy; slices++) {
      write.mockClear();
      vf.work();
      const bytes = write.mock.calls.reduce((sum, [, , , length]) => sum + length, 0);
      expect(bytes).toBeLessThan(2 * stepBytesMax + 1);
    }
    expect(slices).toBeGreaterThanOrEqual(parts);
    expect([content().compare(after), pair.poll().length]).toEqual([0, 1]);
  });

  it("is right whichever slice of its request is the last before a stop", () => {
    for (let slices = 0; ; slices++) {
      const { vmm, vf, pair, after, content, work, engine } = inPlace();
      work(slices);
      const wasDone = !vf.busy;
      vmm.move(MigState.stop);
      vmm.move(MigState.running);
      vmm.run();
      expect([slices, content().compare(after), pair.poll().length]).toEqual([slices, 0, 1]);
      expect(engine.served, "nothing is computed over its own output").toHaveLength(1);
      if (wasDone) break;
    }
  });

  it("ends with an error where its memory goes away in the middle", () => {
    const { vf, vmm, driver, pair } = inPlace();
    const short = new Guest(0x10_0000, sourceBytes);
    vmm.map(short);
    vmm.run();
    expect(pair.poll()).toHaveLength(1);
    pair.submit(short.iova, short.iova, sourceBytes, 0x20);
    const write = vi.spyOn(vf.memory, "write");
    while (write.mock.calls.length === 0) vf.work();
    expect(vf.unmapDma(short.iova, sourceBytes)).toBe(0);
    vmm.run();
    expect([pair.poll(), driver.errors()]).toEqual([[], [{ queue: 3, type: AeqeType.cqeError }]]);
  });

  it("is not gone on with when its queue is installed anew", () => {
    const { vf, vmm, pair, engine, driver } = inPlace();
    const write = vi.spyOn(vf.memory, "write");
    while (write.mock.calls.length === 0) vf.work();
    pair.restart();
    write.mockClear();
    vmm.run();
    expect([write.mock.calls.length, pair.poll(), driver.errors()]).toEqual([0, [], []]);
    pair.submit(0, 0, 0, 7);
    vmm.run();
    expect([pair.poll().length, engine.served]).toEqual([1, [0x20, 7]]);
  });
});

describe("queues", () => {
  it("with long sources or computations do not keep a new request from its turn", () => {
    const { driver, vf, pairs, engine } = busyBench();
    const source = driver.allocate(sourceBytes);
    const [last, ...hogs] = pairs.toReversed();
    for (const pair of hogs.slice(0, inFlightMax - 1)) pair.submit(source, source, sourceBytes, 1);
    for (let slices = 0; slices < inFlightMax; slices++) vf.work();
    last?.submit(0, 0, 0, 0x77);
    for (let slices = 0; slices < 2; slices++) vf.work();
    expect(engine.served).toEqual([0x77]);
  });

  it("each get their turn, however long the others' steps take", () => {
    const { driver, vf, pairs, engine } = busyBench();
    const source = driver.allocate(sourceBytes);
    const busy = pairs.slice(0, inFlightMax);
    for (const pair of busy) {
      for (let i = 0; i < 4; i++) pair.fill(source, source, stepBytesMax + 1, pair.number, 2);
      pair.ring();
    }
    while (engine.served.length < 2 * inFlightMax) vf.work();
    expect(new Set(engine.served).size).toBe(inFlightMax);
  });
});
