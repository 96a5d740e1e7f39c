/** DEVICE_FEATURE with bodies that are shorter, or say more, than what the feature needs. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import {
  cut,
  deviceFeature,
  encoded,
  loggingReport,
  loggingStart,
  loggingStop,
  setMigState,
  with64,
} from "../../src/client/raw-requests.ts";
import {
  DeviceFeature,
  DmaLoggingControl,
  DmaLoggingReport,
  Feature,
  FeatureFlags,
} from "../../src/spec/vfio.ts";
import { HeaderFlags } from "../../src/spec/vfio-user.ts";
import { survivor } from "./victim.ts";

const { get, set, probe } = FeatureFlags.mask;
const page = 4096;
const server = survivor("bench", ["--set", "stateMiB=1"]);

describe("bodies shorter than their feature's structure", () => {
  it.each([
    ["SET MIG_DEVICE_STATE", setMigState(1)],
    ["SET DMA_LOGGING_START", loggingStart(page)],
    ["GET DMA_LOGGING_REPORT", loggingReport(0, page, page)],
  ])("%s of 8 to all but one byte is EINVAL", (_, request) => {
    const peer = server.victim.context().open();
    for (let length = DeviceFeature.size; length < request.payload.length; length++) {
      peer.refused(cut(request, length));
    }
  });

  it("every feature with every short body is answered and nothing else happens", () => {
    const peer = server.victim.context().open();
    for (let feature = 0; feature < 16; feature++) {
      for (const operation of [get, set, probe, probe | get, probe | set, get | set, 0]) {
        for (let length = 0; length < 24; length++) {
          const data = new Uint8Array(length).fill(0xff);
          peer.ask(deviceFeature(operation | feature, data, 0xffff_ffff));
        }
      }
    }
    peer.usable();
  });
});

describe("numbers that promise more than there is", () => {
  it("ranges that were announced and did not come are refused", () => {
    const peer = server.victim.context().open();
    for (const ranges of [1, 256, 65_535, 0x1000_0000, 0xffff_ffff]) {
      peer.refused(loggingStart(page, [], ranges), [errno.EINVAL, errno.E2BIG]);
    }
  });

  it("a page size that is no page size is refused at start and report", () => {
    const peer = server.victim.context().open();
    for (const pageSize of [0n, 1n, 3n, 4095n, 2n ** 63n, 2n ** 64n - 1n]) {
      const at = DeviceFeature.size + DmaLoggingControl.offset.pageSize;
      peer.ask(with64(loggingStart(page), at, pageSize));
      peer.ask(loggingStop());
    }
    peer.done(loggingStart(page));
    const at = DeviceFeature.size + DmaLoggingReport.offset.pageSize;
    for (const pageSize of [0n, 3n, 2n ** 63n, 2n ** 64n - 1n]) {
      peer.refused(with64(loggingReport(0, page, page, 4096), at, pageSize));
    }
  });

  it("a report of nearly 2^64 bytes is refused", () => {
    const peer = server.victim.context().open();
    peer.done(loggingStart(page));
    const lengthAt = DeviceFeature.size + DmaLoggingReport.offset.length;
    const iovaAt = DeviceFeature.size + DmaLoggingReport.offset.iova;
    for (const length of [0n, 2n ** 45n, 2n ** 63n, 2n ** 64n - 1n]) {
      const request = with64(loggingReport(0, page, page, 0xffff_ffff), lengthAt, length);
      expect(peer.ask(request).flags & HeaderFlags.mask.error).not.toBe(0);
      const high = with64(request, iovaAt, 2n ** 64n - 4096n);
      expect(peer.ask(high).flags & HeaderFlags.mask.error).not.toBe(0);
    }
  });

  it("ranges that lie anywhere, overlap or wrap are taken or refused, never more", () => {
    const peer = server.victim.context().open();
    const wild = [
      { iova: Number.MAX_SAFE_INTEGER, length: Number.MAX_SAFE_INTEGER },
      { iova: 0, length: 0 },
      { iova: 0, length: Number.MAX_SAFE_INTEGER },
      { iova: 1, length: 3 },
      { iova: 2, length: 5 },
    ];
    peer.ask(loggingStart(page, wild));
    peer.ask(loggingStart(page, Array(256).fill(wild[0])));
    peer.ask(loggingStart(page, Array(30_000).fill(wild[3])));
    peer.ask(loggingStop());
    peer.usable();
  });
});

describe("logging on a device without DMA mappings", () => {
  it("starts, reports nothing, stops, and the server goes on", () => {
    const peer = server.victim.context().open();
    peer.done(loggingStart(page));
    peer.refused(loggingReport(0, page, page), errno.ENOENT);
    peer.done(loggingStop(), DeviceFeature.size);
    const data = encoded(DmaLoggingControl, { pageSize: page });
    peer.done(deviceFeature(set | Feature.dmaLoggingStart, data));
  });

  it("is left on by a client that dies, and the next client begins anew", () => {
    const first = server.victim.context().open();
    first.done(loggingStart(page));
    first.close();
    const second = server.victim.context().open();
    second.ask(loggingStop());
    second.done(loggingStart(2 * page));
  });
});
