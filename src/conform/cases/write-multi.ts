import { cut, type MultiEntry, regionWriteMulti, with64 } from "../../client/raw-requests.ts";
import { HeaderFlags, RegionWriteMulti } from "../../spec/vfio-user.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf } from "../case.ts";
import type { Context } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { known, writesMany } from "../offer.ts";
import { type Peer, viewOf } from "../peer.ts";

const data = 0x8877_6655_4433_2211n;

/** Entries that write `count` bytes each, one behind the other. */
function entriesOf(context: Context, entries: number, count = 8): MultiEntry[] {
  const { region, offset } = memoryOf(context.offer);
  return Array.from({ length: entries }, (_, i) => ({
    region,
    offset: offset + i * count,
    count,
    data: data + BigInt(i),
  }));
}

function written(peer: Peer, context: Context, count: number): Uint8Array {
  const { region, offset } = memoryOf(context.offer);
  return readBytes(peer, region, offset, count);
}

/** The bytes that the entries leave behind. */
function expected(entries: readonly MultiEntry[], count = 8): Uint8Array {
  const bytes = new Uint8Array(entries.length * count);
  const word = new DataView(new ArrayBuffer(8));
  for (const [i, entry] of entries.entries()) {
    word.setBigUint64(0, entry.data ?? 0n, true);
    bytes.set(new Uint8Array(word.buffer, 0, count), i * count);
  }
  return bytes;
}

export const cases = casesOf(
  "write-multi",
  "VFIO_USER_REGION_WRITE_MULTI",
  [writesMany, known],
  [
    {
      id: "data",
      title: "all writes of a message are done, and the reply counts them",
      run(context) {
        const peer = context.open();
        for (const count of [1, 3, 64, 200]) {
          const entries = entriesOf(context, count);
          const reply = peer.done(regionWriteMulti(entries), RegionWriteMulti.size);
          expectEqual("writes done", RegionWriteMulti.get(viewOf(reply), 0).count, count);
          expectBytes("data", written(peer, context, 8 * count), expected(entries));
        }
      },
    },
    {
      id: "small",
      title: "a write may have 1, 2 or 4 bytes",
      run(context) {
        const peer = context.open();
        for (const bytes of [1, 2, 4]) {
          const entries = entriesOf(context, 16, bytes);
          peer.done(regionWriteMulti(entries), RegionWriteMulti.size);
          const came = written(peer, context, 16 * bytes);
          expectBytes(`writes of ${bytes} bytes`, came, expected(entries, bytes));
        }
      },
    },
    {
      id: "order",
      title: "writes to one place are done in order",
      run(context) {
        const peer = context.open();
        const [first] = entriesOf(context, 1);
        const entries = [1n, 2n, 3n].map((value) => ({ ...first, data: value }));
        peer.done(regionWriteMulti(entries), RegionWriteMulti.size);
        expectEqual("byte left", written(peer, context, 1)[0], 3);
      },
    },
    {
      id: "no-reply",
      title: "without a reply the writes are done before the next request is served",
      run(context) {
        const peer = context.open();
        const entries = entriesOf(context, 100);
        peer.post(regionWriteMulti(entries), [], { flags: HeaderFlags.mask.noReply });
        expectBytes("data", written(peer, context, 800), expected(entries));
      },
    },
    {
      id: "none",
      title: "a message of no writes does none",
      run(context) {
        const peer = context.open();
        const reply = peer.done(regionWriteMulti([]), RegionWriteMulti.size);
        expectEqual("writes done", RegionWriteMulti.get(viewOf(reply), 0).count, 0);
      },
    },
    {
      id: "bad-count",
      title: "a number of writes other than those that came is EINVAL",
      run(context) {
        const peer = context.open();
        const request = regionWriteMulti(entriesOf(context, 2));
        for (const count of [1n, 3n, 0n, 2n ** 32n + 2n, 2n ** 63n, 2n ** 64n - 1n]) {
          peer.refused(with64(request, 0, count));
        }
        peer.refused(cut(request, request.payload.length - 1));
        peer.refused(cut(request, 4));
        peer.usable();
      },
    },
    {
      id: "too-wide",
      title: "a first write of more than 8 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        const [first] = entriesOf(context, 1);
        for (const count of [9, 16, 0xffff_ffff]) {
          peer.refused(regionWriteMulti([{ ...first, count }]));
        }
        peer.usable();
      },
    },
    {
      id: "bad-region",
      title: "a first write to a region that is not there, or beyond its end, is EINVAL",
      run(context) {
        const peer = context.open();
        const [first] = entriesOf(context, 1);
        const { regions } = context.offer;
        peer.refused(regionWriteMulti([{ ...first, region: regions.length }]));
        peer.refused(regionWriteMulti([{ ...first, region: 0xffff_ffff }]));
        peer.refused(regionWriteMulti([{ ...first, offset: 2 ** 40 }]));
        peer.usable();
      },
    },
    {
      id: "bad-behind-good",
      title: "a bad write undoes none of the good ones before it; the reply counts those done",
      run(context) {
        const peer = context.open();
        const entries = entriesOf(context, 4);
        const bad = [...entries.slice(0, 2), { ...entries[2], count: 9 }, entries[3] ?? {}];
        const reply = peer.done(regionWriteMulti(bad), RegionWriteMulti.size);
        const { count } = RegionWriteMulti.get(viewOf(reply), 0);
        expectThat(count === 2 || count === 3, "the good writes before, or all good ones", count);
        expectBytes("data", written(peer, context, 16), expected(entries.slice(0, 2)));
      },
    },
  ],
);
