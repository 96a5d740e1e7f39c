/** Streams, and guests, that want to do harm. */
import { describe, expect, it } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import type { Section } from "../../../src/migration/driver.ts";
import {
  AccSection,
  FunctionEntry,
  QueueEntry,
} from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccMatch, AccVfData } from "../../../src/spec/acc-vf-data.ts";
import { qmBar } from "../../../src/spec/hisi-qm.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { Messenger } from "../../device/vmm.ts";
import { at, command, ring } from "../../devices/hisi-acc/qm/driver.ts";
import { arrive, boot, controls, Host, type Machine } from "./bench.ts";
import { savedSections, streamOf, withSection, withWord } from "./streams.ts";

const { running, stop, stopCopy, resuming } = MigState;
const { vfData, queues } = AccSection;
const busy = 0x2000;
const extremes = [0, 1, 3, 0x1f, 0x20, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff];

interface Shape {
  readonly size: number;
  readonly offset: Readonly<Record<string, number>>;
}

/** The words of a structure, one after the other, by the names of their fields. */
function wordsOf(shape: Shape): [string, number][] {
  const starts = Object.entries(shape.offset);
  return Array.from({ length: shape.size / 4 }, (_, index) => {
    const name = starts.findLast(([, start]) => start <= 4 * index)?.[0] ?? "";
    return [`${name} (${4 * index})`, 4 * index];
  });
}

function expectToWork({ host, driver, pairs }: Machine): void {
  driver.write(at.eqMask, 0);
  for (let i = 0; i < 3; i++) {
    for (const pair of pairs) pair.submit(0, 0, 0, 1);
    host.vmm.run();
    driver.events();
    for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
  }
}

const shapes: [number, string, Shape][] = [
  [AccSection.vfData, "acc-vf-data", AccVfData],
  [AccSection.queues, "queues", QueueEntry],
  [AccSection.function, "function", FunctionEntry],
];

describe.each(controls)("hostile streams (%s)", (control) => {
  const source = boot(new Host(control));
  expectToWork(source);
  source.pairs[0]?.submit(0, 0, 0, 9);
  const sections = savedSections(source.host);

  it.each(shapes)("every word of section 0x%i (%s) with extreme values", (kind, name, shape) => {
    const host = new Host(control);
    let refusals = 0;
    for (const [field, offset] of wordsOf(shape)) {
      for (const value of extremes) {
        const what = `${field}=${value}`;
        const section = withWord(sections.get(kind) as Section, offset, value);
        const { result } = host.load(streamOf(host, withSection(sections, section)));
        if (result < 0) {
          refusals += 1;
          expect(host.device.migrationState, what).toBe(resuming);
          expect(host.device.refusal, what).toMatch(new RegExp(`section.*${name}`));
          continue;
        }
        host.vmm.map(source.guest);
        expect([0, -errno.EFAULT], what).toContain(host.move(running).result);
        host.vmm.run();
        expect(host.device.busy, what).toBe(false);
        host.device.reset();
        host.device.detach();
      }
    }
    expect(refusals, "most of them make no sense").toBeGreaterThan(shape.size);
    host.device.reset();
    expectToWork(boot(host));
  });

  it("sections that are too long, too short, twice, unknown or missing", () => {
    const host = new Host(control);
    const [data, list] = [sections.get(vfData), sections.get(queues)] as [Section, Section];
    const bad: [Section[], string][] = [
      [[], "the stream has no section acc-vf-data"],
      [[data, data], "there is a second one"],
      [[{ ...data, kind: 0x1ff }], "it is unknown here"],
      [[{ ...data, version: 2 }], "it is of version 2, not 1"],
      [[{ ...data, bytes: data.bytes.subarray(1) }], "it has 175 bytes, not 176 or 40"],
      [[{ ...data, bytes: data.bytes.slice(0, 40) }], "its vfQmState is 0, but there is no more"],
      [[data, { ...list, bytes: list.bytes.subarray(1) }], "its 143 bytes are no queues"],
      [[data, { ...list, bytes: new Uint8Array(17 * QueueEntry.size) }], "it has 17 of 16 queues"],
      [[data, { ...list, bytes: Buffer.concat([list.bytes, list.bytes]) }], "is not above the one"],
    ];
    for (const [all, sentence] of bad) {
      expect(host.load(streamOf(host, all)), sentence).toMatchObject({ result: -errno.EINVAL });
      expect(host.device.refusal).toContain(sentence);
    }
    const extra = { ...data, kind: 0x1ff, optional: true };
    expect(host.load(streamOf(host, [...sections.values(), extra]))).toMatchObject({ result: 0 });
  });

  it("queues of a function that no driver runs", () => {
    const host = new Host(control);
    const idle = savedSections(new Host(control)).get(vfData) as Section;
    expect(idle.bytes).toHaveLength(AccMatch.size);
    const list = sections.get(queues) as Section;
    host.load(streamOf(host, [idle, list]));
    expect(host.device.refusal).toContain("section queues has queues, section acc-vf-data says");
  });
});

describe.each(controls)("hostile guests (%s)", (control) => {
  /** A command that does not end: its context is to come by a message, and nobody answers. */
  function busyForEver() {
    const machine = boot(new Host(control));
    const messenger = new Messenger(4096);
    machine.host.vf.attach(messenger);
    machine.host.vmm.mapForMessages(0, 4096);
    machine.driver.storeMailbox(command.sqc | busy, 5, 0x100);
    return { ...machine, messenger };
  }

  it("a mailbox that is busy for ever", () => {
    const machine = busyForEver();
    const { host, driver, messenger } = machine;
    const start = host.clock.ms;
    const { result, report } = host.move(stopCopy);
    expect(result).toBe(control === "own" ? 0 : -errno.EBUSY);
    expect(host.clock.ms - start).toBeLessThan(3000);
    expect(report.phases.at(-1)?.phase).toBe(control === "own" ? "save" : "undo freeze");
    host.move(running);
    host.vmm.run();
    messenger.answer(-errno.EIO);
    host.vmm.run();
    expect(driver.read(at.mailbox) & busy).toBe(0);
    expectToWork(machine);
  });

  it("a command that does not end goes on where the function goes", () => {
    const source = busyForEver();
    if (control === "silicon") return;
    const sections = savedSections(source.host);
    const host = new Host(control);
    expect(host.load(streamOf(host, sections.values()))).toMatchObject({ result: 0 });
    const target = arrive(source, host);
    const messenger = new Messenger(4096);
    host.vf.attach(messenger);
    host.vmm.mapForMessages(0, 4096);
    const sqc = target.driver.sqc(5, target.driver.allocate(4096), 8);
    messenger.memory.set(target.guest.read(sqc, 32), 0x100);
    expect(host.move(running)).toMatchObject({ result: 0 });
    expect(target.driver.read(at.mailbox) & busy).not.toBe(0);
    messenger.answer();
    host.vmm.run();
    expect(target.driver.read(at.mailbox), "done").toBe(command.sqc | (5 << 16));
    expectToWork(target);
  });

  it.each([1, 2, 3])("a mailbox of which %i words are stored", (words) => {
    const source = boot(new Host(control));
    const { driver, host } = source;
    const stored = [busy | 0x4000 | command.vft, 0x55, 0x66, 0].slice(0, words);
    for (const [i, word] of stored.entries()) driver.write(at.mailbox + 4 * i, word);
    const stream = host.save();
    host.move(running);
    const next = new Host(control);
    expect(next.load(stream), next.device.refusal).toMatchObject({ result: 0 });
    const target = arrive(source, next);
    next.move(running);
    for (const machine of [source, target]) {
      for (const [i, word] of stored.entries()) {
        expect(machine.driver.read(at.mailbox + 4 * i)).toBe(word);
      }
      for (let i = words; i < 4; i++) machine.driver.write(at.mailbox + 4 * i, 0);
      expect(machine.driver.read(at.mailbox), "it runs when it is whole").toBe(0x4006);
      expect(machine.driver.read(at.mailbox + 8)).toBe(0x1f010);
      expectToWork(machine);
    }
  });

  it("finds in its mailbox what was there, here and there", () => {
    const source = boot(new Host(control));
    source.driver.command(command.vft, 0, 0, true);
    const words = () => source.host.control.bytes(qmBar, at.mailbox, 16).toString("hex");
    const before = words();
    const stream = source.host.save();
    source.host.move(running);
    expect(words()).toBe(before);
    const host = new Host(control);
    host.load(stream);
    arrive(source, host);
    host.move(running);
    expect(host.control.bytes(qmBar, at.mailbox, 16).toString("hex")).toBe(before);
  });

  it("tables where there is no memory, rings where none can be", () => {
    const machine = boot(new Host(control));
    const { host, driver } = machine;
    driver.command(command.sqcTable, 0, 2 ** 60);
    const odd = driver.allocate(4096) + 8;
    driver.command(command.sqc, 3, driver.sqc(3, odd, 8));
    driver.command(command.cqc, 3, driver.cqc(odd + 2048, 8));
    const { result } = host.move(stopCopy);
    if (control === "silicon") {
      expect(result, "its contexts can be read nowhere").toBe(-errno.EFAULT);
      return expectToWork(machine);
    }
    expect(result).toBe(0);
    host.move(stop);
    const sections = savedSections(host);
    const next = new Host(control);
    expect(next.load(streamOf(next, sections.values())), next.device.refusal).toMatchObject({
      result: 0,
    });
    const target = arrive(machine, next);
    expect(next.move(running)).toMatchObject({ result: 0 });
    next.vmm.run();
    expect(target.driver.errors(), "it hears of it").toEqual([{ queue: 3, type: 2 }]);
    expectToWork(target);
  });

  it("every register with all ones, and doorbells for everything", () => {
    const machine = boot(new Host(control));
    const { host, driver } = machine;
    for (let offset = 0; offset < 0x3200; offset += 4) host.vmm.write(qmBar, offset, 0xffffffff);
    for (let kind = 0; kind < 4; kind++) {
      for (const queue of [0, 9, 15, 0xfff]) driver.doorbell(queue, kind, 0xffff, 1, 0xffff);
    }
    host.vmm.run();
    const { result } = host.move(stopCopy);
    expect(result).toBe(0);
    host.move(stop);
    const sections = savedSections(host);
    const next = new Host(control);
    expect(next.load(streamOf(next, sections.values())), next.device.refusal).toMatchObject({
      result: 0,
    });
  });

  it("requests that take too long", () => {
    const source = boot(new Host(control));
    const { host, pairs } = source;
    for (const pair of pairs) pair.submit(0, 0, 0, 0x33, true);
    host.vmm.run();
    const start = host.clock.ms;
    const { result } = host.move(stopCopy);
    expect(host.clock.ms - start).toBeLessThan(5000);
    expect(result).toBe(control === "own" ? 0 : -errno.ETIMEDOUT);
    expect(host.register("ACTIVE") === 0, "ended, to run again").toBe(control === "own");
    if (control === "silicon") {
      for (let i = 0; i < 2; i++) host.compute.finish();
      host.vmm.run();
      source.driver.events();
      for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
      return expectToWork(source);
    }
    host.move(stop);
    const sections = savedSections(host);
    const next = new Host(control);
    next.load(streamOf(next, sections.values()));
    const target = arrive(source, next);
    next.move(running);
    next.vmm.run();
    for (let i = 0; i < 2; i++) next.compute.finish();
    next.vmm.run();
    target.driver.events();
    for (const pair of target.pairs) expect(pair.poll()).toHaveLength(1);
    expect([host.engine.served, next.engine.served]).toEqual([[], [0x33, 0x33]]);
  });

  it("a drain that lasts longer than the move", () => {
    const source = boot(new Host(control));
    const { host, driver, pairs } = source;
    pairs[0]?.submit(0, 0, 0, 0x11, true);
    pairs[0]?.submit(0, 0, 0, 0x12);
    host.vmm.run();
    driver.storeMailbox(command.stopQueue | busy, 0, 0);
    const { result } = host.move(stopCopy);
    if (control === "silicon") expect(result).toBe(-errno.EBUSY);
    else expect(result).toBe(0);
    host.move(running);
    host.vmm.run();
    expect(driver.read(at.mailbox) & busy, "it is not over").not.toBe(0);
    host.compute.finish();
    host.vmm.run();
    expect(driver.read(at.mailbox)).toBe(command.stopQueue);
    driver.events();
    expect(pairs[0]?.poll()).toHaveLength(2);
    driver.doorbell(0, ring.sq, 3);
    host.vmm.run();
    expect(pairs[0]?.poll(), "stopped").toEqual([]);
  });
});

it("a control plane that answers nothing is a failure, not a wait", () => {
  const host = new Host("own");
  host.device.planes.control.read = () => -errno.EIO;
  expect(host.move(stop).result).toBe(-errno.EIO);
  expect(host.clock.ms).toBeLessThan(100);
});
