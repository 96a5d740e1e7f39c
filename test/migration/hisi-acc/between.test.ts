/** States that are in the middle of something, and functions that are not what they were. */
import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import type { Section } from "../../../src/migration/driver.ts";
import {
  eventProblem,
  queueProblem,
  sentEvent,
  sentQueue,
} from "../../../src/migration/drivers/hisi-acc/contexts.ts";
import {
  AccSection,
  FunctionEntry,
  QueueEntry,
} from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccVfData } from "../../../src/spec/acc-vf-data.ts";
import { Qm } from "../../../src/spec/hisi-qm.ts";
import { QueueFlags, WindowFlags } from "../../../src/spec/hisi-qm-control.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { at, command, QueuePair } from "../../devices/hisi-acc/qm/driver.ts";
import { readAll } from "../operator.ts";
import { arrive, boot, controls, Host } from "./bench.ts";
import { changed, savedSections, streamOf, withSection } from "./streams.ts";
import { expectToWork, prepared, refused } from "./worked.ts";

const { running, stop, stopCopy, resuming } = MigState;
const { vfData, queues, function: whole } = AccSection;

describe.each(controls)("a state that was loaded (%s)", (control) => {
  it("and has not run goes on to the next host as it came", () => {
    const { source, host, good } = prepared(control);
    const stream = good();
    expect(host.load(stream)).toMatchObject({ result: 0 });
    expect(host.move(stopCopy)).toMatchObject({ result: 0 });
    const onward = readAll(host.device);
    const next = new Host(control);
    expect(next.load(onward), next.device.refusal).toMatchObject({ result: 0 });
    const target = arrive(source, next);
    expect(next.move(running)).toMatchObject({ result: 0 });
    expectToWork(target);
  });

  it("gives way to another one, or to a reset", () => {
    const { host, good } = prepared(control);
    host.load(good());
    const idle = savedSections(new Host(control));
    expect(host.load(streamOf(host, idle.values()))).toMatchObject({ result: 0 });
    expect(host.register("EQC", 6)).toBe(0);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(boot(host));
    const other = prepared(control);
    other.host.load(other.good());
    other.host.device.reset();
    expect(other.host.register("EQC", 6)).toBe(0);
    expectToWork(boot(other.host));
  });

  it("waits in STOP until the guest's memory is there", () => {
    if (control === "own") return;
    const { source, host, good } = prepared(control);
    host.load(good());
    expect(host.move(running).result, "the tables cannot be written").toBe(-errno.EFAULT);
    expect(host.device.migrationState).toBe(stop);
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expectToWork(target);
  });

  it("moves to and fro again and again", () => {
    let machine = boot(new Host(control));
    for (let i = 0; i < 5; i++) {
      expectToWork(machine);
      const stream = machine.host.save();
      const host = new Host(control);
      host.load(stream);
      machine = arrive(machine, host);
      expect(host.move(running)).toMatchObject({ result: 0 });
    }
    expectToWork(machine);
  });
});

describe("a guest that moves while it sets a queue up", () => {
  const orders = [
    ["sqc", "cqc"],
    ["cqc", "sqc"],
  ] as const;
  const ways = controls.flatMap((from) => controls.map((to) => [from, to] as const));
  const cases = ways.flatMap((way) => orders.map((order) => [...way, ...order] as const));

  /** Gives a context of a queue to the device. */
  const give = ({ driver, cq, sq, number, depth }: QueuePair, which: "sqc" | "cqc"): number => {
    const sqc = driver.sqc(number, sq, depth, { w13: 1 << 8 });
    const address = which === "sqc" ? sqc : driver.cqc(cq.address, depth);
    return driver.command(command[which], number, address);
  };

  it.each(cases)("%s to %s: has its %s there, and gives its %s", (from, to, first, second) => {
    const source = boot(new Host(from));
    const pair = new QueuePair(source.driver, 3, 4);
    expect(give(pair, first)).toBe(0);
    const stream = source.host.save();
    const host = new Host(to);
    expect(host.load(stream), host.device.refusal).toMatchObject({ result: 0 });
    const target = arrive({ ...source, pairs: [...source.pairs, pair] }, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expect(give(target.pairs.at(-1)!, second)).toBe(0);
    expectToWork(target);
  });
});

describe("whatever a function holds", () => {
  const word = fc.oneof(
    fc.constantFrom(0, 1, 0x7003, 0x4003, 0xffffffff),
    fc.integer({ min: 0, max: 0xffffffff }),
  );
  const context = fc.array(word, { minLength: 8, maxLength: 8 });
  const queue = fc.record({
    number: fc.nat(1023),
    flags: fc.nat(QueueFlags.all),
    sqc: context,
    cqc: context,
  });

  it("what is sent of a queue is what every target takes", () => {
    fc.assert(fc.property(queue, (each) => queueProblem(sentQueue(each, 7), 7) === null));
  });

  it("what is sent of an event queue, too", () => {
    const words = fc.array(word, { minLength: 7, maxLength: 7 });
    fc.assert(fc.property(words, (each) => eventProblem(sentEvent(each)) === null));
  });
});

describe("what only a control half of its own takes", () => {
  const { sections, host: own } = prepared("own");
  const [data, list, entry] = [vfData, queues, whole].map((kind) => sections.get(kind)) as [
    Section,
    Section,
    Section,
  ];
  const { flags } = QueueEntry.get(new DataView(list.bytes.buffer), 0);
  const { event } = QueueFlags.mask;

  it.each<[string, Section]>([
    [
      "section queues: queue 0 has more to tell",
      changed(list, QueueEntry, { flags: flags | event }),
    ],
    ["section queues: they have no tables", changed(data, AccVfData, { cqcTable: 0 })],
    [
      "section function: the contexts are not in their tables",
      changed(entry, FunctionEntry, { tablesWritten: 0 }),
    ],
    [
      "section function: the EQ has more to tell",
      changed(entry, FunctionEntry, { flags: WindowFlags.mask.eqOverflow }),
    ],
    [
      "section function: messages of the PF wait",
      changed(entry, FunctionEntry, { messages: 1, incoming: [3, 0, 0, 0, 0, 0, 0, 0] }),
    ],
  ])("silicon says: %s", (sentence, section) => {
    const all = withSection(sections, section);
    const silicon = new Host("silicon");
    expect(refused(silicon, streamOf(silicon, all))).toBe(sentence);
    expect(own.load(streamOf(own, all)), own.device.refusal).toMatchObject({ result: 0 });
  });

  it("a guest whose tables lie nowhere stays, for silicon would not take its queues up", () => {
    const machine = boot(new Host("own"));
    machine.driver.command(command.sqcTable, 0, 2 ** 40);
    const sections = savedSections(machine.host);
    const silicon = new Host("silicon");
    const said = refused(silicon, streamOf(silicon, sections.values()));
    expect(said).toBe("section function: the contexts are not in their tables");
    expect(machine.host.move(running)).toMatchObject({ result: 0 });
    expectToWork(machine);
  });
});

describe("the control half", () => {
  const still = { hold: 1, still: 3 };
  const numbersOf = (sections: ReadonlyMap<number, Section>): number[] => {
    const { buffer, byteOffset, length } = sections.get(queues)?.bytes ?? new Uint8Array();
    const view = new DataView(buffer, byteOffset, length);
    const places = Array.from({ length: length / QueueEntry.size }, (_, i) => i * QueueEntry.size);
    return places.map((place) => QueueEntry.get(view, place).number);
  };

  it("replaces nothing of a function that moves", () => {
    const { host, driver } = boot(new Host("own"));
    const control = (head: number): number => {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32LE(0x2000 | head);
      host.control.device.write(2, 0x8300, bytes, 0, 16);
      return host.register("CONTROL_MAILBOX");
    };
    const failed = 0x200;
    for (const head of [0x80, 0x81]) {
      expect(control(head)).toBe(failed | head);
      host.control.write(2, 0x8310, still.hold);
      expect(control(head)).toBe(failed | head);
      host.control.write(2, 0x8310, still.still);
      expect(control(head | 0x4000), "what it shows").toBe(head | 0x4000);
      expect(control(head), "it takes").toBe(head);
      host.control.write(2, 0x8310, 0);
    }
    expect(driver.command(0x80), "the guest's mailbox has it not").toBe(1);
    expect(driver.command(0x81)).toBe(1);
    expect(driver.command(command.pause)).toBe(1);
  });

  it("takes no queue and no function that makes no sense", () => {
    const { host } = boot(new Host("own"));
    host.control.write(2, 0x8310, still.still);
    const set = (offset: number, value: number, head: number): number => {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32LE(0x6000 | (head & 0xff));
      host.control.device.write(2, 0x8300, bytes, 0, 16);
      host.control.write(2, offset, value);
      bytes.writeUInt32LE(0x2000 | head);
      host.control.device.write(2, 0x8300, bytes, 0, 16);
      return (host.register("CONTROL_MAILBOX") >>> 9) & 0xf;
    };
    const oneQueue = 0x80 | (1 << 16);
    expect(set(0x8800, 0, oneQueue), "as it is").toBe(0);
    expect(set(0x8800, 16, oneQueue), "no such queue").toBe(1);
    expect(set(0x8804, 0x4000, oneQueue), "flags").toBe(1);
    expect(set(0x8808, 4, oneQueue), "head").toBe(1);
    expect(set(0x8828, 4, oneQueue), "the CQ's head").toBe(1);
    const twoQueues = 0x80 | (2 << 16);
    expect(set(0x8850, 4, twoQueues), "the second one's head").toBe(0);
    expect(set(0x8850, 5, twoQueues), "one more").toBe(1);
    expect(set(0x8800, 0, 0x80 | (33 << 16)), "more than it shows").toBe(1);
    expect(set(0x8480, 0x80, 0x81), "flags").toBe(1);
    expect(set(0x8484, 0x40, 0x81), "faults").toBe(1);
    expect(set(0x8490, 5, 0x81), "messages").toBe(1);
  });

  it("shows the queues that there are, and of a thousand others nothing is asked", () => {
    const { host } = boot(new Host("own", { queues: 1024 }), [
      [3, 4],
      [900, 5],
    ]);
    const begun = host.accesses.length;
    expect(numbersOf(savedSections(host))).toEqual([3, 900]);
    expect(host.accesses.length - begun).toBeLessThan(100);
  });

  it("is gone through as often as it takes, there and back", () => {
    const many = Array.from({ length: 70 }, (_, i) => [3 * i, 4] as const);
    const machine = boot(new Host("own", { queues: 256 }), many, 256);
    const sections = savedSections(machine.host);
    expect(numbersOf(sections)).toEqual(many.map(([number]) => number));
    const next = new Host("own", { queues: 256 });
    const stream = streamOf(next, sections.values());
    expect(next.load(stream), next.device.refusal).toMatchObject({ result: 0 });
    const arrived = arrive(machine, next);
    expect(next.move(running)).toMatchObject({ result: 0 });
    expectToWork(arrived);
    expect(numbersOf(savedSections(next))).toEqual(many.map(([number]) => number));
  });

  it.each<[string, keyof typeof Qm.at, number, number]>([
    ["a queue once more", "CONTROL_MAILBOX", 8, 0],
    ["queues that it is to show next time", "CONTROL_MAILBOX", 8, 9],
    ["more queues than it has room for", "CONTROL_MAILBOX", 4, 33],
    ["queues that there are not", "QUEUE_WINDOW", 0, 16],
    ["queues in another order", "QUEUE_WINDOW", 72, 0],
  ])("that shows %s is none", (_, register, at, value) => {
    const { host } = boot(new Host("own"));
    const { read } = host.control.device;
    host.control.device.read = (...access) => {
      const result = read.apply(host.control.device, access);
      const [, offset, bytes, place, count] = access;
      if (offset === Qm.at[register] && count >= 16) bytes[place + at] = value;
      return result;
    };
    expect(host.move(stopCopy)).toMatchObject({ result: -errno.EIO });
    expect(host.device.migrationState).toBe(stop);
  });

  it("is not there on silicon, and a guest has neither", () => {
    const { host, driver, pairs } = boot(new Host("silicon"));
    host.control.write(2, 0x8310, still.still);
    expect(host.register("STANDSTILL")).toBe(0);
    pairs[0]?.submit(0, 0, 0, 1);
    host.vmm.run();
    expect(pairs[0]?.poll()).toHaveLength(1);
    expect(host.vmm.write(2, 0x8310, still.still)).toBe(-errno.EINVAL);
    expect(driver.read(at.isolation)).toBe(0);
    expect(host.device.migrationState).not.toBe(resuming);
  });

  it("is forgotten by a reset", () => {
    const machine = boot(new Host("own"));
    machine.host.control.write(2, 0x8310, still.still);
    machine.host.device.reset();
    machine.host.device.detach();
    expect(machine.host.register("STANDSTILL")).toBe(0);
    expectToWork(boot(machine.host));
  });
});
