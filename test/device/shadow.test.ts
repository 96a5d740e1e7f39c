import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Shadow } from "../../src/device/shadow.ts";
import * as k from "../../src/sys/constants.ts";
import { fileSize, resizeFile, sealsOf } from "../../src/sys/descriptors.ts";
import { Window } from "../../src/sys/window.ts";

/** A shadow and a client's mapping of it. */
const make = () => {
  const record = new Uint8Array(8192);
  const shadow = new Shadow("page", record);
  const window = Window.reserve(8192);
  expect(window?.lay(shadow.fd, 0, 8192, true)).toBe(0);
  return { record, shadow, seen: window?.bytes ?? new Uint8Array(0) };
};

describe("what clients map", () => {
  it("is the device's memory while it runs, and not the state", () => {
    const { record, shadow, seen } = make();
    seen[5000] = 0x22;
    shadow.memory[6] = 0x33;
    expect([shadow.memory[5000], seen[6], record[5000], record[6]]).toEqual([0x22, 0x33, 0, 0]);
    shadow.capture(4096, 8192);
    expect([record[5000], record[6]], "as far as it was captured").toEqual([0x22, 0]);
  });

  it("changes nothing that was saved, and shows the state when the device goes on", () => {
    const { record, shadow, seen } = make();
    seen[0] = 1;
    shadow.capture(0, 8192);
    shadow.part();
    seen[0] = 2;
    shadow.capture(0, 8192);
    expect([shadow.live, shadow.memory[0], record[0], seen[0]]).toEqual([false, 1, 1, 2]);
    record[1] = 7;
    shadow.show(0, 8192);
    shadow.join();
    expect([...seen.subarray(0, 2)]).toEqual([1, 7]);
    shadow.memory[2] = 9;
    expect(seen[2]).toBe(9);
  });

  it("can be emptied", () => {
    const { shadow, seen } = make();
    seen.fill(3);
    shadow.clear();
    expect(seen.every((byte) => byte === 0)).toBe(true);
  });

  it("is a file that cannot change its size", () => {
    const { fd } = make().shadow;
    expect(fileSize(fd)).toBe(8192);
    expect(sealsOf(fd)).toBe(k.F_SEAL_SEAL | k.F_SEAL_SHRINK | k.F_SEAL_GROW);
    expect(resizeFile(fd, 0)).toBe(-errno.EPERM);
    expect(() => new Shadow("flag", new Uint8Array(1))).toThrow("flag");
  });
});
