import { errno } from "../../base/errno.ts";
import {
  cut,
  deviceGetInfo,
  dmaMap,
  dmaUnmap,
  getMigState,
  irqInfo,
  joined,
  message,
  migDataRead,
  migDataWrite,
  regionInfo,
  regionRead,
  regionWrite,
  setIrqs,
  setMigState,
} from "../../client/raw-requests.ts";
import {
  DeviceFeature,
  FeatureMigState,
  IrqSetFlags,
  MigState,
  migForbidden,
  migStateName,
  PciRegion,
} from "../../spec/vfio.ts";
import { MigData } from "../../spec/vfio-user.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf, Mismatch } from "../case.ts";
import { type Context, ourCapabilities } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { config, known, limited, migrates, preCopies, vectors, vectorsOf } from "../offer.ts";
import { type Peer, viewOf } from "../peer.ts";

const stateBytes = DeviceFeature.size + FeatureMigState.size;
/** Some servers cannot take a longer request in one piece. */
const writeBytes = 32_768;
const streamBytesMax = 512 * 1024 * 1024;
const { stop, running, stopCopy, resuming, preCopy } = MigState;

function expectState(peer: Peer, expected: number): void {
  const came = FeatureMigState.get(viewOf(peer.done(getMigState(), stateBytes)), 8).deviceState;
  expectEqual("migration state", migStateName(came), migStateName(expected));
}

function move(peer: Peer, state: number): void {
  peer.done(setMigState(state), stateBytes);
}

/** One MIG_DATA_READ; the reply's sizes must agree. */
function readSome(peer: Peer, size: number): Uint8Array {
  const reply = peer.done(migDataRead(size));
  const { argsz, size: got } = MigData.get(viewOf(reply), 0);
  expectThat(got <= size, `at most ${size} bytes`, got);
  expectEqual("payload bytes", reply.payload.length, MigData.size + got);
  expectEqual("argsz", argsz, MigData.size + got);
  return reply.payload.subarray(MigData.size);
}

/** Reads to the end of the stream, which is a short read. */
function readAll(peer: Peer, size: number): Uint8Array {
  const pieces: Uint8Array[] = [];
  for (let total = 0; total <= streamBytesMax; ) {
    const piece = readSome(peer, size);
    pieces.push(piece);
    total += piece.length;
    if (piece.length < size) return joined(...pieces);
  }
  throw new Mismatch(`a stream of at most ${streamBytesMax} bytes`, "more");
}

/** Brings the device to STOP_COPY, reads its stream and returns to RUNNING. */
function save(peer: Peer): Uint8Array {
  move(peer, stopCopy);
  const stream = readAll(peer, peer.server.limits.maxDataXferSize);
  move(peer, running);
  return stream;
}

function writeAll(peer: Peer, stream: Uint8Array): void {
  for (let at = 0; at < stream.length; at += writeBytes) {
    peer.done(migDataWrite(stream.subarray(at, at + writeBytes)), 0);
  }
}

/** Why a stream is refused: it is the device's to say. */
const ownErrors = [errno.EINVAL, errno.EIO, errno.EPROTO] as const;

const isForbidden = (from: number, to: number): boolean =>
  migForbidden.some(([source, target]) => source === from && target === to);

/** Tries every state from `from`, each on its own way there. */
function tryAllFrom(context: Context, from: number, all: readonly number[]): void {
  const peer = context.open();
  const stream = from === resuming ? save(peer) : new Uint8Array(0);
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
      id: "read",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "a reply has as many bytes as it says, and no padding",
      run(context) {
        const peer = context.open();
        move(peer, stopCopy);
        for (const size of [4, 1, 100]) readSome(peer, size);
        if (preCopies(context.offer) !== null) return;
        move(peer, running);
        move(peer, preCopy);
        readSome(peer, 4);
      },
    },
    {
      id: "end",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "the stream ends with a short read, and behind its end is nothing",
      run(context) {
        const peer = context.open();
        move(peer, stopCopy);
        const stream = readAll(peer, peer.server.limits.maxDataXferSize);
        expectThat(stream.length > 0, "some state", "none");
        for (const size of [1, 4096]) expectEqual("bytes", readSome(peer, size).length, 0);
        expectState(peer, stopCopy);
      },
    },
    {
      id: "again",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "a device that did nothing has the same stream again, in pieces of any size",
      run(context) {
        const peer = context.open();
        const first = save(peer);
        move(peer, stopCopy);
        const second = readAll(peer, 60_000);
        expectBytes("stream", second, first);
      },
    },
    {
      id: "read-pipelined",
      section: "Command Concurrency",
      title: "reads in one piece bring the stream piece by piece, in order",
      run(context) {
        const peer = context.open();
        const stream = save(peer);
        move(peer, stopCopy);
        const size = Math.max(1, Math.min(40_000, Math.floor(stream.length / 8)));
        const ids = [1, 2, 3, 4, 5, 6, 7];
        const request = migDataRead(size);
        peer.sendBytes(joined(...ids.map((messageId) => message(request, { messageId }))));
        for (const [i, id] of ids.entries()) {
          const { payload } = peer.doneAs(request.command, id, MigData.size + size);
          const expected = stream.subarray(i * size, (i + 1) * size);
          expectBytes(`piece ${i}`, payload.subarray(MigData.size), expected);
        }
      },
    },
    {
      id: "read-states",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "there is nothing to read in STOP, RUNNING and RESUMING: EINVAL",
      run(context) {
        const peer = context.open();
        for (const state of [running, stop, resuming]) {
          move(peer, state);
          peer.refused(migDataRead(4));
          expectState(peer, state);
        }
      },
    },
    {
      id: "read-too-long",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "more than the client's max_data_xfer_size, or the server's, is EINVAL",
      needs: [limited],
      run(context) {
        const small = context.open({ ...ourCapabilities, max_data_xfer_size: 4 });
        move(small, stopCopy);
        small.refused(migDataRead(5));
        readSome(small, 4);
        small.close();
        const peer = context.open();
        move(peer, stopCopy);
        for (const size of [peer.server.limits.maxDataXferSize + 1, 0xffff_fff0]) {
          peer.refused(migDataRead(size, 0xffff_ffff));
        }
        expectState(peer, stopCopy);
      },
    },
    {
      id: "read-short",
      section: "VFIO_USER_MIG_DATA_READ",
      title: "a payload below 8 bytes is EINVAL",
      run(context) {
        const peer = context.open();
        move(peer, stopCopy);
        peer.refused(cut(migDataRead(4), 7));
        readSome(peer, 4);
      },
    },
    {
      id: "write-states",
      section: "VFIO_USER_MIG_DATA_WRITE",
      title: "nothing can be written outside of RESUMING: EINVAL",
      run(context) {
        const peer = context.open();
        const stream = save(peer);
        for (const state of [running, stop, stopCopy]) {
          move(peer, state);
          peer.refused(migDataWrite(stream.subarray(0, 4)));
          expectState(peer, state);
        }
        move(peer, resuming);
        peer.done(migDataWrite(stream.subarray(0, Math.min(4, stream.length))), 0);
      },
    },
    {
      id: "write-malformed",
      section: "VFIO_USER_MIG_DATA_WRITE",
      title: "a size other than the data that came is EINVAL",
      run(context) {
        const peer = context.open();
        move(peer, resuming);
        peer.refused(migDataWrite(new Uint8Array(0), 4));
        peer.refused(migDataWrite(new Uint8Array(3), 4));
        peer.refused(cut(migDataWrite(new Uint8Array(4)), 7));
        peer.refused(migDataWrite(new Uint8Array(4), 0xffff_ffff));
        expectState(peer, resuming);
      },
    },
    {
      id: "write-too-long",
      section: "VFIO_USER_MIG_DATA_WRITE",
      title: "more than the client's own max_data_xfer_size is EINVAL",
      run(context) {
        const peer = context.open({ ...ourCapabilities, max_data_xfer_size: 4 });
        move(peer, resuming);
        peer.refused(migDataWrite(new Uint8Array(5)));
        expectState(peer, resuming);
      },
    },
    {
      id: "largest",
      section: "Message sizes",
      title: "data may be written in pieces as large as the largest transfer",
      run(context) {
        const peer = context.open();
        const stream = save(peer);
        const most = peer.server.limits.maxDataXferSize;
        move(peer, resuming);
        for (let at = 0; at < stream.length; at += most) {
          peer.done(migDataWrite(stream.subarray(at, at + most)), 0);
        }
        move(peer, stop);
        move(peer, running);
      },
    },
    {
      id: "round-trip",
      title: "a device that takes up a stream is as the other was when it was stopped",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        const before = Uint8Array.from({ length: 256 }, (_, i) => i ^ 0x5c);
        peer.done(regionWrite(region, offset, before));
        const stream = save(peer);
        peer.done(regionWrite(region, offset, new Uint8Array(256)));
        move(peer, resuming);
        writeAll(peer, stream);
        move(peer, running);
        expectBytes("memory", readBytes(peer, region, offset, 256), before);
      },
    },
    {
      id: "pre-copy-round-trip",
      title: "a stream begun in PRE_COPY and ended in STOP_COPY brings the last state over",
      needs: [known, preCopies],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        move(peer, preCopy);
        const first = [readSome(peer, 4096), readSome(peer, 100_000)];
        const last = Uint8Array.from({ length: 64 }, (_, i) => 255 - i);
        peer.done(regionWrite(region, offset, last));
        move(peer, stopCopy);
        const rest = readAll(peer, peer.server.limits.maxDataXferSize);
        move(peer, running);
        peer.done(regionWrite(region, offset, new Uint8Array(64)));
        move(peer, resuming);
        writeAll(peer, joined(...first, rest));
        move(peer, running);
        expectBytes("memory", readBytes(peer, region, offset, 64), last);
      },
    },
    {
      id: "bad-stream",
      title: "a stream that is no state of the device is refused, and the device goes on",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        const before = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
        peer.done(regionWrite(region, offset, before));
        const stream = save(peer);
        move(peer, resuming);
        peer.ask(migDataWrite(new Uint8Array(4096).fill(0xee)));
        peer.refused(setMigState(stop), ownErrors);
        move(peer, resuming);
        writeAll(peer, stream);
        move(peer, running);
        expectBytes("memory", readBytes(peer, region, offset, 64), before);
      },
    },
    {
      id: "cut-stream",
      title: "a stream that is cut short is refused",
      needs: [known],
      run(context) {
        const peer = context.open();
        const stream = save(peer);
        move(peer, resuming);
        writeAll(peer, stream.subarray(0, stream.length - 1));
        peer.refused(setMigState(running), ownErrors);
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
