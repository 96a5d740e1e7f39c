import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { addressEnd, DmaMap, DmaRegion } from "../../src/memory/dma-map.ts";

const permission = { readable: true, writable: true };
const region = (iova: number, size: number) =>
  new DmaRegion(iova, size, permission, null, 0, false);

describe("the map of DMA regions", () => {
  it("finds every region among thousands, whatever the order they came and went in", () => {
    const slots = 4000;
    const step = 0x1000;
    const actions = fc.array(fc.record({ slot: fc.nat(slots - 1), count: fc.nat(1500) }), {
      maxLength: 12,
      size: "max",
    });
    fc.assert(
      fc.property(actions, fc.constantFrom(1, 7, 1999), (runs, stride) => {
        const map = new DmaMap();
        const present = new Set<number>();
        for (const { slot, count } of runs) {
          for (let i = 0; i < count; i++) {
            const chosen = (slot + i * stride) % slots;
            const iova = chosen * step;
            const known = present.delete(chosen);
            expect(map.has(iova, step / 2)).toBe(known);
            expect(map.refuses(iova, step / 2)).toBe(known ? -errno.EEXIST : 0);
            if (known) expect(map.remove(iova, step / 2)?.iova).toBe(iova);
            else map.insert(region(iova, step / 2));
            if (!known) present.add(chosen);
          }
        }
        expect(map.count).toBe(present.size);
        const sorted = [...present].sort((a, b) => a - b).map((slot) => slot * step);
        expect(map.regions().map(({ iova }) => iova)).toEqual(sorted);
        for (let slot = 0; slot < slots; slot += 3) {
          const expected = present.has(slot) ? slot * step : undefined;
          expect(map.lookup(slot * step)?.iova).toBe(expected);
          expect(map.lookup(slot * step + step / 2 - 1)?.iova).toBe(expected);
          expect(map.lookup(slot * step + step / 2)).toBeNull();
        }
      }),
      { numRuns: 10 },
    );
  });

  it("does not answer with a region that was just taken away", () => {
    const map = new DmaMap();
    map.insert(region(0x1000, 0x1000));
    expect(map.lookup(0x1800)?.iova).toBe(0x1000);
    map.remove(0x1000, 0x1000);
    expect(map.lookup(0x1800)).toBeNull();
    map.insert(region(0x1000, 0x1000));
    expect(map.lookup(0x1800)?.iova).toBe(0x1000);
    expect(map.clear()).toHaveLength(1);
    expect(map.lookup(0x1800)).toBeNull();
    expect(map.count).toBe(0);
  });

  it("knows whether a range touches anything", () => {
    const map = new DmaMap();
    expect(map.touches(0, addressEnd)).toBe(false);
    map.insert(region(0x1000, 0x1000));
    map.insert(region(0x4000, 0x1000));
    for (const [iova, length, answer] of [
      [0, 0x1000, false],
      [0, 0x1001, true],
      [0x1fff, 1, true],
      [0x2000, 0x2000, false],
      [0x2000, 0x2001, true],
      [0x5000, 0x1000, false],
      [0, addressEnd, true],
    ] as const) {
      expect(map.touches(iova, length), `${iova} + ${length}`).toBe(answer);
    }
  });

  it("has no region at the end of all addresses", () => {
    const map = new DmaMap();
    expect(map.lookup(addressEnd)).toBeNull();
    expect(map.remove(addressEnd, 0)).toBeNull();
    expect(map.has(addressEnd, 0)).toBe(false);
  });
});
