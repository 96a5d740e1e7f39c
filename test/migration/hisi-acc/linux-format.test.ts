/** The kernel's structure, to the byte. */
import { describe, expect, it } from "vitest";
import type { Section } from "../../../src/migration/driver.ts";
import { fromLinux, toLinux } from "../../../src/migration/drivers/hisi-acc/linux-format.ts";
import {
  AccSection,
  FunctionEntry,
  QueueEntry,
} from "../../../src/migration/drivers/hisi-acc/sections.ts";
import { AccMatch, AccVfData, accMagic } from "../../../src/spec/acc-vf-data.ts";
import { QueueFlags, WindowFlags } from "../../../src/spec/hisi-qm-control.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { at } from "../../devices/hisi-acc/qm/driver.ts";
import { arrive, boot, controls, Host, type Machine } from "./bench.ts";
import { changed, savedSections, streamOf } from "./streams.ts";

const { running } = MigState;
const { vfData, queues, function: whole } = AccSection;
const sizes = { match: 40, data: 176 };

describe("the structure", () => {
  it.each<[keyof typeof AccVfData.offset, number]>([
    ["magic", 0x00],
    ["queueCount", 0x08],
    ["deviceId", 0x0c],
    ["isolation", 0x10],
    ["queueBase", 0x14],
    ["vfQmState", 0x18],
    ["major", 0x1c],
    ["minor", 0x1e],
    ["reservedState", 0x20],
    ["aeqIntMask", 0x28],
    ["eqIntMask", 0x2c],
    ["ifcIntSource", 0x30],
    ["ifcIntMask", 0x34],
    ["ifcIntSet", 0x38],
    ["pageSize", 0x3c],
    ["eqc", 0x40],
    ["aeqc", 0x5c],
    ["reservedRegisters", 0x78],
    ["padding", 0x8c],
    ["eqAddress", 0x90],
    ["aeqAddress", 0x98],
    ["sqcTable", 0xa0],
    ["cqcTable", 0xa8],
  ])("has %s at 0x%i", (field, offset) => {
    expect(AccVfData.offset[field]).toBe(offset);
  });

  it("is 176 bytes, of which 40 must match", () => {
    expect([AccMatch.size, AccVfData.size]).toEqual([sizes.match, sizes.data]);
    const magic = new Uint8Array(8);
    new DataView(magic.buffer).setBigUint64(0, 0xaaccfeeddecadeden, true);
    expect([...new Uint32Array(magic.buffer)]).toEqual([...accMagic.v2]);
    new DataView(magic.buffer).setBigUint64(0, 0xcdcdcdcdfeedaaccn, true);
    expect([...new Uint32Array(magic.buffer)]).toEqual([...accMagic.v1]);
  });
});

/** Works over the wrap of its rings. */
function work({ host, driver, pairs }: Machine, rounds: number): void {
  for (let i = 0; i < rounds; i++) {
    for (const pair of pairs) pair.submit(0, 0, 0, 1);
    host.vmm.run();
    driver.events();
    for (const pair of pairs) expect(pair.poll()).toHaveLength(1);
  }
}

/** A function that has worked, its state as the kernel's bytes. */
function saved(control: "own" | "silicon") {
  const source = boot(new Host(control));
  work(source, 7);
  const sections = savedSections(source.host);
  const bytes = toLinux(sections.values());
  if (typeof bytes === "string") throw new Error(bytes);
  return { source, sections, bytes };
}

const taken = (bytes: Uint8Array, acceptV1 = false): Section[] => {
  const sections = fromLinux(bytes, { acceptV1 });
  if (typeof sections === "string") throw new Error(sections);
  return sections;
};

describe.each(controls)("a state for the kernel's driver (%s)", (control) => {
  it("says what the function's registers say", () => {
    const { source, bytes } = saved(control);
    const { host, driver } = source;
    const view = new DataView(bytes.buffer);
    expect(bytes).toHaveLength(sizes.data);
    expect(view.getBigUint64(0, true)).toBe(0xaaccfeeddecadeden);
    const match = [16, 0xa256, 0, 0x100, 0, 1, 0, 0];
    expect(Array.from({ length: 8 }, (_, i) => view.getUint32(8 + 4 * i, true))).toEqual(match);
    for (let i = 0; i < 7; i++) {
      expect(view.getUint32(0x40 + 4 * i, true)).toBe(host.register("EQC", i));
      expect(view.getUint32(0x5c + 4 * i, true)).toBe(host.register("AEQC", i));
    }
    const addresses = [driver.eq.address, driver.aeq.address, driver.sqcTable, driver.cqcTable];
    for (const [i, address] of addresses.entries()) {
      expect(Number(view.getBigUint64(0x90 + 8 * i, true))).toBe(address);
    }
  });

  it.each(controls)("goes on from it and the guest's memory alone, to %s", (to) => {
    const { source, bytes } = saved(control);
    const host = new Host(to);
    expect(host.load(streamOf(host, taken(bytes))), host.device.refusal).toMatchObject({
      result: 0,
    });
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    work(target, 7);
  });

  it("is 40 bytes of a function that no driver runs, whatever that says of itself", () => {
    const host = new Host(control);
    host.vmm.write(2, at.vfState, 0);
    const bytes = toLinux(savedSections(host).values());
    expect(bytes).toHaveLength(sizes.match);
    expect(AccMatch.get(new DataView((bytes as Uint8Array).buffer), 0).vfQmState).toBe(1);
    const next = new Host(control);
    work(boot(next), 1);
    expect(next.load(streamOf(next, taken(bytes as Uint8Array)))).toMatchObject({ result: 0 });
    expect(next.register("EQC", 6), "as after a reset").toBe(0);
    next.device.detach();
    next.move(running);
    work(boot(next), 3);
  });

  it("of version 1 is taken where it is asked for", () => {
    const { source, bytes } = saved(control);
    const view = new DataView(bytes.buffer);
    for (const [i, word] of accMagic.v1.entries()) view.setUint32(4 * i, word, true);
    view.setUint32(0x1c, 0, true);
    // Both halves exchanged, as old kernels send them.
    view.setBigUint64(0x90, 0x12345678_00000001n, true);
    expect(fromLinux(bytes)).toBe("the state is of version 1, which is not taken");
    const host = new Host(control);
    host.load(streamOf(host, taken(bytes, true)));
    const target = arrive(source, host);
    expect(host.move(running)).toMatchObject({ result: 0 });
    work(target, 3);
  });

  it("is no state when it has another size", () => {
    for (const length of [0, 39, 41, 160, 175, 177]) {
      expect(fromLinux(new Uint8Array(length))).toContain(`${length} bytes are no state`);
    }
    expect(toLinux([])).toContain("no state");
  });

  it("is refused when there is something that it cannot say", () => {
    const { sections } = saved(control);
    const list = sections.get(queues) as Section;
    const entry = sections.get(whole) as Section;
    const { flags } = QueueEntry.get(new DataView(list.bytes.buffer), 0);
    const cases: [Section, string][] = [
      [
        changed(list, QueueEntry, { flags: flags | QueueFlags.mask.event }),
        "queue 0 is in the middle of something",
      ],
      [
        changed(entry, FunctionEntry, { flags: WindowFlags.mask.executing }),
        "a mailbox command of the guest's is under way",
      ],
      [changed(entry, FunctionEntry, { tablesWritten: 0 }), "contexts are not in the guest's"],
      [changed(entry, FunctionEntry, { messages: 1 }), "messages of the physical function wait"],
      [
        changed(entry, FunctionEntry, { flags: WindowFlags.mask.eqOverflow }),
        "the guest has not been told",
      ],
    ];
    for (const [section, sentence] of cases) {
      const all = new Map(sections).set(section.kind, section);
      expect(toLinux(all.values())).toContain(sentence);
    }
    const data = sections.get(vfData) as Section;
    expect(toLinux([data]), "a state of the kernel's own").toEqual(data.bytes);
  });
});
