import { describe, expect, it, vi } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { WindowPool, windowSizeFor, windowSizes } from "../../src/memory/window-pool.ts";
import { Window } from "../../src/sys/window.ts";
import { ClientMemory, pattern } from "./client-memory.ts";

describe("the window pool", () => {
  it("has sizes below the 4 GiB at which Node 20 gives up", () => {
    expect(Math.max(...windowSizes)).toBeLessThan(2 ** 32);
    expect(windowSizes.map((size) => size % 2 ** 21)).toEqual([0, 0, 0]);
  });

  it.each([
    [1, 2 ** 21],
    [2 ** 21, 2 ** 21],
    [2 ** 21 + 1, 2 ** 26],
    [2 ** 26 + 1, 2 ** 30],
    [2 ** 43, 2 ** 30],
  ])("shows a file of %i bytes through windows of %i", (length, size) => {
    expect(windowSizeFor(length)).toBe(size);
  });

  it("uses a window again, with nothing left of what it showed", () => {
    const pool = new WindowPool();
    const client = ClientMemory.create(2 ** 21);
    client.write(0, pattern(64));
    const window = pool.take(2 ** 21) as Window;
    expect(window.lay(client.fd, 0, 2 ** 21, true)).toBe(0);
    expect(window.bytes.subarray(0, 64)).toEqual(pattern(64));
    pool.give(window);
    expect(pool.take(2 ** 21)).toBe(window);
    expect(window.bytes.subarray(0, 64)).toEqual(new Uint8Array(64));
    window.bytes.fill(9, 0, 64);
    expect(client.read(0, 64)).toEqual(pattern(64));
    expect(pool.made).toBe(1);
    client.close();
  });

  it("does not mix the sizes", () => {
    const pool = new WindowPool();
    const small = pool.take(2 ** 21) as Window;
    pool.give(small);
    expect(pool.take(2 ** 26)?.size).toBe(2 ** 26);
    expect(pool.take(2 ** 21)).toBe(small);
    expect(() => pool.take(4096)).toThrow(AssertionError);
  });

  it("ends at its limit, and goes on with what is given back", () => {
    const pool = new WindowPool(2);
    const one = pool.take(2 ** 21) as Window;
    expect(pool.take(2 ** 21)).not.toBeNull();
    expect(pool.take(2 ** 21)).toBeNull();
    pool.give(one);
    expect(pool.take(2 ** 21)).toBe(one);
  });

  it("has 16,384 windows at most: each takes mappings of the process's", () => {
    const reserve = vi.spyOn(Window, "reserve").mockReturnValue({} as Window);
    const pool = new WindowPool();
    const taken = Array.from({ length: 16_385 }, () => pool.take(2 ** 21));
    expect(taken.indexOf(null)).toBe(16_384);
    reserve.mockRestore();
  });
});
