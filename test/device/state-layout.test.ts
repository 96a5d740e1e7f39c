import { closeSync, openSync, readSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { DeviceState } from "../../src/device/device-state.ts";
import { type StateIdentity, StateLayout } from "../../src/device/state-layout.ts";
import { Lane } from "../../src/server/lane.ts";
import { copyInset } from "../../src/sys/arena.ts";
import { viewOf } from "../../src/sys/libc.ts";

const identity: StateIdentity = { vendor: 1, device: 2, version: 3 };
const sections = { registers: 100, flag: 1, memory: 10_000, page: 4096 };
const layout = new StateLayout(identity, sections);

const stamped = (other: StateLayout) => {
  const view = new DataView(new ArrayBuffer(other.size));
  other.stamp(view);
  return view;
};

describe("a state layout", () => {
  it("lays sections in order, large ones at pages, behind its header", () => {
    expect(layout.at).toEqual({ registers: 64, flag: 192, memory: 4096, page: 16384 });
    expect(layout.size).toBe(16384 + 4096);
    expect(layout.describe()).toEqual([
      "registers at 0x40, 100 bytes",
      "flag at 0xc0, 1 bytes",
      "memory at 0x1000, 10000 bytes",
      "page at 0x4000, 4096 bytes",
    ]);
  });

  it.each<[string, StateLayout]>([
    ["another vendor's", new StateLayout({ ...identity, vendor: 9 }, sections)],
    ["another device's", new StateLayout({ ...identity, device: 9 }, sections)],
    ["another version's", new StateLayout({ ...identity, version: 2 }, sections)],
    ["one with a section renamed", new StateLayout(identity, { ...sections, regs: 0 })],
    ["one with a section resized", new StateLayout(identity, { ...sections, flag: 2 })],
    [
      "one with two sections swapped",
      new StateLayout(identity, { flag: 1, registers: 100, memory: 10_000, page: 4096 }),
    ],
  ])("accepts its own state and not %s", (_, other) => {
    expect(layout.accepts(stamped(layout))).toBe(0);
    expect(layout.accepts(stamped(other))).toBe(-errno.EINVAL);
  });

  it("accepts nothing with one byte of the header changed, and nothing too short", () => {
    for (let at = 0; at < 32; at++) {
      const view = stamped(layout);
      view.setUint8(at, view.getUint8(at) ^ 0x40);
      expect(layout.accepts(view)).toBe(-errno.EINVAL);
    }
    expect(layout.accepts(new DataView(new ArrayBuffer(31)))).toBe(-errno.EINVAL);
  });
});

describe("a device's state", () => {
  it("lies at its address", () => {
    const state = new DeviceState(layout);
    state.bytes[layout.at.memory] = 0x11;
    expect(new Uint8Array(viewOf(state.address + layout.at.memory, 1))[0]).toBe(0x11);
  });

  it.each([
    ["a small part", 10_000, 65, 9000],
    ["a large one, from and to odd places", 9 << 20, 4097, (9 << 20) - 5],
  ])("forgets %s and nothing around it", (_, size, from, to) => {
    const state = new DeviceState(new StateLayout(identity, { all: size }));
    state.bytes.fill(0x77, 64);
    state.clear(from, to);
    const count = (bytes: Uint8Array, value: number) =>
      bytes.filter((each) => each === value).length;
    expect(count(state.bytes.subarray(from, to), 0)).toBe(to - from);
    expect(count(state.bytes.subarray(64, from), 0x77)).toBe(from - 64);
    expect(count(state.bytes.subarray(to), 0x77)).toBe(state.bytes.length - to);
  });

  it("begins where it is copied fast from behind a message's header, and into one", () => {
    const { address } = new DeviceState(new StateLayout(identity, { all: 4096 }));
    expect(address % 4096).toBe(copyInset);
    expect(new Lane().framer.start).toBe(copyInset);
  });

  it("is in memory from its beginning to its end with prealloc, else what is touched", () => {
    const size = 32 << 20;
    for (const prealloc of [true, false]) {
      const state = new DeviceState(new StateLayout(identity, { all: size }), prealloc);
      const before = residentBytes(state.address, size);
      state.clear(64, size);
      const after = residentBytes(state.address, size);
      expect([before >= size, after >= size]).toEqual([prealloc, prealloc]);
    }
  });
});

/**
 * Bytes of a range that are in memory, page by page: the kernel lists two mappings that touch as
 * one, so what it says of a whole mapping may be another's.
 */
function residentBytes(address: number, size: number): number {
  const entries = new BigUint64Array(size / 4096);
  const fd = openSync("/proc/self/pagemap", "r");
  readSync(fd, entries, 0, entries.byteLength, Math.floor(address / 4096) * 8);
  closeSync(fd);
  return entries.filter((entry) => entry >> 62n !== 0n).length * 4096;
}
