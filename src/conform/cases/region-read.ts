import { cut, regionRead, regionWrite, with64 } from "../../client/raw-requests.ts";
import { PciRegion } from "../../spec/vfio.ts";
import { RegionAccess } from "../../spec/vfio-user.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf } from "../case.ts";
import { ourCapabilities } from "../context.ts";
import { expectBytes, expectEqual } from "../expect.ts";
import { config, isBench, known, limited, type Offer } from "../offer.ts";
import { viewOf } from "../peer.ts";

const readable = (offer: Offer) =>
  offer.regions.find(({ size, flags }) => size > 0 && (flags & 1) !== 0);
const absent = (offer: Offer) => offer.regions.find(({ size }) => size === 0);
const { offset: offsetAt } = RegionAccess.offset;

export const cases = casesOf(
  "region-read",
  "VFIO_USER_REGION_READ",
  [(offer) => (readable(offer) === undefined ? "no region can be read" : null)],
  [
    {
      id: "data",
      title: "the reply repeats offset, region and count, and has so many bytes of data",
      run(context) {
        const peer = context.open();
        const region = readable(context.offer)?.index ?? 0;
        for (const count of [1, 2, 4, 8]) {
          const reply = peer.done(regionRead(region, 8, count), RegionAccess.size + count);
          const echoed = RegionAccess.get(viewOf(reply), 0);
          expectEqual("offset", echoed.offset, 8);
          expectEqual("region", echoed.region, region);
          expectEqual("count", echoed.count, count);
        }
      },
    },
    {
      id: "any-size",
      title: "plain memory is read in pieces of any size from any place",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        const data = Uint8Array.from({ length: 300 }, (_, i) => (i * 37) & 0xff);
        peer.done(regionWrite(region, offset, data), RegionAccess.size);
        for (const [from, count] of [
          [0, 300],
          [1, 1],
          [3, 3],
          [7, 64],
          [255, 45],
        ] as const) {
          const came = readBytes(peer, region, offset + from, count);
          expectBytes(`bytes from ${from}`, came, data.subarray(from, from + count));
        }
      },
    },
    {
      id: "largest",
      section: "Message sizes",
      title: "as many bytes as the largest transfer are read at once",
      needs: [
        known,
        (offer) => (isBench(offer) ? null : "no region is as large as the largest transfer"),
      ],
      run(context) {
        const peer = context.open();
        const count = peer.server.limits.maxDataXferSize;
        peer.done(regionRead(PciRegion.bar0, 0, count), RegionAccess.size + count);
      },
    },
    {
      id: "whole-config",
      title: "configuration space is read as a whole, and byte by byte the same",
      needs: [config],
      run(context) {
        const peer = context.open();
        const region = PciRegion.config;
        const whole = readBytes(peer, region, 0, 256);
        for (let at = 0; at < 64; at++) {
          expectEqual(`byte ${at}`, readBytes(peer, region, at, 1)[0], whole[at]);
        }
        for (const size of [2, 4]) {
          for (let at = 0; at < 64; at += size) {
            const came = readBytes(peer, region, at, size);
            expectBytes(`${size} bytes at ${at}`, came, whole.subarray(at, at + size));
          }
        }
      },
    },
    {
      id: "nothing",
      title: "no bytes are read with success, and the reply repeats the request",
      run(context) {
        const peer = context.open();
        const region = readable(context.offer);
        for (const offset of [0, region?.size ?? 0]) {
          const reply = peer.done(regionRead(region?.index ?? 0, offset, 0), RegionAccess.size);
          expectEqual("count", RegionAccess.get(viewOf(reply), 0).count, 0);
        }
      },
    },
    {
      id: "beyond",
      title: "a read that ends beyond the region is EINVAL, also where it overflows",
      run(context) {
        const peer = context.open();
        const { index, size } = readable(context.offer) ?? { index: 0, size: 0 };
        for (const [offset, count] of [
          [size, 1],
          [size - 1, 2],
          [size - 4, 8],
          [size + 4096, 4],
          [2 ** 52, 4],
        ] as const) {
          peer.refused(regionRead(index, offset, count));
        }
        for (const offset of [2n ** 64n - 1n, 2n ** 64n - 256n, 2n ** 63n]) {
          peer.refused(with64(regionRead(index, 0, 256), offsetAt, offset));
        }
        peer.usable();
      },
    },
    {
      id: "too-many",
      section: "Message sizes",
      title: "more than the largest transfer is EINVAL",
      needs: [limited],
      run(context) {
        const peer = context.open();
        const most = peer.server.limits.maxDataXferSize;
        for (const count of [most + 1, most + 8, 0xffff_ffff]) {
          for (const { index } of context.offer.regions) peer.refused(regionRead(index, 0, count));
        }
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
          peer.refused(regionRead(region, 0, 4));
        }
        const missing = absent(context.offer);
        if (missing !== undefined) peer.refused(regionRead(missing.index, 0, 4));
        peer.usable();
      },
    },
    {
      id: "short",
      title: "a payload below 16 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [8, 15]) peer.refused(cut(regionRead(0, 0, 4), length));
        peer.usable();
      },
    },
    {
      id: "small-client",
      section: "Message sizes",
      title: "a client that takes little data still reads registers",
      needs: [config],
      run(context) {
        const peer = context.open({ ...ourCapabilities, max_data_xfer_size: 4 });
        peer.done(regionRead(PciRegion.config, 0, 4), RegionAccess.size + 4);
      },
    },
  ],
);
