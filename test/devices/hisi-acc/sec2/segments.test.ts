/** Any part of a buffer is reached through its segments, however these are cut. */
import fc from "fast-check";
import { expect, it } from "vitest";
import type { GuestWrite } from "../../../../src/devices/hisi-acc/engine.ts";
import { Segments } from "../../../../src/devices/hisi-acc/sgl.ts";
import { FakeGuest, GuestBuffer } from "./guest.ts";

const ended = (running: Generator<void, number>): number => {
  const step = running.next();
  if (!step.done) throw new Error("the guest's memory was there");
  return step.value;
};

const cuts = fc.array(fc.integer({ min: 0, max: 70 }), { minLength: 1, maxLength: 40 });
const part = fc.tuple(cuts, fc.double({ min: 0, max: 1, noNaN: true }), fc.nat(3000));

/** A list of these segments with counting content, and a part of it. */
function laidOut([lengths, start, most]: readonly [number[], number, number]) {
  const guest = new FakeGuest();
  const total = lengths.reduce((sum, length) => sum + length, 0);
  const content = Uint8Array.from({ length: total }, (_, i) => (i * 31) & 0xff);
  const buffer = new GuestBuffer(guest, content, lengths);
  const segments = new Segments();
  expect(ended(segments.readList(guest, buffer.address))).toBe(0);
  expect([segments.count, segments.totalBytes]).toEqual([lengths.length, total]);
  const from = Math.floor(start * total);
  return { guest, content, buffer, segments, from, length: Math.min(most, total - from) };
}

it("gathers a part", () => {
  fc.assert(
    fc.property(part, (parts) => {
      const { guest, content, segments, from, length } = laidOut(parts);
      const bytes = new Uint8Array(length + 9);
      expect(ended(segments.gather(guest, from, bytes, 4, length))).toBe(0);
      expect(bytes.subarray(4, 4 + length)).toEqual(content.subarray(from, from + length));
      expect([...bytes.subarray(0, 4), ...bytes.subarray(4 + length)]).toEqual(
        new Array(9).fill(0),
      );
    }),
  );
});

it("scatters a part and touches nothing else", () => {
  fc.assert(
    fc.property(part, (parts) => {
      const { guest, content, buffer, segments, from, length } = laidOut(parts);
      const output = new Uint8Array(length + 3).fill(0xee);
      const writes: GuestWrite[] = [];
      segments.scatter(from, output, 3, length, writes);
      const before = guest.bytes.slice();
      guest.apply({ writes, status: { offset: 0, bytes: output } });
      content.fill(0xee, from, from + length);
      expect(buffer.content(content.length)).toEqual(content);
      buffer.fill(new Uint8Array(content.length));
      const after = guest.bytes.slice();
      guest.bytes.set(before);
      buffer.fill(new Uint8Array(content.length));
      expect(Buffer.compare(guest.bytes, after)).toBe(0);
    }),
  );
});

it("takes a flat range as one segment", () => {
  const guest = new FakeGuest();
  const segments = new Segments();
  segments.setFlat(4096, 100);
  expect([segments.count, segments.totalBytes]).toEqual([1, 100]);
  const writes: GuestWrite[] = [];
  const bytes = new Uint8Array(8);
  segments.scatter(90, bytes, 0, 8, writes);
  expect(writes).toEqual([{ iova: 4186, bytes, at: 0, length: 8 }]);
  expect(ended(segments.gather(guest, 0, bytes, 0, 0))).toBe(0);
});
