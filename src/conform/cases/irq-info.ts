import { cut, irqInfo } from "../../client/raw-requests.ts";
import { IrqFlags, IrqInfo } from "../../spec/vfio.ts";
import { casesOf } from "../case.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { viewOf } from "../peer.ts";

export const cases = casesOf(
  "irq-info",
  "VFIO_USER_DEVICE_GET_IRQ_INFO",
  [],
  [
    {
      id: "every-index",
      title: "each index has its vectors and known flags, eventfds among them where it has vectors",
      run(context) {
        const peer = context.open();
        for (const { index } of context.offer.irqs) {
          for (const argsz of [IrqInfo.size, 32]) {
            const info = IrqInfo.get(viewOf(peer.done(irqInfo(index, argsz), IrqInfo.size)), 0);
            expectEqual("argsz", info.argsz, IrqInfo.size);
            expectEqual("index", info.index, index);
            expectEqual("unknown flags", info.flags & ~IrqFlags.all, 0);
            const signals = (info.flags & IrqFlags.mask.eventfd) !== 0;
            expectThat(info.count === 0 || signals, "EVENTFD of an index with vectors", info.flags);
          }
        }
      },
    },
    {
      id: "bad-index",
      title: "an index that is no interrupt is EINVAL",
      run(context) {
        const peer = context.open();
        for (const index of [context.offer.irqs.length, 1000, 0xffff_ffff]) {
          peer.refused(irqInfo(index));
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
          peer.refused(cut(irqInfo(0), length));
          peer.refused(irqInfo(0, length));
        }
        peer.usable();
      },
    },
  ],
);
