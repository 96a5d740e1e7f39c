import { cut, regionIoFds, setIrqs } from "../../client/raw-requests.ts";
import { IrqSetFlags } from "../../spec/vfio.ts";
import { IoFdType, noFdIndex, RegionIoFds, SubRegionIoEventfd } from "../../spec/vfio-user.ts";
import { signalEventfd } from "../../sys/descriptors.ts";
import { casesOf } from "../case.ts";
import { expectEqual, expectThat } from "../expect.ts";
import {
  bench,
  ioFds,
  limited,
  type Offer,
  type OfferedRegion,
  vectors,
  vectorsOf,
} from "../offer.ts";
import { viewOf } from "../peer.ts";

const absent = (offer: Offer) => offer.regions.find(({ size }) => size === 0);
const without = (offer: Offer) =>
  offer.regions.find(({ size, ioFds: count }) => size > 0 && count === 0);
const withFds = ({ regions }: Offer) => regions.filter(({ ioFds: count }) => count > 0);
const sizeOf = ({ ioFds: count }: OfferedRegion) =>
  RegionIoFds.size + count * SubRegionIoEventfd.size;

export const cases = casesOf(
  "region-io-fds",
  "VFIO_USER_DEVICE_GET_REGION_IO_FDS",
  [],
  [
    {
      id: "none",
      title: "a region without file descriptors for I/O has an empty list",
      needs: [(offer) => (without(offer) === undefined ? "every region has some" : null)],
      run(context) {
        const index = without(context.offer)?.index ?? 0;
        const peer = context.open();
        for (const argsz of [RegionIoFds.size, 512]) {
          const reply = peer.done(regionIoFds({ argsz, index }), RegionIoFds.size);
          const { argsz: needed, flags, index: echoed, count } = RegionIoFds.get(viewOf(reply), 0);
          expectEqual("argsz", needed, RegionIoFds.size);
          expectEqual("flags", flags, 0);
          expectEqual("index", echoed, index);
          expectEqual("count", count, 0);
          expectEqual("descriptors", reply.fds.length, 0);
        }
      },
    },
    {
      id: "entries",
      title: "each entry has 40 bytes, lies in its region and names a descriptor that came along",
      needs: [ioFds],
      run(context) {
        const peer = context.open();
        for (const region of withFds(context.offer)) {
          const argsz = sizeOf(region);
          const reply = peer.done(regionIoFds({ argsz, index: region.index }), argsz);
          expectThat(reply.fds.length > 0, "at least one descriptor", reply.fds.length);
          for (let at = RegionIoFds.size; at < argsz; at += SubRegionIoEventfd.size) {
            const { offset, size, fdIndex, type } = SubRegionIoEventfd.get(viewOf(reply), at);
            expectThat(offset + size <= region.size, "an entry inside its region", offset);
            const names = fdIndex === noFdIndex || fdIndex < reply.fds.length;
            expectThat(names, "the index of a descriptor", fdIndex);
            const isKnown = type === IoFdType.ioeventfd || type === IoFdType.ioregionfd;
            expectThat(isKnown, "ioeventfd or ioregionfd", type);
          }
        }
      },
    },
    {
      id: "small-argsz",
      section: "Message sizes",
      title: "with room for the fixed fields only, argsz says what all would need and no fd comes",
      needs: [ioFds],
      run(context) {
        const peer = context.open();
        for (const region of withFds(context.offer)) {
          for (const argsz of [RegionIoFds.size, sizeOf(region) - 1]) {
            const reply = peer.done(regionIoFds({ argsz, index: region.index }), RegionIoFds.size);
            const { argsz: needed, count } = RegionIoFds.get(viewOf(reply), 0);
            expectEqual("argsz", needed, sizeOf(region));
            expectEqual("count", count, region.ioFds);
            expectEqual("descriptors", reply.fds.length, 0);
          }
        }
      },
    },
    {
      id: "doorbell",
      section: "Region I/O via file descriptors",
      title: "a signal of an ioeventfd does what the write does that it stands for",
      needs: [bench, ioFds, vectors(4)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const wired = Array.from({ length: 4 }, () => context.eventfd());
        const flags = IrqSetFlags.mask.actionTrigger | IrqSetFlags.mask.dataEventfd;
        peer.done(setIrqs({ flags, index, count: wired.length }), 0, wired);
        for (const region of withFds(context.offer)) {
          const argsz = sizeOf(region);
          const reply = peer.done(regionIoFds({ argsz, index: region.index }), argsz);
          for (let at = RegionIoFds.size; at < argsz; at += SubRegionIoEventfd.size) {
            const { fdIndex, datamatch } = SubRegionIoEventfd.get(viewOf(reply), at);
            const vector = wired[Number(datamatch)] ?? -1;
            signalEventfd(reply.fds[fdIndex] ?? -1);
            expectEqual(`count of vector ${datamatch}`, context.signalled(vector), 1);
          }
        }
      },
    },
    {
      id: "bad-fields",
      title: "flags or a count other than 0 are EINVAL",
      run(context) {
        const peer = context.open();
        peer.refused(regionIoFds({ argsz: 512, flags: 1 }));
        peer.refused(regionIoFds({ argsz: 512, count: 1 }));
        peer.usable();
      },
    },
    {
      id: "bad-index",
      title: "a region that is not there is EINVAL",
      run(context) {
        const peer = context.open();
        const missing = absent(context.offer)?.index ?? context.offer.regions.length;
        for (const index of [missing, context.offer.regions.length, 512, 0xffff_ffff]) {
          peer.refused(regionIoFds({ argsz: 512, index }));
        }
        peer.usable();
      },
    },
    {
      id: "short",
      title: "a payload or an argsz below 16 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [8, 15]) {
          peer.refused(cut(regionIoFds({}), length));
          peer.refused(regionIoFds({ argsz: length }));
        }
        peer.usable();
      },
    },
    {
      id: "argsz-too-large",
      section: "Message sizes",
      title: "an argsz above the largest transfer is EINVAL",
      needs: [limited],
      run(context) {
        const peer = context.open();
        const argsz = peer.server.limits.maxDataXferSize + 1;
        peer.refused(regionIoFds({ argsz }));
        peer.usable();
      },
    },
  ],
);
