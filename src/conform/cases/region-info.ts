import { cut, regionInfo } from "../../client/raw-requests.ts";
import {
  PciRegion,
  RegionCap,
  RegionFlags,
  RegionInfo,
  SparseMmapArea,
  SparseMmapCap,
} from "../../spec/vfio.ts";
import { fileSize } from "../../sys/descriptors.ts";
import { casesOf, Mismatch } from "../case.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { config, type OfferedRegion, sparse } from "../offer.ts";
import { type Peer, viewOf } from "../peer.ts";

const { mask } = RegionFlags;
const page = 4096;

/** Walks the capabilities of a full reply and checks what the document says of them. */
function checkCaps(view: DataView, region: OfferedRegion): void {
  let next = RegionInfo.get(view, 0).capOffset;
  for (let seen = 0; next !== 0; seen++) {
    if (seen === 16 || next < RegionInfo.size || next + SparseMmapCap.size > view.byteLength) {
      throw new Mismatch("a capability inside the reply", `one at ${next}`);
    }
    const cap = SparseMmapCap.get(view, next);
    if (cap.id === RegionCap.sparseMmap) checkSparse(view, next, region);
    next = cap.next;
  }
}

function checkSparse(view: DataView, at: number, region: OfferedRegion): void {
  const { version, nrAreas } = SparseMmapCap.get(view, at);
  expectEqual("version of the sparse mmap capability", version, 1);
  let end = 0;
  for (let i = 0; i < nrAreas; i++) {
    const areaAt = at + SparseMmapCap.size + i * SparseMmapArea.size;
    const area = SparseMmapArea.get(view, areaAt);
    const inside = area.offset >= end && area.offset + area.size <= region.size;
    const aligned = area.offset % page === 0 && area.size % page === 0 && area.size > 0;
    expectThat(inside && aligned, "an area of whole pages inside the region", area.offset);
    end = area.offset + area.size;
  }
}

/** What the fixed fields of one region say, whatever room the request has. */
function checkRegion(peer: Peer, region: OfferedRegion, argsz: number): void {
  const reply = peer.done(regionInfo(region.index, argsz));
  const view = viewOf(reply);
  const info = RegionInfo.get(view, 0);
  const full = argsz >= region.argsz;
  const name = `region ${region.index}`;
  expectEqual(`payload of ${name}`, reply.payload.length, full ? region.argsz : RegionInfo.size);
  expectEqual(`argsz of ${name}`, info.argsz, region.argsz);
  expectEqual(`index of ${name}`, info.index, region.index);
  expectEqual(`size of ${name}`, info.size, region.size);
  expectEqual(`unknown flags of ${name}`, info.flags & ~RegionFlags.all, 0);
  const wantsFd = full && (info.flags & mask.mmap) !== 0;
  expectEqual(`descriptors with ${name}`, reply.fds.length, wantsFd ? 1 : 0);
  if (full && (info.flags & mask.caps) !== 0) checkCaps(view, region);
  if (region.size === 0) expectEqual(`flags of ${name}`, info.flags, 0);
}

export const cases = casesOf(
  "region-info",
  "VFIO_USER_DEVICE_GET_REGION_INFO",
  [],
  [
    {
      id: "every-region",
      title: "each region has its index, a size and known flags; a missing one is all 0",
      run(context) {
        const peer = context.open();
        for (const region of context.offer.regions) {
          for (const argsz of [RegionInfo.size, 40, region.argsz, 4096]) {
            checkRegion(peer, region, argsz);
          }
        }
      },
    },
    {
      id: "config",
      title: "configuration space has 256 or 4096 bytes that can be read and written",
      needs: [config],
      run(context) {
        const region = context.offer.regions[PciRegion.config];
        const size = region?.size ?? 0;
        expectThat(size === 256 || size === 4096, "256 or 4096 bytes", size);
        expectEqual("flags", region?.flags, mask.read | mask.write);
      },
    },
    {
      id: "small-argsz",
      section: "Message sizes",
      title: "with room for the fixed fields only, argsz says what all would need and no fd comes",
      needs: [sparse],
      run(context) {
        const peer = context.open();
        const { regions } = context.offer;
        for (const region of regions.filter(({ areas }) => areas.length > 0)) {
          for (const argsz of [RegionInfo.size, region.argsz - 1]) {
            checkRegion(peer, region, argsz);
            checkRegion(peer, region, region.argsz);
          }
        }
      },
    },
    {
      id: "sparse",
      title: "a region that may be mapped in parts names them and comes with one descriptor",
      needs: [sparse],
      run(context) {
        const peer = context.open();
        const { regions } = context.offer;
        for (const region of regions.filter(({ areas }) => areas.length > 0)) {
          const reply = peer.done(regionInfo(region.index, region.argsz), region.argsz);
          const { flags, capOffset, offset } = RegionInfo.get(viewOf(reply), 0);
          expectEqual("flags of MMAP and CAPS", flags & (mask.mmap | mask.caps), 12);
          expectThat(capOffset >= RegionInfo.size, "capabilities behind the structure", capOffset);
          const end = Math.max(...region.areas.map((area) => area.offset + area.size));
          const bytes = fileSize(reply.fds[0] ?? -1);
          expectThat(bytes >= offset + end, "a file that holds every area", bytes);
        }
      },
    },
    {
      id: "bad-index",
      title: "an index that is no region is EINVAL",
      run(context) {
        const peer = context.open();
        for (const index of [context.offer.regions.length, 1000, 0xffff_ffff]) {
          peer.refused(regionInfo(index));
        }
        peer.usable();
      },
    },
    {
      id: "short",
      title: "a payload or an argsz below 32 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [8, 16, 31]) {
          peer.refused(cut(regionInfo(0), length));
          peer.refused(regionInfo(0, length));
        }
        peer.usable();
      },
    },
  ],
);
