import { RawClient } from "../../client/raw-client.ts";
import { cut, deviceReset, setIrqs } from "../../client/raw-requests.ts";
import { IrqFlags, IrqSet, IrqSetFlags, PciIrq } from "../../spec/vfio.ts";
import { closeFd, drainEventfd } from "../../sys/descriptors.ts";
import { socketPair } from "../../sys/unix.ts";
import { acknowledgeHello, ring } from "../actions.ts";
import { casesOf } from "../case.ts";
import { type Context, pause } from "../context.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { hello, known, type Offer, vectors, vectorsOf } from "../offer.ts";
import type { Peer } from "../peer.ts";

const { dataNone, dataBool, dataEventfd, actionMask, actionUnmask, actionTrigger } =
  IrqSetFlags.mask;
const wire = actionTrigger | dataEventfd;
const fire = actionTrigger | dataNone;
const fireSome = actionTrigger | dataBool;

/** Gives one eventfd for each vector from `start` on. */
function assign(peer: Peer, index: number, start: number, fds: readonly number[]): void {
  peer.done(setIrqs({ flags: wire, index, start, count: fds.length }), 0, fds);
}

/** ERR and REQ have one vector each and can only be triggered. */
const noticesOf = ({ irqs }: Offer): number[] =>
  [PciIrq.err, PciIrq.req].filter((index) => (irqs[index]?.count ?? 0) > 0);

const hasNotices = (offer: Offer): string | null =>
  noticesOf(offer).length > 0 ? null : "the device has no ERR and no REQ interrupt";

const lineMasks = ({ irqs }: Offer): string | null => {
  const line = irqs[PciIrq.intx];
  const masks = line !== undefined && (line.flags & IrqFlags.mask.maskable) !== 0;
  return masks && line.count > 0 ? null : "the device has no interrupt line that can be masked";
};

/** A socket end to give away in place of an eventfd, and the end that sees it close. */
function canary(context: Context): { here: RawClient; there: number } {
  const [here, there] = socketPair();
  context.keep({ close: () => closeFd(there) });
  return { here: context.keep(new RawClient(here)), there };
}

export const cases = casesOf(
  "set-irqs",
  "VFIO_USER_DEVICE_SET_IRQS",
  [],
  [
    {
      id: "short",
      title: "a payload below 20 bytes, or an argsz below them, is EINVAL",
      run(context) {
        const peer = context.open();
        for (const length of [0, 8, IrqSet.size - 1]) {
          peer.refused(cut(setIrqs({ flags: fire, index: PciIrq.req }), length));
        }
        peer.refused(setIrqs({ argsz: 3, flags: fire, index: PciIrq.req }));
        peer.usable();
      },
    },
    {
      id: "bad-index",
      title: "an index that is no interrupt is EINVAL",
      run(context) {
        const peer = context.open();
        for (const index of [context.offer.irqs.length, 1000, 0xffff_ffff]) {
          peer.refused(setIrqs({ flags: fire, index, count: 1 }));
          peer.refused(setIrqs({ flags: fire, index }));
        }
        peer.usable();
      },
    },
    {
      id: "bad-flags",
      title: "exactly one kind of data and one action are asked for, and no unknown flag",
      needs: [vectors(1)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        for (const flags of [
          0,
          dataNone,
          actionTrigger,
          actionMask | actionUnmask | dataNone,
          actionTrigger | dataNone | dataBool,
          IrqSetFlags.all,
          fire | 0x40,
          fire | 0x8000_0000,
        ]) {
          peer.refused(setIrqs({ flags, index, count: 1 }, (flags & dataBool) !== 0 ? [1] : []));
        }
        peer.usable();
      },
    },
    {
      id: "bad-range",
      title: "a range beyond the last vector is EINVAL, also where it overflows",
      needs: [vectors(1)],
      run(context) {
        const peer = context.open();
        const { index, count: all } = vectorsOf(context.offer);
        for (const [start, count] of [
          [all - 1, 2],
          [all, 1],
          [all + 1, 1],
          [0, all + 1],
          [all - 1, 0xffff_ffff],
          [0xffff_ffff, 1],
          [0xffff_ffff, 0xffff_ffff],
        ] as const) {
          peer.refused(setIrqs({ flags: fire, index, start, count }));
        }
        peer.usable();
      },
    },
    {
      id: "err-req",
      title: "ERR and REQ have one vector, which can be triggered and not masked",
      needs: [hasNotices],
      run(context) {
        const peer = context.open();
        for (const index of noticesOf(context.offer)) {
          peer.refused(setIrqs({ flags: actionMask | dataNone, index, count: 1 }));
          peer.refused(setIrqs({ flags: actionUnmask | dataNone, index, count: 1 }));
          peer.refused(setIrqs({ flags: fire, index, count: 2 }));
        }
        peer.usable();
      },
    },
    {
      id: "count-zero",
      title: "no vectors at all is EINVAL but for TRIGGER with no data from 0",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        peer.refused(setIrqs({ flags: fire, index, start: 1 }));
        peer.refused(setIrqs({ flags: actionMask | dataNone, index }));
        peer.refused(setIrqs({ flags: fireSome, index }));
        peer.done(setIrqs({ flags: fire, index }), 0);
      },
    },
    {
      id: "bools",
      title: "there is one boolean a vector, no more and no fewer",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        peer.refused(setIrqs({ flags: fireSome, index, count: 2 }, [1]));
        peer.refused(setIrqs({ flags: fireSome, index, count: 2 }, [1, 1, 1]));
        peer.done(setIrqs({ flags: fireSome, index, count: 2 }, [0, 0]), 0);
      },
    },
    {
      id: "unwanted-fds",
      title: "descriptors with no data or with booleans are EINVAL and closed",
      needs: [vectors(1)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const canaries = [canary(context), canary(context)];
        const fds = canaries.map(({ there }) => there);
        peer.refused(setIrqs({ flags: fireSome, index, count: 1 }, [1]), undefined, fds);
        peer.refused(setIrqs({ flags: fire, index, count: 1 }), undefined, fds);
        for (const fd of fds) closeFd(fd);
        for (const { here } of canaries) {
          const closed = here.hungUp(context.timeoutMs);
          expectThat(closed, "an unwanted descriptor closed", "still open");
        }
        peer.usable();
      },
    },
    {
      id: "fds-count",
      title: "there is one descriptor a vector or none at all",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fd = context.eventfd();
        peer.refused(setIrqs({ flags: wire, index, count: 2 }), undefined, [fd]);
        peer.refused(setIrqs({ flags: wire, index, count: 1 }), undefined, [fd, fd]);
        peer.usable();
      },
    },
    {
      id: "trigger-none",
      title: "TRIGGER without data signals the eventfds of the range and no others",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(4), context.eventfd(8)];
        assign(peer, index, 0, fds);
        peer.done(setIrqs({ flags: fire, index, start: 1, count: 1 }), 0);
        expectEqual("count of vector 0", drainEventfd(fds[0] as number), 4);
        expectEqual("count of vector 1", drainEventfd(fds[1] as number), 9);
      },
    },
    {
      id: "trigger-bool",
      title: "TRIGGER with booleans signals the eventfds whose boolean is true",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(4), context.eventfd(8)];
        assign(peer, index, 0, fds);
        peer.done(setIrqs({ flags: fireSome, index, count: 2 }, [0, 1]), 0);
        expectEqual("count of vector 0", drainEventfd(fds[0] as number), 4);
        expectEqual("count of vector 1", drainEventfd(fds[1] as number), 9);
      },
    },
    {
      id: "replace",
      title: "a second eventfd for a vector replaces the first",
      needs: [vectors(1)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const [old, fresh] = [context.eventfd(), context.eventfd()];
        assign(peer, index, 0, [old]);
        assign(peer, index, 0, [fresh]);
        peer.done(setIrqs({ flags: fire, index, count: 1 }), 0);
        expectEqual("count of the old eventfd", drainEventfd(old), 0);
        expectEqual("count of the new eventfd", drainEventfd(fresh), 1);
      },
    },
    {
      id: "unassign",
      title: "eventfd data without descriptors takes the assigned ones away",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(), context.eventfd()];
        assign(peer, index, 0, fds);
        peer.done(setIrqs({ flags: wire, index, start: 1, count: 1 }), 0);
        peer.ask(setIrqs({ flags: fire, index, start: 1, count: 1 }));
        peer.done(setIrqs({ flags: fire, index, start: 0, count: 1 }), 0);
        expectEqual("count of the vector left", drainEventfd(fds[0] as number), 1);
        expectEqual("count of the vector taken away", drainEventfd(fds[1] as number), 0);
      },
    },
    {
      id: "disable",
      title: "TRIGGER without data from 0 for 0 vectors takes all of an index away",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(), context.eventfd()];
        assign(peer, index, 0, fds);
        peer.done(setIrqs({ flags: fire, index }), 0);
        peer.ask(setIrqs({ flags: fire, index, start: 0, count: 2 }));
        for (const fd of fds) expectEqual("count of a vector", drainEventfd(fd), 0);
        peer.done(setIrqs({ flags: fire, index }), 0);
      },
    },
    {
      id: "notices",
      title: "ERR and REQ take an eventfd, give it up and are switched off",
      needs: [hasNotices],
      run(context) {
        const peer = context.open();
        for (const index of noticesOf(context.offer)) {
          const fd = context.eventfd();
          peer.done(setIrqs({ flags: wire, index, count: 1 }), 0);
          assign(peer, index, 0, [fd]);
          peer.done(setIrqs({ flags: fire, index, count: 1 }), 0);
          expectEqual("count", drainEventfd(fd), 1);
          peer.done(setIrqs({ flags: fire, index }), 0);
        }
      },
    },
    {
      id: "many",
      title: "every vector can have an eventfd of its own, as many a message as max_msg_fds says",
      needs: [vectors(2)],
      run(context) {
        const peer = context.open();
        const { index, count } = vectorsOf(context.offer);
        const most = Math.min(peer.server.limits.maxMsgFds, 16);
        const fds = Array.from({ length: Math.min(count, 256) }, () => context.eventfd());
        for (let start = 0; start < fds.length; start += most) {
          assign(peer, index, start, fds.slice(start, start + most));
        }
        for (const start of fds.keys()) {
          peer.done(setIrqs({ flags: fire, index, start, count: 1 }), 0);
          const counts = fds.map(drainEventfd);
          expectEqual(`signals of vector ${start}`, counts[start], 1);
          const sum = counts.reduce((all, each) => all + each, 0);
          expectEqual(`signals of all when vector ${start} fires`, sum, 1);
        }
      },
    },
    {
      id: "doorbell",
      section: "Interrupts",
      title: "a device signals the eventfd of the vector that it raises",
      needs: [known, vectors(2)],
      run(context) {
        const peer = context.open();
        const { offer } = context;
        const { index, count } = vectorsOf(offer);
        const fds = Array.from({ length: Math.min(count, 16) }, () => context.eventfd(4));
        assign(peer, index, 0, fds);
        ring(peer, offer, 0);
        expectEqual("count of vector 0", context.signalled(fds[0] as number), 5);
        for (const fd of fds.slice(1)) expectEqual("count of another", drainEventfd(fd), 4);
        ring(peer, offer, 0);
        expectEqual("count of vector 0", context.signalled(fds[0] as number), 1);
      },
    },
    {
      id: "mask-line",
      title: "a line that can be masked takes MASK and UNMASK, and TRIGGER signals it",
      needs: [lineMasks],
      run(context) {
        const peer = context.open();
        const index = PciIrq.intx;
        const fd = context.eventfd();
        assign(peer, index, 0, [fd]);
        for (const flags of [actionMask | dataNone, actionUnmask | dataNone]) {
          peer.done(setIrqs({ flags, index, count: 1 }), 0);
        }
        peer.done(setIrqs({ flags: actionMask | dataBool, index, count: 1 }, [0]), 0);
        drainEventfd(fd);
        peer.done(setIrqs({ flags: fire, index, count: 1 }), 0);
        expectEqual("count of the line", drainEventfd(fd), 1);
      },
    },
    {
      id: "line-pending",
      section: "Interrupts",
      title: "a line signals once until it is unmasked, and again then while its cause is there",
      needs: [hello],
      run(context) {
        const peer = context.open();
        const index = PciIrq.intx;
        const fd = context.eventfd();
        const unmask = setIrqs({ flags: actionUnmask | dataNone, index, count: 1 });
        peer.done(deviceReset());
        assign(peer, index, 0, [fd]);
        peer.done(setIrqs({ flags: actionMask | dataNone, index, count: 1 }), 0);
        ring(peer, context.offer, 0);
        expectEqual("count while masked", drainEventfd(fd), 0);
        peer.done(unmask, 0);
        expectEqual("count after unmasking", drainEventfd(fd), 1);
        ring(peer, context.offer, 0);
        expectEqual("count before the next unmasking", drainEventfd(fd), 0);
        peer.done(unmask, 0);
        expectEqual("count with the cause still there", drainEventfd(fd), 1);
        acknowledgeHello(peer);
        peer.done(unmask, 0);
        expectEqual("count without a cause", drainEventfd(fd), 0);
      },
    },
    {
      id: "client-gone",
      section: "Client Disconnection Behavior",
      title: "the eventfds of a client that has gone are not signalled any more",
      needs: [known, vectors(2)],
      run(context) {
        const { offer } = context;
        const { index } = vectorsOf(offer);
        const fd = context.eventfd();
        const first = context.open();
        assign(first, index, 0, [fd]);
        first.close();
        const second = context.open();
        ring(second, offer, 0);
        second.usable();
        pause(5);
        expectEqual("count of the old client's eventfd", drainEventfd(fd), 0);
      },
    },
  ],
);
