import { errno } from "../../base/errno.ts";
import {
  cut,
  dmaMap,
  dmaUnmap,
  encoded,
  joined,
  littleEndian,
  with64,
} from "../../client/raw-requests.ts";
import { DmaUnmap, DmaUnmapBitmap, DmaUnmapFlags, HeaderFlags } from "../../spec/vfio-user.ts";
import { BenchDma, benchDma } from "../actions.ts";
import { casesOf } from "../case.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { bench, limited } from "../offer.ts";
import type { Peer } from "../peer.ts";

const page = 4096;
const { all, getDirtyBitmap } = DmaUnmapFlags.mask;

function map(peer: Peer, ...addresses: number[]): void {
  for (const address of addresses) peer.done(dmaMap({ address, size: page }), 0);
}

export const cases = casesOf(
  "dma-unmap",
  "VFIO_USER_DMA_UNMAP",
  [],
  [
    {
      id: "exact",
      title: "a mapping is taken away by its own address and size; the reply echoes the request",
      run(context) {
        const peer = context.open();
        map(peer, 0, 16 * page);
        for (const address of [16 * page, 0]) {
          const request = dmaUnmap({ address, size: page });
          const reply = peer.done(request, DmaUnmap.size);
          expectBytes("echo", reply.payload.subarray(8), request.payload.subarray(8));
        }
        map(peer, 0, 16 * page);
      },
    },
    {
      id: "not-mapped",
      title: "what is no mapping is ENOENT",
      run(context) {
        const peer = context.open();
        map(peer, 0, page);
        peer.refused(dmaUnmap({ address: 0x10000, size: page }), errno.ENOENT);
        peer.done(dmaUnmap({ address: 0, size: page }));
        peer.refused(dmaUnmap({ address: 0, size: page }), errno.ENOENT);
      },
    },
    {
      id: "inexact",
      title: "a part of a mapping, or several in one, is ENOENT and nothing goes away",
      run(context) {
        const peer = context.open();
        peer.done(dmaMap({ address: 4 * page, size: 4 * page }), 0);
        peer.done(dmaMap({ address: 8 * page, size: page }), 0);
        for (const [address, size] of [
          [4, 1],
          [4, 3],
          [5, 3],
          [4, 5],
          [0, 16],
          [5, 1],
        ] as const) {
          const request = dmaUnmap({ address: address * page, size: size * page });
          peer.refused(request, errno.ENOENT);
        }
        peer.done(dmaUnmap({ address: 4 * page, size: 4 * page }));
        peer.done(dmaUnmap({ address: 8 * page, size: page }));
      },
    },
    {
      id: "all",
      title: "the flag of all takes every mapping away",
      run(context) {
        const peer = context.open();
        map(peer, ...Array.from({ length: 64 }, (_, i) => 2 * i * page));
        peer.done(dmaUnmap({ flags: all }), DmaUnmap.size);
        peer.refused(dmaUnmap({ address: 0, size: page }), errno.ENOENT);
        peer.done(dmaMap({ address: 0, size: 256 * page }), 0);
        peer.done(dmaUnmap({ flags: all }), DmaUnmap.size);
      },
    },
    {
      id: "all-exact",
      title: "the flag of all with an address or a size is EINVAL",
      run(context) {
        const peer = context.open();
        map(peer, page);
        peer.refused(dmaUnmap({ flags: all, address: page }));
        peer.refused(dmaUnmap({ flags: all, size: page }));
        peer.refused(dmaUnmap({ flags: all | getDirtyBitmap }));
        peer.done(dmaUnmap({ address: page, size: page }));
      },
    },
    {
      id: "unknown-flags",
      title: "an unknown flag is EINVAL",
      run(context) {
        const peer = context.open();
        map(peer, 0);
        peer.refused(dmaUnmap({ flags: 4, size: page }));
        peer.done(dmaUnmap({ size: page }));
      },
    },
    {
      id: "short",
      title: "less than the 24 bytes of the structure, or an argsz below them, is EINVAL",
      run(context) {
        const peer = context.open();
        map(peer, 0);
        peer.refused(cut(dmaUnmap({ size: page }), 8));
        peer.refused(cut(dmaUnmap({ size: page }), DmaUnmap.size - 1));
        peer.refused(dmaUnmap({ argsz: 8, size: page }));
        peer.done(dmaUnmap({ size: page }));
      },
    },
    {
      id: "argsz-too-large",
      section: "Message sizes",
      title: "an argsz above the largest transfer is EINVAL",
      needs: [limited],
      run(context) {
        const peer = context.open();
        map(peer, 0);
        const argsz = peer.server.limits.maxDataXferSize + 8;
        peer.refused(dmaUnmap({ argsz, size: page }));
        peer.done(dmaUnmap({ size: page }));
      },
    },
    {
      id: "bitmap-not-logging",
      title: "a dirty bitmap while nothing is logged is EINVAL and the mapping stays",
      run(context) {
        const peer = context.open();
        map(peer, 0);
        const bitmap = joined(
          encoded(DmaUnmapBitmap, { pageSize: page, size: 8 }),
          littleEndian(0, 8),
        );
        peer.refused(dmaUnmap({ flags: getDirtyBitmap, size: page }, bitmap));
        peer.done(dmaUnmap({ size: page }));
      },
    },
    {
      id: "bitmap-overflow",
      title: "a dirty bitmap of nearly 2^64 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        map(peer, 0);
        const bitmap = encoded(DmaUnmapBitmap, { pageSize: page });
        const request = dmaUnmap({ flags: getDirtyBitmap, size: page }, bitmap);
        const sizeAt = DmaUnmap.size + DmaUnmapBitmap.offset.size;
        for (const size of [2n ** 64n - 1n, 2n ** 64n - 1n - 40n + 8n, 2n ** 32n]) {
          peer.refused(with64(request, sizeAt, size));
        }
        peer.refused(cut(request, DmaUnmap.size + 8));
        peer.done(dmaUnmap({ size: page }));
      },
    },
    {
      id: "huge",
      title: "an address and a size that overflow are refused",
      run(context) {
        const peer = context.open();
        const request = dmaUnmap({ size: page });
        peer.refused(with64(request, DmaUnmap.offset.address, 2n ** 64n - 1n), [
          errno.ENOENT,
          errno.EINVAL,
        ]);
        peer.refused(with64(request, DmaUnmap.offset.size, 2n ** 64n - 1n), [
          errno.ENOENT,
          errno.EINVAL,
        ]);
        peer.usable();
      },
    },
    {
      id: "device-loses-it",
      title: "a device cannot reach memory any more once its unmapping was answered",
      needs: [bench],
      run(context) {
        const peer = context.open();
        const guest = context.guest();
        peer.done(guest.map(), 0, [guest.fd]);
        expectEqual("status", benchDma(peer, BenchDma.mappedRead, guest.iova, page), 0);
        peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
        for (const command of [BenchDma.mappedRead, BenchDma.mappedFill]) {
          const status = benchDma(peer, command, guest.iova, page);
          expectThat(status !== 0, "a failed DMA", status);
        }
      },
    },
    {
      id: "client-gone",
      section: "Client Disconnection Behavior",
      title: "the mappings of a client that has gone are gone with it",
      run(context) {
        const first = context.open();
        map(first, 0, page);
        first.close();
        const second = context.open();
        second.refused(dmaUnmap({ address: 0, size: page }), errno.ENOENT);
        second.done(dmaMap({ address: 0, size: 2 * page }), 0);
      },
    },
    {
      id: "no-reply",
      title: "mapping and unmapping without replies is done in order",
      run(context) {
        const peer = context.open();
        const flags = HeaderFlags.mask.noReply;
        for (let i = 0; i < 100; i++) {
          peer.post(dmaMap({ address: 0, size: page }), [], { flags });
          peer.post(dmaUnmap({ address: 0, size: page }), [], { flags });
        }
        peer.done(dmaMap({ address: 0, size: page }), 0);
      },
    },
  ],
);
