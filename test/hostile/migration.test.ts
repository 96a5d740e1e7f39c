/** Clients that die or lie in the middle of a migration. */
import { describe, expect, it } from "vitest";
import {
  deviceGetInfo,
  deviceReset,
  getMigState,
  message,
  migDataRead,
  migDataWrite,
  setMigState,
} from "../../src/client/raw-requests.ts";
import { memoryOf, readBytes } from "../../src/conform/actions.ts";
import { ourCapabilities } from "../../src/conform/context.ts";
import { type Peer, viewOf } from "../../src/conform/peer.ts";
import { FeatureMigState, MigState } from "../../src/spec/vfio.ts";
import { HeaderFlags, MigData } from "../../src/spec/vfio-user.ts";
import { survivor } from "./victim.ts";

const { stop, running, stopCopy, resuming, preCopy } = MigState;
const mib = 1024 * 1024;
const server = survivor("bench", ["--set", "stateMiB=4"]);

const stateOf = (peer: Peer): number =>
  FeatureMigState.get(viewOf(peer.done(getMigState(), 16)), 8).deviceState;

/** The whole stream of the device, which is left in STOP_COPY. */
function streamOf(peer: Peer): Uint8Array[] {
  peer.done(setMigState(stopCopy));
  const pieces: Uint8Array[] = [];
  for (let size = mib; size === mib; ) {
    const reply = peer.done(migDataRead(mib));
    size = MigData.get(viewOf(reply), 0).size;
    pieces.push(reply.payload.subarray(MigData.size));
  }
  return pieces;
}

describe("a client that dies", () => {
  it.each([stop, stopCopy, resuming, preCopy])(
    "in state %i leaves a device that the next client runs",
    (state) => {
      const context = server.victim.context();
      const first = context.open();
      first.done(setMigState(state));
      first.close();
      const second = context.open();
      second.done(deviceGetInfo(), 16);
      second.done(setMigState(running));
      expect(stateOf(second)).toBe(running);
    },
  );

  it.each([stop, stopCopy, resuming, preCopy])(
    "in state %i leaves a device that the next client resets",
    (state) => {
      const context = server.victim.context();
      const first = context.open();
      first.done(setMigState(state));
      first.close();
      const second = context.open();
      second.done(deviceReset(), 0);
      expect(stateOf(second)).toBe(running);
    },
  );

  it("while it reads the stream does not spoil it for the next one", () => {
    const context = server.victim.context();
    const first = context.open();
    const whole = streamOf(first);
    first.done(setMigState(stopCopy));
    first.done(setMigState(stop));
    first.done(setMigState(stopCopy));
    for (let i = 0; i < 20; i++) first.client.send(message(migDataRead(mib)), [], 50);
    first.close();
    const second = context.open();
    second.done(setMigState(running));
    const again = streamOf(second);
    expect(again.length).toBe(whole.length);
    expect(Buffer.concat(again).equals(Buffer.concat(whole))).toBe(true);
  });

  it("with a stream half written changes nothing of the device", () => {
    const context = server.victim.context();
    const { region, offset } = memoryOf(server.victim.offer);
    const first = context.open();
    const [piece] = streamOf(first);
    first.done(setMigState(running));
    const before = readBytes(first, region, offset, 4096);
    first.done(setMigState(resuming));
    first.done(migDataWrite(piece as Uint8Array), 0);
    first.close();
    const second = context.open();
    second.done(deviceReset(), 0);
    expect(stateOf(second)).toBe(running);
    expect(before).toHaveLength(4096);
  });
});

describe("a stream that lies", () => {
  it("in any one byte is refused or taken as a whole, and the device goes on", () => {
    const context = server.victim.context();
    const peer = context.open();
    const pieces = streamOf(peer);
    peer.done(setMigState(running));
    const total = pieces.reduce((sum, { length }) => sum + length, 0);
    const places = [0, 1, 4, 8, 15, 16, 31, 32, 63, 64, 100, 255, 256, 4095, total - 1];
    for (const place of places) {
      const stream = Buffer.concat(pieces);
      stream[place] = (stream[place] as number) ^ 0xff;
      peer.done(setMigState(resuming));
      for (let at = 0; at < stream.length; at += mib) {
        peer.ask(migDataWrite(stream.subarray(at, at + mib)));
      }
      peer.ask(setMigState(running));
      peer.done(deviceReset(), 0);
      expect(stateOf(peer), `byte ${place}`).toBe(running);
    }
  });

  it("of zeros, of ones, or of nothing at all is answered", () => {
    const peer = server.victim.context().open();
    for (const value of [0, 0xff, 0x42]) {
      peer.done(setMigState(resuming));
      for (let i = 0; i < 12; i++) peer.ask(migDataWrite(new Uint8Array(mib).fill(value)));
      for (let i = 0; i < 100; i++) peer.ask(migDataWrite(new Uint8Array(0)));
      peer.ask(setMigState(stop));
      peer.done(deviceReset(), 0);
    }
  });

  it("that never ends does not make the server grow", () => {
    const peer = server.victim.context().open();
    const [piece] = streamOf(peer);
    peer.done(setMigState(running));
    peer.done(setMigState(resuming));
    const flags = HeaderFlags.mask.noReply;
    for (let i = 0; i < 200; i++) peer.post(migDataWrite(piece as Uint8Array), [], { flags });
    peer.usable();
    expect(server.victim.residentMib()).toBeLessThan(512);
    peer.done(deviceReset(), 0);
  });
});

describe("sizes that lie", () => {
  it.each([1, 3, 7, 2 ** 32, 2 ** 53 - 1])(
    "a client that takes %d bytes gets no more than 1 MiB",
    (bytes) => {
      const peer = server.victim.context().open({ ...ourCapabilities, max_data_xfer_size: bytes });
      peer.done(setMigState(stopCopy));
      for (const size of [mib + 1, 64 * mib, 512 * mib, 0xffff_fff0]) {
        peer.refused(migDataRead(size, 0xffff_ffff));
      }
      const most = Math.min(bytes, mib);
      peer.done(migDataRead(most), MigData.size + most);
      expect(server.victim.residentMib()).toBeLessThan(512);
    },
  );

  it("every pair of states, asked for without waiting, leaves a device that a reset mends", () => {
    const peer = server.victim.context().open();
    const flags = HeaderFlags.mask.noReply;
    for (let from = 0; from < 9; from++) {
      for (let to = 0; to < 9; to++) {
        peer.post(setMigState(from), [], { flags });
        peer.post(setMigState(to), [], { flags });
        peer.post(migDataRead(16), [], { flags });
      }
    }
    peer.done(deviceReset(), 0);
    expect(stateOf(peer)).toBe(running);
  });
});
