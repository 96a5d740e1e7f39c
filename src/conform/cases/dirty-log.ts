import { errno } from "../../base/errno.ts";
import {
  bitmapBytes,
  cut,
  deviceFeature,
  dmaUnmap,
  encoded,
  loggingReport,
  loggingStart,
  loggingStop,
} from "../../client/raw-requests.ts";
import {
  DeviceFeature,
  DmaLoggingControl,
  DmaLoggingReport,
  Feature,
  FeatureFlags,
} from "../../spec/vfio.ts";
import { DmaUnmap, DmaUnmapBitmap, DmaUnmapFlags } from "../../spec/vfio-user.ts";
import { BenchDma, benchDma, echo } from "../actions.ts";
import { casesOf } from "../case.ts";
import type { Context } from "../context.ts";
import { expectBytes, expectEqual } from "../expect.ts";
import type { Guest } from "../guest.ts";
import { isBench, known, logs } from "../offer.ts";
import type { Peer } from "../peer.ts";

const page = 4096;
const zeroes = new Uint8Array(7);
const { set } = FeatureFlags.mask;
const headBytes = DeviceFeature.size + DmaLoggingReport.size;

/** A client with guest memory that the device has mapped, and logging switched on. */
function logging(context: Context, pageSize = page): { peer: Peer; guest: Guest } {
  const peer = context.open();
  const guest = context.guest(64 * page);
  peer.done(guest.map(), 0, [guest.fd]);
  peer.done(loggingStart(pageSize));
  return { peer, guest };
}

/** Lets the device write `length` bytes of the guest's memory. */
function deviceWrites(
  context: Context,
  peer: Peer,
  guest: Guest,
  at: number,
  length: number,
): void {
  const target = guest.iova + at;
  const status = isBench(context.offer)
    ? benchDma(peer, BenchDma.mappedFill, target, length)
    : echo(peer, { source: guest.iova, target, length });
  expectEqual("status of the device's DMA", status, 0);
}

/** The bits of a report, one a page, as a text of 0 and 1; what lies behind must be 0. */
function report(peer: Peer, iova: number, length: number, pageSize = page): string {
  const bytes = bitmapBytes(length, pageSize);
  const request = loggingReport(iova, length, pageSize);
  const reply = peer.done(request, headBytes + bytes);
  const echoed = reply.payload.subarray(DeviceFeature.size, headBytes);
  expectBytes("range of the report", echoed, request.payload.subarray(DeviceFeature.size));
  const bitmap = reply.payload.subarray(headBytes);
  const bits = [...bitmap].flatMap((byte) => [...Array(8).keys()].map((i) => (byte >>> i) & 1));
  const pages = Math.ceil(length / pageSize);
  expectEqual("bits outside of the range", bits.slice(pages).indexOf(1), -1);
  return bits.slice(0, pages).join("");
}

const start = "VFIO_DEVICE_FEATURE_DMA_LOGGING_START / VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP";

export const cases = casesOf(
  "dirty-log",
  "VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT",
  [logs],
  [
    {
      id: "unmap-with-bitmap",
      title: "DMA_UNMAP may ask for what was written: the bitmap comes behind the echo",
      run(context) {
        const { peer, guest } = logging(context);
        for (const at of [2, 5]) deviceWrites(context, peer, guest, at * page, 10);
        const bitmap = encoded(DmaUnmapBitmap, { pageSize: page, size: 8 });
        const size = DmaUnmap.size + bitmap.length + 8;
        const flags = DmaUnmapFlags.mask.getDirtyBitmap;
        const fields = { argsz: size, flags, address: guest.iova, size: guest.size };
        const reply = peer.done(dmaUnmap(fields, bitmap), size);
        expectBytes("bitmap", reply.payload.subarray(size - 8), Uint8Array.of(0x24, ...zeroes));
        peer.refused(dmaUnmap({ address: guest.iova, size: guest.size }), errno.ENOENT);
      },
    },
    {
      id: "start",
      section: start,
      title: "logging starts for all memory or for ranges, and stops",
      run(context) {
        const peer = context.open();
        const request = loggingStart(page);
        const reply = peer.done(request, request.payload.length);
        expectBytes("reply", reply.payload, request.payload);
        peer.done(loggingStop(), DeviceFeature.size);
        const guest = context.guest();
        peer.done(guest.map(), 0, [guest.fd]);
        const range = { iova: guest.iova, length: guest.size };
        peer.done(loggingStart(page, [range]));
        peer.done(loggingStop());
      },
    },
    {
      id: "start-twice",
      section: start,
      title: "a second start with the same page size changes nothing; another one is EINVAL",
      run(context) {
        const peer = context.open();
        peer.done(loggingStart(page));
        peer.done(loggingStart(page));
        for (const pageSize of [2048, 8192]) peer.refused(loggingStart(pageSize));
        peer.done(loggingStop());
      },
    },
    {
      id: "start-bad",
      section: start,
      title: "a page size of 0, or fewer ranges than announced, is EINVAL",
      run(context) {
        const peer = context.open();
        peer.refused(loggingStart(0));
        peer.refused(loggingStart(page, [], 1), [errno.EINVAL, errno.E2BIG]);
        peer.refused(loggingStart(page, [], 0xffff_ffff), [errno.EINVAL, errno.E2BIG]);
        const two = [
          { iova: 0, length: page },
          { iova: page, length: page },
        ];
        peer.refused(loggingStart(page, two, 3));
        peer.usable();
      },
    },
    {
      id: "start-short",
      section: start,
      title: "a start whose data is cut short is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [0, 1, 8, 15]) {
          const data = encoded(DmaLoggingControl, { pageSize: page }).subarray(0, length);
          peer.refused(deviceFeature(set | Feature.dmaLoggingStart, data, 64));
        }
        peer.usable();
      },
    },
    {
      id: "not-started",
      title: "a report while nothing is logged is EINVAL",
      run(context) {
        const peer = context.open();
        const guest = context.guest();
        peer.done(guest.map(), 0, [guest.fd]);
        peer.refused(loggingReport(guest.iova, guest.size, page));
        peer.done(loggingStart(page));
        peer.done(loggingStop());
        peer.refused(loggingReport(guest.iova, guest.size, page));
      },
    },
    {
      id: "clean",
      title: "nothing is dirty at first; the reply has the range and one bit a page",
      run(context) {
        const { peer, guest } = logging(context);
        expectEqual("pages", report(peer, guest.iova, guest.size), "0".repeat(64));
      },
    },
    {
      id: "written",
      title: "what the device writes is dirty, and a report clears it",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        deviceWrites(context, peer, guest, 3 * page, page);
        deviceWrites(context, peer, guest, 63 * page + 1, 1);
        const expected = `0001${"0".repeat(59)}1`;
        expectEqual("pages", report(peer, guest.iova, guest.size), expected);
        expectEqual("pages again", report(peer, guest.iova, guest.size), "0".repeat(64));
      },
    },
    {
      id: "edges",
      title: "a write over a page's edge makes both pages dirty, and only those",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        deviceWrites(context, peer, guest, 6 * page - 1, 2);
        expectEqual("pages", report(peer, guest.iova, 8 * page), "00000110");
        deviceWrites(context, peer, guest, 2 * page, 3 * page);
        expectEqual("pages", report(peer, guest.iova, 8 * page), "00111000");
      },
    },
    {
      id: "read-is-clean",
      section: start,
      title: "what the device only reads is not dirty",
      needs: [(offer) => (isBench(offer) ? null : "only for the bench device")],
      run(context) {
        const { peer, guest } = logging(context);
        const status = benchDma(peer, BenchDma.mappedRead, guest.iova, guest.size);
        expectEqual("status", status, 0);
        expectEqual("pages", report(peer, guest.iova, guest.size), "0".repeat(64));
      },
    },
    {
      id: "part",
      title: "a report may ask for a part of a mapping, which clears that part only",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        for (const at of [1, 5, 9]) deviceWrites(context, peer, guest, at * page, page);
        expectEqual("pages 4 to 7", report(peer, guest.iova + 4 * page, 4 * page), "0100");
        const rest = report(peer, guest.iova, 12 * page);
        expectEqual("pages 0 to 11", rest, "010000000100");
      },
    },
    {
      id: "page-sizes",
      title: "a smaller page repeats the bit of the logged one, a larger one joins them",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        const touch = () => deviceWrites(context, peer, guest, 5 * page, page);
        touch();
        const small = report(peer, guest.iova, 8 * page, 2048);
        expectEqual("pages of 2 KiB", small, "0000000000110000");
        touch();
        expectEqual("pages of 8 KiB", report(peer, guest.iova, 8 * page, 8192), "0010");
        touch();
        expectEqual("pages of 64 KiB", report(peer, guest.iova, 64 * page, 65_536), "1000");
        expectEqual("pages left", report(peer, guest.iova, 64 * page), "0".repeat(64));
      },
    },
    {
      id: "bad-page-size",
      title: "a page size of 0, one that is no power of two or larger than the range is EINVAL",
      run(context) {
        const { peer, guest } = logging(context);
        for (const pageSize of [0, 3000, 4097, 2 ** 24]) {
          peer.refused(loggingReport(guest.iova, guest.size, pageSize, 4096));
        }
        peer.usable();
      },
    },
    {
      id: "not-mapped",
      title: "a range without any mapping is ENOENT",
      run(context) {
        const { peer, guest } = logging(context);
        peer.refused(loggingReport(guest.iova + 2 ** 30, page, page), errno.ENOENT);
        peer.usable();
      },
    },
    {
      id: "argsz",
      section: "Message sizes",
      title: "an argsz without room for the bitmap is EINVAL",
      run(context) {
        const { peer, guest } = logging(context);
        for (const argsz of [DeviceFeature.size, headBytes, headBytes + 7]) {
          peer.refused(loggingReport(guest.iova, guest.size, page, argsz));
        }
        peer.usable();
      },
    },
    {
      id: "report-short",
      title: "a question that is cut short is EINVAL",
      run(context) {
        const { peer, guest } = logging(context);
        const request = loggingReport(guest.iova, guest.size, page);
        for (const length of [8, 16, 24, headBytes - 1]) peer.refused(cut(request, length));
        peer.usable();
      },
    },
    {
      id: "huge",
      title: "a report of more than a message can carry is refused",
      run(context) {
        const { peer, guest } = logging(context);
        for (const length of [2 ** 45, 2 ** 52, Number.MAX_SAFE_INTEGER]) {
          const request = loggingReport(guest.iova, length, page, 0xffff_ffff);
          peer.refused(request, [errno.EINVAL, errno.ENOENT, errno.E2BIG]);
        }
        peer.usable();
      },
    },
    {
      id: "two-maps",
      title: "unmapping one memory leaves the other's dirty pages",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        const second = context.guest(8 * page, guest.iova + 2 ** 24);
        peer.done(second.map(), 0, [second.fd]);
        deviceWrites(context, peer, guest, page, page);
        deviceWrites(context, peer, second, page, 1);
        peer.done(dmaUnmap({ address: guest.iova, size: guest.size }));
        expectEqual("pages", report(peer, second.iova, 8 * page), "01000000");
        peer.refused(loggingReport(guest.iova, guest.size, page), errno.ENOENT);
      },
    },
    {
      id: "mapped-later",
      title: "memory that is mapped while logging is logged too",
      needs: [known],
      run(context) {
        const peer = context.open();
        peer.done(loggingStart(page));
        const guest = context.guest();
        peer.done(guest.map(), 0, [guest.fd]);
        deviceWrites(context, peer, guest, 2 * page, page);
        expectEqual("pages", report(peer, guest.iova, 4 * page), "0010");
      },
    },
    {
      id: "restart",
      section: start,
      title: "what was dirty before a stop is not after a new start",
      needs: [known],
      run(context) {
        const { peer, guest } = logging(context);
        deviceWrites(context, peer, guest, page, page);
        peer.done(loggingStop());
        peer.done(loggingStart(page));
        expectEqual("pages", report(peer, guest.iova, 4 * page), "0000");
      },
    },
  ],
);
