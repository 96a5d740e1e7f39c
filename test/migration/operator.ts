/** Plays the operator of a `Migratable` in a test, and a device below it. */
import type { Migratable } from "../../src/migration/migratable.ts";
import type { MoveReport } from "../../src/migration/port.ts";
import { MigState } from "../../src/spec/vfio.ts";
import { CopySink } from "../device/vmm.ts";

/** A clock that only a test moves. */
export class TestClock {
  ms = 0;
  readonly now = (): number => this.ms;
}

/** How a move ended. */
export interface Arrival {
  readonly result: number;
  readonly report: MoveReport;
}

const turnsMax = 100_000;
const pieceBytes = 65_536;

/** Moves and gives the device its turns until the move is over; `perTurn` is done between turns. */
export function move(
  device: Migratable,
  to: number,
  perTurn: (turn: number) => void = () => {},
): Arrival {
  let arrival: Arrival | null = null;
  device.move(to, (result, report) => {
    arrival = { result, report };
  });
  for (let turn = 0; arrival === null && turn < turnsMax; turn++) {
    perTurn(turn);
    device.work();
  }
  if (arrival === null) throw new Error("the move does not end");
  return arrival;
}

/** Reads the stream to its end, in pieces of any size. */
export function readAll(device: Migratable, piece = pieceBytes): Uint8Array<ArrayBuffer> {
  const pieces: Uint8Array[] = [];
  for (;;) {
    const sink = new CopySink(piece);
    const count = device.readStream(sink, piece);
    if (count < 0) throw new Error(`no stream: ${count}`);
    pieces.push(sink.take(count));
    if (count < piece) return new Uint8Array(Buffer.concat(pieces));
  }
}

/** Stops a device and reads its state. */
export function save(device: Migratable): Uint8Array<ArrayBuffer> {
  device.claim();
  const { result } = move(device, MigState.stopCopy);
  if (result < 0) throw new Error(`not saved: ${result}`);
  return readAll(device);
}

/** Writes a state to a device, in pieces, as far as it takes it; then ends RESUMING. */
export function load(device: Migratable, stream: Uint8Array, piece = pieceBytes): Arrival {
  device.claim();
  move(device, MigState.resuming);
  for (let at = 0; at < stream.length; at += piece) {
    if (device.writeStream(stream, at, Math.min(piece, stream.length - at)) < 0) break;
  }
  return move(device, MigState.stop);
}
