import { cut, regionRead, regionWrite, with64 } from "../../client/raw-requests.ts";
import { PciRegion } from "../../spec/vfio.ts";
import { HeaderFlags, RegionAccess } from "../../spec/vfio-user.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf } from "../case.ts";
import { expectBytes, expectEqual } from "../expect.ts";
import { isBench, known, limited, type Offer } from "../offer.ts";
import { viewOf } from "../peer.ts";

const writable = (offer: Offer) =>
  offer.regions.find(({ size, flags }) => size > 0 && (flags & 2) !== 0);
const absent = (offer: Offer) => offer.regions.find(({ size }) => size === 0);
const { offset: offsetAt } = RegionAccess.offset;
const eight = new Uint8Array(8);

/** `length` bytes that tell places apart. */
const pattern = (length: number, salt = 0): Uint8Array =>
  Uint8Array.from({ length }, (_, i) => (i * 13 + (i >>> 8) * 5 + salt) & 0xff);

export const cases = casesOf(
  "region-write",
  "VFIO_USER_REGION_WRITE",
  [(offer) => (writable(offer) === undefined ? "no region can be written" : null)],
  [
    {
      id: "data",
      title: "what is written is read again; the reply repeats offset, region and count",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        for (const count of [1, 2, 3, 4, 8, 64, 4096]) {
          const data = pattern(count, count);
          const reply = peer.done(regionWrite(region, offset + 8, data), RegionAccess.size);
          const echoed = RegionAccess.get(viewOf(reply), 0);
          expectEqual("offset", echoed.offset, offset + 8);
          expectEqual("region", echoed.region, region);
          expectEqual("count", echoed.count, count);
          expectBytes("data", readBytes(peer, region, offset + 8, count), data);
        }
      },
    },
    {
      id: "neighbours",
      title: "a write changes its own bytes and no others",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        peer.done(regionWrite(region, offset, new Uint8Array(32)));
        peer.done(regionWrite(region, offset + 13, Uint8Array.of(1, 2, 3)));
        const expected = new Uint8Array(32);
        expected.set([1, 2, 3], 13);
        expectBytes("memory", readBytes(peer, region, offset, 32), expected);
      },
    },
    {
      id: "last-bytes",
      title: "the last bytes of a region can be written and read",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset, size } = memoryOf(context.offer);
        const data = pattern(8, 3);
        peer.done(regionWrite(region, offset + size - 8, data));
        expectBytes("data", readBytes(peer, region, offset + size - 8, 8), data);
      },
    },
    {
      id: "largest",
      section: "Message sizes",
      title: "large writes are taken whole, one behind the other",
      needs: [
        known,
        (offer) => (isBench(offer) ? null : "no region is as large as the largest transfer"),
      ],
      run(context) {
        const peer = context.open();
        const { region, offset, size } = memoryOf(context.offer);
        const bytes = Math.min(size, peer.server.limits.maxDataXferSize);
        for (let salt = 0; salt < 4; salt++) {
          peer.post(regionWrite(region, offset, pattern(bytes, salt)), [], {
            flags: HeaderFlags.mask.noReply,
          });
        }
        const reply = peer.done(regionRead(region, offset, bytes), RegionAccess.size + bytes);
        expectBytes("data", reply.payload.subarray(RegionAccess.size), pattern(bytes, 3));
      },
    },
    {
      id: "nothing",
      title: "no bytes are written with success, and the reply repeats the request",
      run(context) {
        const peer = context.open();
        const region = writable(context.offer);
        for (const offset of [0, region?.size ?? 0]) {
          const request = regionWrite(region?.index ?? 0, offset, new Uint8Array(0));
          const reply = peer.done(request, RegionAccess.size);
          expectEqual("count", RegionAccess.get(viewOf(reply), 0).count, 0);
        }
      },
    },
    {
      id: "beyond",
      title: "a write that ends beyond the region is EINVAL, also where it overflows",
      run(context) {
        const peer = context.open();
        const { index, size } = writable(context.offer) ?? { index: 0, size: 0 };
        for (const offset of [size, size - 1, size - 7, size + 4096, 2 ** 52]) {
          peer.refused(regionWrite(index, offset, eight));
        }
        for (const offset of [2n ** 64n - 1n, 2n ** 64n - 8n, 2n ** 63n]) {
          peer.refused(with64(regionWrite(index, 0, eight), offsetAt, offset));
        }
        peer.usable();
      },
    },
    {
      id: "count",
      title: "a count other than the bytes that came is EINVAL",
      run(context) {
        const peer = context.open();
        const region = writable(context.offer)?.index ?? 0;
        peer.refused(regionWrite(region, 0, eight, 9));
        peer.refused(regionWrite(region, 0, new Uint8Array(4), 8));
        peer.refused(regionWrite(region, 0, new Uint8Array(0), 4));
        peer.refused(regionWrite(region, 0, eight, 0xffff_ffff));
        peer.usable();
      },
    },
    {
      id: "too-many",
      section: "Message sizes",
      title: "a count above the largest transfer is EINVAL",
      needs: [limited],
      run(context) {
        const peer = context.open();
        const most = peer.server.limits.maxDataXferSize;
        peer.refused(regionWrite(PciRegion.bar0, 0, eight, most + 8));
        peer.refused(regionWrite(PciRegion.config, 0, eight, most + 1));
        peer.usable();
      },
    },
    {
      id: "bad-region",
      title: "a region that is not there is EINVAL",
      run(context) {
        const peer = context.open();
        const { regions } = context.offer;
        for (const region of [regions.length, 1000, 0xffff_ffff]) {
          peer.refused(regionWrite(region, 0, eight));
        }
        const missing = absent(context.offer);
        if (missing !== undefined) peer.refused(regionWrite(missing.index, 0, eight));
        peer.usable();
      },
    },
    {
      id: "short",
      title: "a payload below 16 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [8, 15]) peer.refused(cut(regionWrite(0, 0, eight), length));
        peer.usable();
      },
    },
  ],
);
