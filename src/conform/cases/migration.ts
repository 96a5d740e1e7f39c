import {
  deviceGetInfo,
  dmaMap,
  dmaUnmap,
  getMigState,
  irqInfo,
  regionInfo,
  regionRead,
  setIrqs,
  setMigState,
} from "../../client/raw-requests.ts";
import { DeviceFeature, IrqSetFlags, MigState, migForbidden, PciRegion } from "../../spec/vfio.ts";
import { casesOf } from "../case.ts";
import type { Context } from "../context.ts";
import { expectBytes, expectEqual } from "../expect.ts";
import { config, migrates, preCopies, vectors, vectorsOf } from "../offer.ts";
import { viewOf } from "../peer.ts";
import { expectState, move, readSome, save, stateBytes, writeAll } from "../stream.ts";

const { stop, running, stopCopy, resuming, preCopy } = MigState;

const isForbidden = (from: number, to: number): boolean =>
  migForbidden.some(([source, target]) => source === from && target === to);

/** Tries every state from `from`, each on its own way there. */
function tryAllFrom(context: Context, from: number, all: readonly number[]): void {
  const peer = context.open();
  const resumes = from === resuming || all.includes(resuming);
  const stream = resumes ? save(peer) : new Uint8Array(0);
  for (const to of all) {
    move(peer, from);
    if (from === resuming && to !== resuming) writeAll(peer, stream);
    if (isForbidden(from, to)) peer.refused(setMigState(to));
    else move(peer, to);
    expectState(peer, isForbidden(from, to) ? from : to);
    if (to === resuming) writeAll(peer, stream);
    move(peer, running);
  }
  peer.close();
}

/** What a client needs of a stopped device to go on with a migration or to take it over. */
function answeredIn(context: Context, state: number): void {
  const peer = context.open();
  move(peer, state);
  peer.done(deviceGetInfo(), 16);
  peer.done(regionInfo(PciRegion.bar0, 4096));
  peer.done(irqInfo(0), 16);
  peer.done(regionRead(PciRegion.config, 0, 4), 20);
  peer.done(dmaMap({ address: 0, size: 4096 }), 0);
  peer.done(dmaUnmap({ address: 0, size: 4096 }), 24);
  const { index, count } = vectorsOf(context.offer);
  const { actionTrigger, dataEventfd, dataNone } = IrqSetFlags.mask;
  if (count > 0) {
    const fd = context.eventfd();
    peer.done(setIrqs({ flags: actionTrigger | dataEventfd, index, count: 1 }), 0, [fd]);
    peer.done(setIrqs({ flags: actionTrigger | dataNone, index }), 0);
  }
  expectState(peer, state);
}

export const cases = casesOf(
  "migration",
  "VFIO_DEVICE_FEATURE_MIG_DEVICE_STATE",
  [migrates],
  [
    {
      id: "get-state",
      title: "the state is told in 16 bytes and is RUNNING at first",
      run(context) {
        const peer = context.open();
        const view = viewOf(peer.done(getMigState(), stateBytes));
        expectEqual("argsz", DeviceFeature.get(view, 0).argsz, stateBytes);
        expectState(peer, running);
      },
    },
    {
      id: "set-reply",
      title: "the reply to a state change repeats the request",
      run(context) {
        const peer = context.open();
        for (const state of [stop, running]) {
          const request = setMigState(state);
          expectBytes("reply", peer.done(request).payload, request.payload);
        }
      },
    },
    {
      id: "from-running",
      title: "RUNNING reaches STOP, STOP_COPY, RESUMING and itself",
      run: (context) => tryAllFrom(context, running, [stop, running, stopCopy, resuming]),
    },
    {
      id: "from-stop",
      title: "STOP reaches RUNNING, STOP_COPY, RESUMING and itself",
      run: (context) => tryAllFrom(context, stop, [stop, running, stopCopy, resuming]),
    },
    {
      id: "from-stop-copy",
      title: "STOP_COPY reaches STOP, RUNNING, RESUMING and itself",
      run: (context) => tryAllFrom(context, stopCopy, [stop, running, stopCopy, resuming]),
    },
    {
      id: "from-resuming",
      title: "RESUMING, with a whole stream, reaches STOP, RUNNING and STOP_COPY",
      run: (context) => tryAllFrom(context, resuming, [stop, running, stopCopy]),
    },
    {
      id: "pre-copy",
      title: "PRE_COPY reaches and is reached from every state, but not from STOP_COPY",
      needs: [preCopies],
      run(context) {
        tryAllFrom(context, preCopy, [stop, running, stopCopy, resuming, preCopy]);
        for (const from of [stop, running, stopCopy]) tryAllFrom(context, from, [preCopy]);
      },
    },
    {
      id: "unreachable",
      title: "ERROR, the P2P states and unknown ones are EINVAL and change nothing",
      run(context) {
        const peer = context.open();
        for (const from of [running, stop, stopCopy]) {
          move(peer, from);
          for (const to of [0, 5, 7, 8, 0xabcd, 0xffff_ffff]) peer.refused(setMigState(to));
          expectState(peer, from);
        }
      },
    },
    {
      id: "no-pre-copy",
      title: "a device without PRE_COPY refuses it",
      needs: [(offer) => (preCopies(offer) === null ? "the device has PRE_COPY" : null)],
      run(context) {
        const peer = context.open();
        peer.refused(setMigState(preCopy));
        expectState(peer, running);
      },
    },
    {
      id: "answered-in-stop",
      title: "information, mappings and interrupts are served in STOP",
      needs: [config, vectors(1)],
      run: (context) => answeredIn(context, stop),
    },
    {
      id: "answered-in-stop-copy",
      title: "information, mappings and interrupts are served in STOP_COPY",
      needs: [config, vectors(1)],
      run: (context) => answeredIn(context, stopCopy),
    },
    {
      id: "client-gone",
      section: "Client Disconnection Behavior",
      title: "when a client goes in STOP_COPY the next one learns of the device and runs it",
      run(context) {
        const first = context.open();
        move(first, stopCopy);
        readSome(first, 4);
        first.close();
        const second = context.open();
        second.done(deviceGetInfo(), 16);
        move(second, running);
        expectState(second, running);
      },
    },
  ],
);
