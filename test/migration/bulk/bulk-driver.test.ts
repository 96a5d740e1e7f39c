import { describe, expect, it } from "vitest";
import { errno } from "../../../src/base/errno.ts";
import { BulkCommand, create, planes } from "../../../src/devices/bulk/index.ts";
import type { MigrationDriver, Section, Step } from "../../../src/migration/driver.ts";
import { MigState, PciIrq } from "../../../src/spec/vfio.ts";
import { viewOf } from "../../../src/sys/libc.ts";
import { Window } from "../../../src/sys/window.ts";
import { guestBase, mib } from "../../devices/bulk-driver.ts";
import { kind, Side } from "./pair.ts";

const { running, stop, stopCopy, resuming, preCopy, preCopyP2p, runningP2p } = MigState;
const { fill, toBoard, toGuest } = BulkCommand;
const page = 4096;

/** Kinds of the driver's sections. */
const Kind = { board: 0x100, pages: 0x101, zeroes: 0x102, function: 0x103 };

const facts = ({ guest }: Side) => [
  guest.get("COMPLETED"),
  guest.get("STATUS"),
  guest.get("VALUE"),
  guest.peek(0, 4 * mib).toString("latin1"),
];

describe("the bulk device's migration", () => {
  it("brings along the board, the registers and a command that was under way", () => {
    const source = new Side();
    source.guest.ram.write(guestBase, Buffer.from("on board"));
    source.guest.run(toBoard, 3 * mib, 8, {});
    source.guest.start(fill, mib, 1.5 * mib, { value: 0x31 });
    source.device.work();
    expect(source.go(stopCopy)).toBe(0);
    const stream = source.read();
    expect(stream.length, "what was never written is not sent").toBeLessThan(1.1 * mib);
    const target = new Side();
    target.guest.run(fill, 0, 4 * mib, { value: 0xff });
    target.become(stream);
    expect([target.guest.get("STATUS"), target.guest.get("DONE")]).toEqual([
      errno.EINPROGRESS,
      mib,
    ]);
    target.guest.vmm.run();
    expect(source.go(running), "and the source can still go on").toBe(0);
    source.guest.vmm.run();
    expect(facts(target)).toEqual(facts(source));
    expect(target.guest.peek(3 * mib, 8).toString()).toBe("on board");
  });

  it("sends what changes while the guest runs again, and nothing that does not", () => {
    const source = new Side();
    source.guest.run(fill, 0, 2 * mib, { value: 1 });
    expect(source.go(preCopy)).toBe(0);
    expect(source.device.pending).toEqual({ initialBytes: 2 * mib, dirtyBytes: 0 });
    const parts = [source.read()];
    expect(source.device.pending).toEqual({ initialBytes: 0, dirtyBytes: 0 });
    source.guest.poke(page + 8, 0x55555555);
    source.guest.run(toBoard, 3 * mib, page, {});
    expect(source.device.pending).toEqual({ initialBytes: 0, dirtyBytes: 2 * page });
    parts.push(source.read());
    expect(parts[1]?.length).toBeLessThan(page + 200);
    expect(source.read(), "nothing new").toHaveLength(0);
    source.guest.poke(5 * page, 0x66666666);
    expect(source.go(stopCopy)).toBe(0);
    expect(source.device.stopCopyBytes).toBeLessThan(2 * page);
    parts.push(source.read());
    const target = new Side();
    target.become(Buffer.concat(parts));
    source.go(running);
    expect(facts(target)).toEqual(facts(source));
  });

  it("gives up on nothing: a pre-copy that is ended is begun anew", () => {
    const source = new Side();
    source.guest.run(fill, 0, mib, { value: 1 });
    source.go(preCopy);
    source.read();
    expect(source.go(running)).toBe(0);
    source.guest.run(fill, mib, mib, { value: 2 });
    expect(source.go(preCopy)).toBe(0);
    const parts = [source.read()];
    for (const state of [preCopyP2p, preCopy, preCopyP2p, stopCopy]) {
      expect(source.go(state)).toBe(0);
      parts.push(source.read());
    }
    const target = new Side();
    target.become(Buffer.concat(parts));
    source.go(running);
    expect(facts(target)).toEqual(facts(source));
  });

  it("ends nothing that it has begun when it is called off in any state", () => {
    const side = new Side();
    side.guest.start(fill, 0, 3 * mib, { value: 7 });
    for (const state of [runningP2p, stop, preCopy, preCopyP2p, stopCopy]) {
      side.device.work();
      expect([side.go(state), side.go(running)]).toEqual([0, 0]);
    }
    side.guest.vmm.run();
    expect(side.guest.get("STATUS")).toBe(0);
    expect(side.guest.peek(3 * mib - 1, 2)).toEqual(Buffer.from([7, 0]));
  });

  it("raises on the target what the source could not", () => {
    const source = new Side();
    source.guest.vmm.wire(PciIrq.msix, 0, 1);
    source.guest.vmm.irqs(PciIrq.msix, 1 | 8, 0, 1);
    source.guest.run(fill, 0, 1, {});
    source.go(stopCopy);
    const target = new Side();
    const [vector] = target.guest.vmm.wire(PciIrq.msix, 0, 1);
    target.go(resuming);
    target.write(source.read());
    target.go(stop);
    expect(vector?.take(), "it stands still").toBe(0);
    target.go(running);
    expect(vector?.take()).toBe(1);
  });

  it("finds what clients store through mappings, up to the stop and not behind it", () => {
    const options = { memoryMiB: "128", mmap: "trusted" };
    const source = new Side(options);
    const window = Window.reserve(128 * mib);
    window?.lay(source.device.regions[2]?.mmap?.fd ?? -1, 0, 128 * mib, true);
    const seen = window?.bytes ?? new Uint8Array(0);
    const target = new Side(options);
    source.go(preCopy);
    seen[127 * mib] = 1;
    // Two reads look through all of it; they may come in any order with the stores.
    const parts = [source.read(), source.read(), source.read()];
    seen[1] = 2;
    source.go(stopCopy);
    seen[2] = 3;
    parts.push(source.read());
    target.become(Buffer.concat(parts));
    const at = (offset: number) => target.guest.vmm.read(2, offset, 1);
    expect([at(127 * mib), at(1), at(2)]).toEqual([1, 2, 0]);
    source.go(running);
    expect([seen[1], seen[2]]).toEqual([2, 0]);
  });

  it("of 2 GiB costs what the guest has used of it", () => {
    const [source, target] = [new Side({ memoryMiB: "2048" }), new Side({ memoryMiB: "2048" })];
    source.guest.run(fill, 2047 * mib, mib, { value: 6 });
    source.guest.run(fill, mib, 60 * mib, { value: 0 });
    source.go(stopCopy);
    const stream = source.read();
    expect(stream.length).toBeLessThan(1.01 * mib);
    target.become(stream);
    expect(target.guest.peek(2048 * mib - 1, 1)[0]).toBe(6);
  });

  it("is forgotten when the guest resets the device", () => {
    const source = new Side();
    source.guest.run(fill, 0, mib, { value: 1 });
    source.go(preCopy);
    source.read();
    expect(source.device.reset()).toBe(0);
    expect(source.device.migrationState).toBe(running);
    expect(source.guest.run(fill, 5, 1, { value: 2 })).toBe(0);
    expect([source.go(preCopy), source.device.pending.initialBytes]).toEqual([0, page]);
    const target = new Side();
    target.go(resuming);
    target.device.reset();
    expect(target.guest.run(toGuest, 0, 16, {})).toBe(0);
  });

  it("needs the function that it drives", () => {
    const guest = create({ memoryMiB: "1" });
    const { memory } = planes({ memoryMiB: "1" });
    expect(() => kind.create({ guest, control: guest, memory })).toThrow("bulk is none");
  });
});

/** The driver alone, without the wrapper: sections by hand. */
const finish = (step: Step, control: { work(): void }): number => {
  for (;;) {
    const { done, value } = step.next();
    if (done === true) return value;
    control.work();
  }
};

const bare = () => {
  const both = planes({ memoryMiB: "4" });
  const driver = kind.create(both);
  const phase = (name: "freeze" | "quiesce" | "save" | "load" | "thaw") =>
    finish(driver[name].run(), both.control);
  return { ...both, driver, phase };
};

const sectionsOf = (driver: MigrationDriver): Section[] => {
  const sections: Section[] = [];
  for (let next = driver.next(); next !== null; next = driver.next()) {
    if (next.address !== 0) {
      const lent = new Uint8Array(viewOf(next.address, next.bytes.length));
      expect(Buffer.compare(lent, next.bytes), "lent from where it lies").toBe(0);
    }
    sections.push({ ...next, bytes: next.bytes.slice() });
  }
  return sections;
};

const saved = () => {
  const source = bare();
  const { board } = source.guest as unknown as {
    board: { memory: Uint8Array; mark(at: number, length: number): void };
  };
  board.memory.fill(3, 0, 2 * mib);
  board.mark(0, 3 * mib);
  source.phase("freeze");
  source.phase("quiesce");
  expect(source.phase("save")).toBe(0);
  return sectionsOf(source.driver);
};

const ready = () => {
  const target = bare();
  target.phase("freeze");
  target.phase("quiesce");
  return target;
};

describe("the driver's sections", () => {
  it("are the board, its pages, its zeroes, and the function, none above the limit", () => {
    const sections = saved();
    expect(sections.map((each) => each.kind)).toEqual([
      Kind.board,
      ...Array(3).fill(Kind.pages),
      Kind.zeroes,
      Kind.function,
    ]);
    expect(Math.max(...sections.map(({ bytes }) => bytes.length))).toBeLessThanOrEqual(mib);
    expect(sections[4]?.bytes.length, "a MiB of zeroes").toBe(16);
  });

  const board = (change: (view: DataView) => void) => (sections: Section[]) => {
    change(new DataView((sections[0] as Section).bytes.buffer));
    return sections;
  };
  const place = (change: (view: DataView) => void, at = 1) =>
    function* (sections: Section[]) {
      const { bytes } = sections[at] as Section;
      change(new DataView(bytes.buffer, bytes.byteOffset));
      yield* sections;
    };
  const huge = 2n ** 63n;
  const mistakes: ReadonlyArray<
    readonly [string, (sections: Section[]) => Iterable<Section>, RegExp]
  > = [
    [
      "another board",
      board((view) => view.setUint32(0, 1, true)),
      /section 0 \(board\): memoryBytes is 1, here it is 4194304/,
    ],
    ["other pages", board((view) => view.setUint32(8, 512, true)), /pageBytes is 512, not 4096/],
    ["a reserved field", board((view) => view.setUint32(12, 1, true)), /reserved is 1/],
    ["two boards", (all) => [all[0] as Section, ...all], /section 1 \(board\): there was one/],
    ["no board", (all) => all.slice(1), /section 0 \(pages\): it comes before the board's/],
    [
      "an odd offset",
      place((view) => view.setBigUint64(0, 8n, true)),
      /section 1 \(pages\): offset 8 is not at a page's start/,
    ],
    ["an offset beyond", place((view) => view.setBigUint64(0, huge, true)), /lead beyond the/],
    ["no length", place((view) => view.setBigUint64(8, 0n, true)), /length 0 is no whole pages/],
    ["a huge length", place((view) => view.setBigUint64(8, huge, true)), /lead beyond the board/],
    [
      "another length",
      place((view) => view.setBigUint64(8, 4096n, true)),
      /length is 4096, and 1044480 bytes are there/,
    ],
    [
      "zeroes beyond",
      place((view) => view.setBigUint64(8, 2n ** 22n, true), 4),
      /section 4 \(zeroes\): offset 2097152 and length 4194304 lead beyond/,
    ],
    [
      "few bytes",
      (all) => all.map((each) => ({ ...each, bytes: each.bytes.subarray(0, 15) })),
      /section 0 \(board\): it has 15 bytes, not 16 to 16/,
    ],
    ["a new version", (all) => all.map((each) => ({ ...each, version: 2 })), /its version is 2; 1/],
    ["a section less", (all) => all.filter((_, i) => i !== 2), /sections is 5, and there were/],
    ["pages behind the end", (all) => [...all, all[1] as Section], /comes behind the function's/],
    [
      "an unknown kind",
      ([first, ...all]) => [first as Section, { ...(first as Section), kind: 0x200 }, ...all],
      /kind 0x200 is not known/,
    ],
  ];

  it.each(mistakes)("are refused with %s, by a sentence", (_, change, sentence) => {
    const { driver } = ready();
    let said: string | null = null;
    for (const section of change(saved())) said ??= driver.accept(section);
    expect(said).toMatch(sentence);
  });

  it("are not enough without the last, nor with one that makes no sense", () => {
    const { driver, phase, guest } = ready();
    expect(driver.check()).toBe("no section board has come");
    const sections = saved();
    for (const section of sections.slice(0, -1)) expect(driver.accept(section)).toBeNull();
    expect(driver.check()).toBe("the section function has not come");
    const last = sections.at(-1) as Section;
    last.bytes[8] = 0;
    expect(driver.accept({ ...last, kind: 0x300, optional: true }), "left out").toBeNull();
    expect(driver.accept(last)).toBeNull();
    expect(driver.check()).toMatch(/section function: its state makes no sense/);
    driver.discard();
    const { board: clean } = guest as unknown as { board: { memory: Uint8Array } };
    expect(clean.memory.every((byte) => byte === 0)).toBe(true);
    for (const section of saved()) expect(driver.accept(section)).toBeNull();
    expect([driver.check(), phase("load")]).toEqual([null, 0]);
    driver.discard();
    expect([clean.memory[2 * mib - 1], clean.memory[2 * mib]], "what is loaded stays").toEqual([
      3, 0,
    ]);
  });

  it("are refused by a device that runs", () => {
    const { driver } = bare();
    const [first] = saved();
    expect(driver.accept(first as Section)).toMatch(/section 0 \(board\): the device refuses it/);
  });

  it("that were loaded can be taken back", () => {
    const { driver, phase, guest, control } = ready();
    for (const section of saved()) driver.accept(section);
    expect(phase("load")).toBe(0);
    expect(finish(driver.load.undo(), control)).toBe(0);
    driver.discard();
    const { board: clean } = guest as unknown as { board: { memory: Uint8Array } };
    expect(clean.memory.every((byte) => byte === 0)).toBe(true);
  });
});
