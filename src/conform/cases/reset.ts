import { errno } from "../../base/errno.ts";
import {
  deviceReset,
  dmaMap,
  getMigState,
  setIrqs,
  setMigState,
} from "../../client/raw-requests.ts";
import { FeatureMigState, IrqSetFlags, MigState, migStateName } from "../../spec/vfio.ts";
import { HeaderFlags } from "../../spec/vfio-user.ts";
import { read32, registerOf, ring, write32 } from "../actions.ts";
import { casesOf } from "../case.ts";
import { expectEqual } from "../expect.ts";
import { known, migrates, resets, vectors, vectorsOf } from "../offer.ts";
import { viewOf } from "../peer.ts";

const { actionTrigger, dataEventfd } = IrqSetFlags.mask;

export const cases = casesOf(
  "reset",
  "VFIO_USER_DEVICE_RESET",
  [resets],
  [
    {
      id: "reply",
      title: "a reset is answered with a header alone, again and again",
      run(context) {
        const peer = context.open();
        for (let i = 0; i < 3; i++) peer.done(deviceReset(), 0);
        peer.usable();
      },
    },
    {
      id: "registers",
      title: "a reset brings registers back to what they are after power-on",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = registerOf(context.offer);
        write32(peer, region, offset, 0x1234);
        expectEqual("register", read32(peer, region, offset), 0x1234);
        peer.done(deviceReset(), 0);
        expectEqual("register after the reset", read32(peer, region, offset), 0);
      },
    },
    {
      id: "order",
      section: "Command Concurrency",
      title: "a reset without a reply is done before the next request is served",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = registerOf(context.offer);
        write32(peer, region, offset, 0x4321);
        peer.post(deviceReset(), [], { flags: HeaderFlags.mask.noReply });
        expectEqual("register after the reset", read32(peer, region, offset), 0);
      },
    },
    {
      id: "keeps-mappings",
      title: "mappings stay over a reset",
      run(context) {
        const peer = context.open();
        peer.done(dmaMap({ address: 0, size: 4096 }), 0);
        peer.done(deviceReset(), 0);
        peer.refused(dmaMap({ address: 0, size: 4096 }), errno.EEXIST);
      },
    },
    {
      id: "keeps-wiring",
      title: "eventfds stay assigned over a reset",
      needs: [known, vectors(2)],
      run(context) {
        const peer = context.open();
        const { index } = vectorsOf(context.offer);
        const fds = [context.eventfd(), context.eventfd()];
        const flags = actionTrigger | dataEventfd;
        peer.done(setIrqs({ flags, index, count: 2 }), 0, fds);
        peer.done(deviceReset(), 0);
        ring(peer, context.offer, 0);
        expectEqual("count of vector 0", context.signalled(fds[0] as number), 1);
      },
    },
    {
      id: "migration-state",
      section: "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
      title: "a reset works in every migration state and leads to RUNNING",
      needs: [migrates],
      run(context) {
        const peer = context.open();
        for (const state of [MigState.stop, MigState.stopCopy, MigState.resuming]) {
          peer.done(setMigState(state));
          peer.done(deviceReset(), 0);
          const came = FeatureMigState.get(viewOf(peer.done(getMigState(), 16)), 8).deviceState;
          const name = `state after a reset in ${migStateName(state)}`;
          expectEqual(name, migStateName(came), "RUNNING");
        }
      },
    },
  ],
);
