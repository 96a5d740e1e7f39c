import { errno } from "../../base/errno.ts";
import { cut, dmaMap, dmaUnmap, with64 } from "../../client/raw-requests.ts";
import { DmaMap, DmaMapFlags, DmaUnmap, HeaderFlags } from "../../spec/vfio-user.ts";
import { BenchDma, benchDma, benchFirstByte, echo } from "../actions.ts";
import { casesOf } from "../case.ts";
import type { Context } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import type { Guest } from "../guest.ts";
import { bench, hello } from "../offer.ts";
import type { Peer } from "../peer.ts";

const { read, write, mmap, fileIo } = DmaMapFlags.mask;
const page = 4096;

function unmap(peer: Peer, address: number, size: number): void {
  peer.done(dmaUnmap({ address, size }), DmaUnmap.size);
}

/** A connection with all of a guest's memory mapped from its file. */
function mapped(context: Context, flags = read | write): { peer: Peer; guest: Guest } {
  const peer = context.open();
  const guest = context.guest();
  peer.done(guest.map(0, guest.size, flags), 0, [guest.fd]);
  return { peer, guest };
}

/** Fills a page of the guest by the device, and says whether it changed. */
function deviceFills(peer: Peer, guest: Guest, at: number): boolean {
  guest.fill(at, page, 0x11);
  const status = benchDma(peer, BenchDma.mappedFill, guest.iova + at, page);
  const bytes = guest.read(at, page);
  const uniform = bytes.every((byte) => byte === bytes[0]);
  expectThat(uniform, "a page filled as a whole or not at all", bytes.join(" "));
  expectEqual("status of the fill, when the page is", bytes[0] !== 0x11, status === 0);
  return status === 0;
}

export const cases = casesOf(
  "dma-map",
  "VFIO_USER_DMA_MAP",
  [],
  [
    {
      id: "with-fd",
      title: "memory with a file can be mapped; the reply has no payload",
      run(context) {
        const { peer, guest } = mapped(context);
        unmap(peer, guest.iova, guest.size);
        peer.done(guest.map(), 0, [guest.fd]);
      },
    },
    {
      id: "without-fd",
      title: "memory without a file can be mapped",
      run(context) {
        const peer = context.open();
        peer.done(dmaMap({ address: 0, size: page }), 0);
        peer.done(dmaMap({ address: 2 ** 40, size: 2 ** 30 }), 0);
        unmap(peer, 0, page);
        unmap(peer, 2 ** 40, 2 ** 30);
      },
    },
    {
      id: "many",
      title: "adjacent mappings stay apart and go one by one",
      run(context) {
        const peer = context.open();
        const addresses = [3, 1, 2, 0, 4].map((i) => i * page);
        for (const address of addresses) peer.done(dmaMap({ address, size: page }), 0);
        for (const address of addresses) unmap(peer, address, page);
      },
    },
    {
      id: "overlap",
      title: "a mapping over another one is EEXIST",
      run(context) {
        const peer = context.open();
        peer.done(dmaMap({ address: 4 * page, size: 4 * page }), 0);
        for (const [address, size] of [
          [4, 4],
          [4, 1],
          [7, 1],
          [5, 2],
          [3, 2],
          [7, 2],
          [0, 64],
        ] as const) {
          const request = dmaMap({ address: address * page, size: size * page });
          peer.refused(request, errno.EEXIST);
        }
        peer.done(dmaMap({ address: 3 * page, size: page }), 0);
        peer.done(dmaMap({ address: 8 * page, size: page }), 0);
      },
    },
    {
      id: "short",
      title: "less than the 32 bytes of the structure is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [8, DmaMap.size - 1]) {
          peer.refused(cut(dmaMap({ address: 0, size: page }), length));
        }
        peer.usable();
      },
    },
    {
      id: "overflow",
      title: "a mapping that ends beyond the last address is EINVAL",
      run(context) {
        const peer = context.open();
        const last = dmaMap({ address: 0, size: 2 * page });
        peer.refused(with64(last, DmaMap.offset.address, 2n ** 64n - 4096n));
        peer.refused(with64(dmaMap({ address: page }), DmaMap.offset.size, 2n ** 64n - 4096n));
        peer.usable();
      },
    },
    {
      id: "nothing",
      title: "a mapping of no bytes is EINVAL",
      run(context) {
        context.open().refused(dmaMap({ address: page, size: 0 }));
      },
    },
    {
      id: "too-big",
      title: "more memory than any guest has is ENOSPC, or taken by messages",
      run(context) {
        const peer = context.open();
        const size = 2 ** 43 + page;
        const reply = peer.ask(dmaMap({ address: 0, size }));
        const failed = (reply.flags & HeaderFlags.mask.error) !== 0;
        if (failed) expectEqual("error", reply.error, errno.ENOSPC);
        else unmap(peer, 0, size);
      },
    },
    {
      id: "access-without-fd",
      title: "an access by file without a file is EINVAL",
      run(context) {
        const peer = context.open();
        for (const how of [mmap, fileIo, mmap | fileIo]) {
          peer.refused(dmaMap({ address: 0, size: page, flags: read | write | how }));
        }
        peer.usable();
      },
    },
    {
      id: "most",
      title: "as many mappings as max_dma_maps says can be had, and one more is refused",
      needs: [({ limits }) => (limits.maxDmaMaps <= 65_535 ? null : "too many to try")],
      run(context) {
        const peer = context.open();
        const most = peer.server.limits.maxDmaMaps;
        const flags = HeaderFlags.mask.noReply;
        for (let i = 0; i < most - 1; i++) {
          peer.post(dmaMap({ address: i * page, size: page }), [], { flags });
        }
        peer.done(dmaMap({ address: (most - 1) * page, size: page }), 0);
        const reply = peer.ask(dmaMap({ address: most * page, size: page }));
        const failed = (reply.flags & HeaderFlags.mask.error) !== 0;
        expectThat(failed, "an error for one mapping more", "a good reply");
        peer.done(dmaUnmap({ flags: 2 }), DmaUnmap.size);
      },
    },
    {
      id: "device-reads",
      title: "a device reads what the guest has written to memory mapped from a file",
      needs: [bench],
      run(context) {
        const { peer, guest } = mapped(context);
        for (const value of [0x33, 0x77]) {
          guest.fill(page, page, value);
          const status = benchDma(peer, BenchDma.mappedRead, guest.iova + page, page);
          expectEqual("status of the device's DMA", status, 0);
          expectEqual("first byte that the device read", benchFirstByte(peer), value);
        }
      },
    },
    {
      id: "device-writes",
      title: "a device writes to memory mapped from a file, and only where it was told to",
      needs: [bench],
      run(context) {
        const { peer, guest } = mapped(context);
        guest.fill(0, guest.size, 0x22);
        expectThat(deviceFills(peer, guest, 2 * page), "a page filled by the device", "not");
        expectEqual("byte in front", guest.read(2 * page - 1, 1)[0], 0x22);
        expectEqual("byte behind", guest.read(3 * page, 1)[0], 0x22);
      },
    },
    {
      id: "offset",
      title: "the offset says where in the file the memory starts",
      needs: [bench],
      run(context) {
        const peer = context.open();
        const guest = context.guest();
        guest.fill(0, guest.size, 0);
        guest.fill(5 * page, page, 0x44);
        const request = dmaMap({ address: 0x10_0000, size: page, offset: 5 * page });
        peer.done(request, 0, [guest.fd]);
        expectEqual("status", benchDma(peer, BenchDma.mappedRead, 0x10_0000, page), 0);
        expectEqual("first byte that the device read", benchFirstByte(peer), 0x44);
      },
    },
    {
      id: "read-only",
      title: "a device cannot write to memory that is mapped for reading",
      needs: [bench],
      run(context) {
        const { peer, guest } = mapped(context, read);
        expectThat(!deviceFills(peer, guest, 0), "a refused write", "a written page");
        const status = benchDma(peer, BenchDma.mappedRead, guest.iova, page);
        expectEqual("status of a read", status, 0);
      },
    },
    {
      id: "unmapped",
      title: "a device cannot reach memory that is not mapped, nor beyond a mapping's end",
      needs: [bench],
      run(context) {
        const { peer, guest } = mapped(context);
        const { iova, size } = guest;
        for (const [at, length] of [
          [iova - page, page],
          [iova + size, page],
          [iova + size - page, 2 * page],
          [0, page],
        ] as const) {
          const status = benchDma(peer, BenchDma.mappedRead, at, length);
          expectThat(status !== 0, `a failed read at ${at.toString(16)}`, status);
        }
        peer.usable();
      },
    },
    {
      id: "two-maps",
      title: "a device reads across the border of two adjacent mappings",
      needs: [bench],
      run(context) {
        const peer = context.open();
        const guest = context.guest();
        guest.fill(page, page, 0x66);
        peer.done(guest.map(page, page), 0, [guest.fd]);
        peer.done(guest.map(2 * page, page), 0, [guest.fd]);
        const at = guest.iova + page;
        expectEqual("status", benchDma(peer, BenchDma.mappedRead, at, 2 * page), 0);
        expectEqual("first byte that the device read", benchFirstByte(peer), 0x66);
      },
    },
    {
      id: "echo",
      title: "a device copies guest memory that it has mapped",
      needs: [hello],
      run(context) {
        const { peer, guest } = mapped(context);
        for (const length of [1, 64, page, 3 * page + 5]) {
          const bytes = guest.pattern(3, length);
          const target = guest.iova + 8 * page + 1;
          expectEqual("status", echo(peer, { source: guest.iova + 3, target, length }), 0);
          expectBytes("copy", guest.read(8 * page + 1, length), bytes);
        }
      },
    },
    {
      id: "file-io",
      title: "memory that may only be read and written as a file is reached without messages",
      needs: [hello],
      run(context) {
        const { peer, guest } = mapped(context, read | write | fileIo);
        const bytes = guest.pattern(0, page);
        const target = guest.iova + 2 * page;
        expectEqual("status", echo(peer, { source: guest.iova, target, length: page }), 0);
        expectBytes("copy", guest.read(2 * page, page), bytes);
      },
    },
    {
      id: "mmap",
      title: "memory that says it may be mapped is reached without messages",
      needs: [hello],
      run(context) {
        const { peer, guest } = mapped(context, read | write | mmap);
        const bytes = guest.pattern(0, page);
        const target = guest.iova + 2 * page;
        expectEqual("status", echo(peer, { source: guest.iova, target, length: page }), 0);
        expectBytes("copy", guest.read(2 * page, page), bytes);
      },
    },
  ],
);
