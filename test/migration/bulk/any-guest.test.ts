import fc from "fast-check";
import { describe, expect, it } from "vitest";
import { BulkCommand } from "../../../src/devices/bulk/index.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { Window } from "../../../src/sys/window.ts";
import { guestBase, mib } from "../../devices/bulk-driver.ts";
import { Side } from "./pair.ts";

const { running, stopCopy, preCopy } = MigState;
const { fill, toBoard, toGuest } = BulkCommand;
const size = 2 * mib;

/** What a guest may do, and what the operator does meanwhile. */
const place = fc.nat(size - 1);
const step = fc.oneof(
  fc.record({ what: fc.constant("fill" as const), place, count: fc.nat(20_000), value: fc.nat(3) }),
  fc.record({ what: fc.constant("load" as const), place, count: fc.nat(20_000), value: fc.nat(3) }),
  fc.record({ what: fc.constant("store" as const), place, count: fc.nat(8), value: fc.nat(3) }),
  fc.record({ what: fc.constant("work" as const), place, count: fc.nat(3), value: fc.nat(3) }),
  fc.record({ what: fc.constant("read" as const), place, count: fc.nat(3), value: fc.nat(3) }),
);
type Doing = typeof step extends fc.Arbitrary<infer T> ? T : never;

const ram = Buffer.from(Array.from({ length: size }, (_, i) => (i >>> 12) & 0xff));

const make = (mmap: string) => {
  const side = new Side({ memoryMiB: String(size / mib), mmap });
  const offer = side.device.regions[2]?.mmap ?? null;
  const window = offer === null ? null : Window.reserve(size);
  window?.lay(offer?.fd ?? -1, 0, size, true);
  return { side, seen: window?.bytes ?? null };
};

function act({ side, seen }: ReturnType<typeof make>, { what, place, count, value }: Doing): void {
  const length = Math.min(count + 1, size - place);
  const { guest } = side;
  if (what === "fill") guest.start(fill, place, length, { value });
  if (what === "load") guest.start(toBoard, place, length, { at: guestBase + place });
  if (what === "work") for (let turn = 0; turn < count; turn++) side.device.work();
  if (what !== "store") return;
  if (seen !== null) seen.fill(value, place, place + length);
  else guest.poke(Math.min(place & ~3, size - 4), value);
}

/** All of the board, as the guest reads it. */
function board({ side }: ReturnType<typeof make>): Buffer {
  side.guest.vmm.run();
  expect(side.guest.run(toGuest, 0, size, { at: guestBase + size })).toBe(0);
  return side.guest.ram.read(guestBase + size, size);
}

describe.each(["never", "trusted"])("with mmap=%s", (mmap) => {
  it("a target has what the source had, whatever the guest did meanwhile", () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 30 }), fc.nat(30), (steps, begin) => {
        const [source, target] = [make(mmap), make(mmap)];
        for (const { side } of [source, target]) side.guest.ram.write(guestBase, ram);
        const stream: Buffer[] = [];
        for (const [i, each] of steps.entries()) {
          if (i === begin) expect(source.side.go(preCopy)).toBe(0);
          if (i >= begin && each.what === "read") stream.push(source.side.read());
          act(source, each);
        }
        expect(source.side.go(stopCopy)).toBe(0);
        stream.push(source.side.read());
        source.seen?.fill(0xee, 0, 5000);
        target.side.become(Buffer.concat(stream));
        expect(source.side.go(running)).toBe(0);
        const [there, here] = [board(source), board(target)];
        expect(there.equals(here), `first difference at ${difference(there, here)}`).toBe(true);
        for (const { side, seen } of [source, target]) {
          if (seen !== null) expect(Buffer.compare(seen, there), "and so has the mapping").toBe(0);
          side.device.detach();
        }
      }),
      { numRuns: 25 },
    );
  });
});

const difference = (one: Buffer, other: Buffer): number =>
  one.findIndex((byte, i) => byte !== other[i]);
