/** A device's migration states and its stream, as a client walks through them. */
import {
  getMigState,
  joined,
  migDataRead,
  migDataWrite,
  setMigState,
} from "../client/raw-requests.ts";
import { DeviceFeature, FeatureMigState, MigState, migStateName } from "../spec/vfio.ts";
import { MigData } from "../spec/vfio-user.ts";
import { Mismatch } from "./case.ts";
import { expectEqual, expectThat } from "./expect.ts";
import { type Peer, viewOf } from "./peer.ts";

/** The payload of a request for the state, and of its reply. */
export const stateBytes: number = DeviceFeature.size + FeatureMigState.size;
/** Some servers cannot take a longer request in one piece. */
const writeBytes = 32_768;
const streamBytesMax = 512 * 1024 * 1024;

/** The device is in this state. */
export function expectState(peer: Peer, expected: number): void {
  const view = viewOf(peer.done(getMigState(), stateBytes));
  const came = FeatureMigState.get(view, DeviceFeature.size).deviceState;
  expectEqual("migration state", migStateName(came), migStateName(expected));
}

/** Brings the device to a state, which must succeed. */
export function move(peer: Peer, state: number): void {
  peer.done(setMigState(state), stateBytes);
}

/** One MIG_DATA_READ; the reply's sizes must agree. */
export function readSome(peer: Peer, size: number): Uint8Array {
  const reply = peer.done(migDataRead(size));
  const { argsz, size: got } = MigData.get(viewOf(reply), 0);
  expectThat(got <= size, `at most ${size} bytes`, got);
  expectEqual("payload bytes", reply.payload.length, MigData.size + got);
  expectEqual("argsz", argsz, MigData.size + got);
  return reply.payload.subarray(MigData.size);
}

/** Reads in pieces of `size` to the end of the stream, which is a short read. */
export function readAll(peer: Peer, size: number): Uint8Array {
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
export function save(peer: Peer): Uint8Array {
  move(peer, MigState.stopCopy);
  const stream = readAll(peer, peer.server.limits.maxDataXferSize);
  move(peer, MigState.running);
  return stream;
}

/** Writes a stream to a device in RESUMING. */
export function writeAll(peer: Peer, stream: Uint8Array): void {
  for (let at = 0; at < stream.length; at += writeBytes) {
    peer.done(migDataWrite(stream.subarray(at, at + writeBytes)), 0);
  }
}
