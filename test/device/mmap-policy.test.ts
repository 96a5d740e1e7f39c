import { readdirSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { create as createBench } from "../../src/devices/bench/index.ts";
import { create as createBulk } from "../../src/devices/bulk/index.ts";
import { create as createHello } from "../../src/devices/hello/index.ts";
import { MigState } from "../../src/spec/vfio.ts";
import { createMemfd, duplicate } from "../../src/sys/descriptors.ts";
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

/** A region as a client sees it that maps it now. */
function mapped({ device }: Vmm, region: number): Uint8Array {
  const offer = device.regions[region];
  const window = Window.reserve(offer?.size ?? 0);
  expect(window?.lay(offer?.mmap?.fd ?? -1, 0, offer?.size ?? 0, true)).toBe(0);
  return window?.bytes ?? new Uint8Array(0);
}

const openFds = () => readdirSync("/proc/self/fd").length;

const make = ([, create, options, region, at]: Subject) => {
  const vmm = new Vmm(create({ ...options, mmap: "trusted" }));
  const seen = mapped(vmm, region);
  const shown = () => [vmm.read(region, at, 1), seen[at]];
  return { vmm, seen, shown };
};

const parked = ({ device }: Vmm) => {
  const wiring = device.park();
  if (wiring === null) throw new Error("it cannot be parked");
  return { wiring, state: (device.state ?? new Uint8Array(0)).slice() };
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
    const { wiring, state } = parked(vmm);
    seen[at] = 7;
    const successor = new Vmm(create({ ...options, mmap: "trusted" }));
    const before = openFds();
    expect(successor.device.takeUp(wiring, state)).toBe(0);
    expect(openFds(), "what it had itself is closed").toBe(before - 1);
    const shown = () => [successor.read(region, at, 1), seen[at]];
    expect(shown(), "what was stored meanwhile too").toEqual([7, 7]);
    seen[at] = 8;
    expect(shown()).toEqual([8, 8]);
    successor.write(region, at, 9, 1);
    expect(shown()).toEqual([9, 9]);
    expect(successor.move(MigState.stopCopy)).toBe(0);
    seen[at] = 10;
    expect(shown(), "the device stands still").toEqual([9, 10]);
    expect(mapped(successor, region)[at], "whoever maps it now has the same").toBe(10);
  });

  it("is as it was when nobody has taken it up", () => {
    const { vmm, seen, shown } = make(subject);
    seen[at] = 6;
    const { wiring, state } = parked(vmm);
    seen[at] = 7;
    const [file] = wiring.files;
    const stranger = create({ ...options, mmap: "never" });
    const other = create({ ...options, mmap: "trusted" });
    const before = openFds();
    const lent = { ...wiring, files: [{ region, fd: duplicate(file?.fd ?? -1) }] };
    expect(stranger.takeUp(lent, state)).toBeLessThan(0);
    const small = { ...wiring, files: [{ region, fd: createMemfd("small", 4096) }] };
    expect(other.takeUp(small, state)).toBe(-errno.EINVAL);
    expect(shown()).toEqual([7, 7]);
    expect(vmm.device.takeUp(wiring, state)).toBe(0);
    expect(openFds()).toBe(before - 1);
    expect(shown()).toEqual([7, 7]);
    vmm.write(region, at, 8, 1);
    expect(shown()).toEqual([8, 8]);
  });

  it("is offered to those only who are trusted", () => {
    const offer = (mmap: string) => create({ ...options, mmap }).regions[region]?.mmap;
    expect(offer("never")).toBeNull();
    expect(offer("trusted")).not.toBeNull();
    expect(() => offer("always")).toThrow("mmap=always");
  });
});
