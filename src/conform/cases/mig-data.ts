import { errno } from "../../base/errno.ts";
import {
  cut,
  joined,
  message,
  migDataRead,
  migDataWrite,
  regionWrite,
  setMigState,
} from "../../client/raw-requests.ts";
import { MigState } from "../../spec/vfio.ts";
import { MigData } from "../../spec/vfio-user.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf } from "../case.ts";
import { ourCapabilities } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { known, limited, migrates, preCopies } from "../offer.ts";
import { expectState, move, readAll, readSome, save, writeAll } from "../stream.ts";

const { stop, running, stopCopy, resuming, preCopy } = MigState;
/** Why a stream is refused: it is the device's to say. */
const ownErrors = [errno.EINVAL, errno.EIO, errno.EPROTO] as const;

export const cases = casesOf(
  "mig-data",
  "VFIO_USER_MIG_DATA_READ",
  [migrates],
  [
    {
      id: "read",
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
  ],
);
