import { describe, expect, it } from "vitest";
import { create as createBench } from "../../src/devices/bench/index.ts";
import { create as createBulk } from "../../src/devices/bulk/index.ts";
import { create as createHello } from "../../src/devices/hello/index.ts";
import { MigState } from "../../src/spec/vfio.ts";
import { Window } from "../../src/sys/window.ts";
import { Vmm } from "./vmm.ts";

const mib = 1 << 20;

type Subject = readonly [
  name: string,
  create: typeof createHello,
  options: Readonly<Record<string, string>>,
  region: number,
  at: number,
];

/** Each device that can be mapped: how it is made, which region, and a place that may be mapped. */
const subjects: readonly Subject[] = [
  ["hello", createHello, {}, 2, 0x8000],
  ["bench", createBench, { stateMiB: "0" }, 1, 0x2000],
  ["bulk", createBulk, { memoryMiB: "1" }, 2, 0x8000],
];

const make = ([, create, options, region, at]: Subject) => {
  const vmm = new Vmm(create({ ...options, mmap: "trusted" }));
  const offer = vmm.device.regions[region];
  const window = Window.reserve(offer?.size ?? 0);
  expect(window?.lay(offer?.mmap?.fd ?? -1, 0, offer?.size ?? 0, true)).toBe(0);
  const seen = window?.bytes ?? new Uint8Array(0);
  const shown = () => [vmm.read(region, at, 1), seen[at]];
  return { vmm, seen, shown };
};

describe.each(subjects)("a mapping of %s that is kept", (...subject) => {
  const [, create, options, region, at] = subject;

  it("changes nothing that is saved after the stop, and sees the device's memory again", () => {
    const { vmm, seen, shown } = make(subject);
    seen[at] = 1;
    expect(shown()).toEqual([1, 1]);
    expect(vmm.move(MigState.stopCopy)).toBe(0);
    const saved = vmm.save(mib);
    seen[at] = 2;
    expect(shown(), "the device stands still").toEqual([1, 2]);
    expect([vmm.move(MigState.stop), vmm.move(MigState.stopCopy)]).toEqual([0, 0]);
    expect(vmm.save(mib).equals(saved), "what is saved has not changed").toBe(true);
    expect(vmm.move(MigState.running)).toBe(0);
    expect(shown(), "the state wins").toEqual([1, 1]);
    seen[at] = 3;
    expect(shown()).toEqual([3, 3]);
    vmm.device.reset();
    expect(shown()).toEqual([0, 0]);
  });

  it("shows what came with a migration once the device runs", () => {
    const source = make(subject);
    source.vmm.write(region, at, 4, 1);
    source.vmm.move(MigState.stopCopy);
    const target = make(subject);
    target.vmm.move(MigState.resuming);
    target.seen[at] = 5;
    expect(target.vmm.load(source.vmm.save(mib), mib)).toBe(0);
    expect(target.vmm.move(MigState.running)).toBe(0);
    expect(target.shown()).toEqual([4, 4]);
  });

  it("is a part of the state that a successor takes up", () => {
    const { vmm, seen } = make(subject);
    seen[at] = 6;
    const successor = make(subject);
    const wiring = vmm.device.park() ?? { mappings: [], irqs: [], ioEventfds: [] };
    const state = (vmm.device.state ?? new Uint8Array(0)).slice();
    expect(successor.vmm.device.takeUp(wiring, state)).toBe(0);
    expect(successor.shown()).toEqual([6, 6]);
  });

  it("is offered to those only who are trusted", () => {
    const offer = (mmap: string) => create({ ...options, mmap }).regions[region]?.mmap;
    expect(offer("never")).toBeNull();
    expect(offer("trusted")).not.toBeNull();
    expect(() => offer("always")).toThrow("mmap=always");
  });
});
