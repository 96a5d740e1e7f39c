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
    expect(control(0x80 | (16 << 16)), "no such queue").toBe(failed | 0x80 | (16 << 16));
    expect(driver.command(0x80), "the guest's mailbox has it not").toBe(1);
    expect(driver.command(0x81)).toBe(1);
    expect(driver.command(command.pause)).toBe(1);
  });

  it("takes no queue and no function that makes no sense", () => {
    const { host } = boot(new Host("own"));
    host.control.write(2, 0x8310, still.still);
    const set = (offset: number, value: number, head: number): number => {
      const bytes = Buffer.alloc(16);
      bytes.writeUInt32LE(0x6000 | head);
      host.control.device.write(2, 0x8300, bytes, 0, 16);
      host.control.write(2, offset, value);
      bytes.writeUInt32LE(0x2000 | head);
      host.control.device.write(2, 0x8300, bytes, 0, 16);
      return (host.register("CONTROL_MAILBOX") >>> 9) & 0xf;
    };
    expect(set(0x8440, 0x4000, 0x80), "flags").toBe(1);
    expect(set(0x8400, 4, 0x80), "head").toBe(1);
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
    const saved = savedSections(host).get(queues)?.bytes ?? new Uint8Array();
    const view = new DataView(saved.buffer, saved.byteOffset, saved.length);
    const numbers = [0, 1].map((place) => QueueEntry.get(view, place * QueueEntry.size).number);
    expect(numbers).toEqual([3, 900]);
    expect(host.accesses.length - begun).toBeLessThan(300);
  });

  it("that shows a queue once more is none", () => {
    const { host } = boot(new Host("own"));
    const { read } = host.control.device;
    host.control.device.read = (...access) => {
      const result = read.apply(host.control.device, access);
      const [, offset, bytes, place, count] = access;
      // The number of the queue that a command of the control half has shown.
      if (offset === Qm.at.CONTROL_MAILBOX && count === 16) bytes[place + 4] = 0;
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
