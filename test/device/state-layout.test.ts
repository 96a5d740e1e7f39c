import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { DeviceState } from "../../src/device/device-state.ts";
import { type StateIdentity, StateLayout } from "../../src/device/state-layout.ts";
import * as k from "../../src/sys/constants.ts";
import { fileSize, resizeFile, sealsOf } from "../../src/sys/descriptors.ts";
import { viewOf } from "../../src/sys/libc.ts";
import { Window } from "../../src/sys/window.ts";

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
  it("lies at its address, with sections that are files", () => {
    const state = new DeviceState(layout);
    state.bytes[layout.at.memory] = 0x11;
    expect(new Uint8Array(viewOf(state.address + layout.at.memory, 1))[0]).toBe(0x11);
    const fd = state.share("page");
    const window = Window.reserve(4096);
    expect(window?.lay(fd, 0, 4096, true)).toBe(0);
    const seen = window?.bytes ?? new Uint8Array(0);
    state.bytes[layout.at.page + 5] = 0x22;
    seen[6] = 0x33;
    expect([seen[5], state.bytes[layout.at.page + 6]]).toEqual([0x22, 0x33]);
    expect(state.bytes[layout.at.memory], "the rest is as it was").toBe(0x11);
  });

  it("gives away files that cannot change their size", () => {
    const fd = new DeviceState(layout).share("page");
    expect(fileSize(fd)).toBe(4096);
    expect(sealsOf(fd)).toBe(k.F_SEAL_SEAL | k.F_SEAL_SHRINK | k.F_SEAL_GROW);
    expect(resizeFile(fd, 0)).toBe(-errno.EPERM);
    expect(() => new DeviceState(layout).share("flag")).toThrow("flag");
  });
});
