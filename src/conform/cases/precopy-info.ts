import { deviceFeature } from "../../client/raw-requests.ts";
import { DeviceFeature, FeatureFlags, MigState, PrecopyInfo } from "../../spec/vfio.ts";
import { OwnFeature, ownCapability } from "../../spec/vfio-user.ts";
import { casesOf } from "../case.ts";
import { type Context, ourCapabilities } from "../context.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { migrates, preCopies, unsupported } from "../offer.ts";
import { type Peer, viewOf } from "../peer.ts";
import { expectState, move, readSome } from "../stream.ts";

const { stop, running, stopCopy, resuming, preCopy } = MigState;
const { get, set, probe } = FeatureFlags.mask;
const full = DeviceFeature.size + PrecopyInfo.size;
const none = new Uint8Array(0);

const question = (operation: number = get, argsz: number = full) =>
  deviceFeature(operation | OwnFeature.precopyInfo, none, argsz);

/** A client that proposes the extension; null when this server does not agree on it. */
function agreed(context: Context): Peer | null {
  const peer = context.open({ ...ourCapabilities, [ownCapability]: { precopy_info: true } });
  if (peer.server.limits.precopyInfo) return peer;
  for (const operation of [get, probe | get]) peer.refused(question(operation), unsupported);
  return null;
}

function ask(peer: Peer): { initialBytes: number; dirtyBytes: number } {
  const view = viewOf(peer.done(question(), full));
  expectEqual("argsz of the reply", DeviceFeature.get(view, 0).argsz, full);
  const info = PrecopyInfo.get(view, DeviceFeature.size);
  expectEqual("argsz of the information", info.argsz, PrecopyInfo.size);
  expectEqual("flags", info.flags, 0);
  return info;
}

export const cases = casesOf(
  "precopy-info",
  "VFIO_MIG_GET_PRECOPY_INFO (an extension)",
  [migrates],
  [
    {
      id: "not-agreed",
      title: "a client that has not proposed the extension is told nothing of it",
      run(context) {
        const peer = context.open();
        expectEqual("the extension's key", peer.server.limits.precopyInfo, false);
        for (const operation of [get, probe, probe | get]) {
          peer.refused(question(operation), unsupported);
        }
        peer.usable();
      },
    },
    {
      id: "states",
      title: "the information is there in PRE_COPY alone: EINVAL elsewhere",
      needs: [preCopies],
      run(context) {
        const peer = agreed(context);
        if (peer === null) return;
        for (const state of [running, stop, stopCopy, resuming]) {
          move(peer, state);
          peer.refused(question());
          expectState(peer, state);
        }
      },
    },
    {
      id: "initial-bytes",
      title: "what is initially to be sent is some bytes, which become fewer with each read",
      needs: [preCopies],
      run(context) {
        const peer = agreed(context);
        if (peer === null) return;
        peer.done(question(probe | get), DeviceFeature.size);
        move(peer, preCopy);
        const { initialBytes } = ask(peer);
        expectThat(initialBytes > 0, "some bytes", initialBytes);
        readSome(peer, 1);
        const after = ask(peer).initialBytes;
        expectThat(after < initialBytes, `less than ${initialBytes}`, after);
      },
    },
    {
      id: "malformed",
      title: "a set, or too little room for the answer, is EINVAL",
      needs: [preCopies],
      run(context) {
        const peer = agreed(context);
        if (peer === null) return;
        move(peer, preCopy);
        peer.refused(question(get, full - 1));
        peer.refused(deviceFeature(set | OwnFeature.precopyInfo, new Uint8Array(PrecopyInfo.size)));
        expectState(peer, preCopy);
      },
    },
  ],
);
