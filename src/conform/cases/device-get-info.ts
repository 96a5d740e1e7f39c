import { cut, deviceGetInfo } from "../../client/raw-requests.ts";
import { DeviceFlags, DeviceInfo, pciIrqs, pciRegions } from "../../spec/vfio.ts";
import { casesOf } from "../case.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { viewOf } from "../peer.ts";

export const cases = casesOf(
  "device-get-info",
  "VFIO_USER_DEVICE_GET_INFO",
  [],
  [
    {
      id: "info",
      title: "the reply has 16 bytes with the flags, the regions and the interrupts of a device",
      run(context) {
        const peer = context.open();
        for (const argsz of [DeviceInfo.size, 32, 0xffff_ffff]) {
          const info = DeviceInfo.get(viewOf(peer.done(deviceGetInfo(argsz), DeviceInfo.size)), 0);
          expectEqual("argsz", info.argsz, DeviceInfo.size);
          expectEqual("unknown flags", info.flags & ~DeviceFlags.all, 0);
          if ((info.flags & DeviceFlags.mask.pci) === 0) continue;
          expectThat(info.numRegions >= pciRegions, "9 regions or more", info.numRegions);
          expectThat(info.numIrqs >= pciIrqs, "5 interrupt indices or more", info.numIrqs);
        }
      },
    },
    {
      id: "longer",
      section: "Message sizes",
      title: "a request with room for more is answered with the same 16 bytes",
      run(context) {
        context.open().done(cut(deviceGetInfo(64), 64), DeviceInfo.size);
      },
    },
    {
      id: "short",
      title: "a payload or an argsz below 16 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [4, 8, 15]) {
          peer.refused(cut(deviceGetInfo(), length));
          peer.refused(deviceGetInfo(length));
        }
        peer.refused(deviceGetInfo(0));
        peer.usable();
      },
    },
  ],
);
