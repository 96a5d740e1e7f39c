/** The framing rule in its plainest form, to compare the framer with. */
import { Frame, Framer } from "../../src/wire/framer.ts";

/** One thing that a framer found: a whole message, or a header with an impossible size. */
export interface Found {
  readonly frame: Frame;
  /** The message with its header; for an impossible size the header. */
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

/** A piece of a stream as one `sendmsg` sends it. */
export interface Piece {
  readonly bytes: Uint8Array;
  readonly fds: readonly number[];
}

const headerBytes = 16;

/** What is in a whole stream, walked from its start; an unfinished message is left out. */
export function naiveFrames(stream: Uint8Array, messageBytesMax: number): Found[] {
  const found: Found[] = [];
  let at = 0;
  while (at + headerBytes <= stream.length) {
    const header = stream.slice(at, at + headerBytes);
    const size = new DataView(header.buffer).getUint32(4, true);
    if (size < headerBytes) {
      found.push({ frame: Frame.tooSmall, bytes: header, fds: [] });
      at += headerBytes;
    } else if (size > messageBytesMax) {
      found.push({ frame: Frame.tooLarge, bytes: header, fds: [] });
      at += size;
    } else if (at + size > stream.length) break;
    else {
      found.push({ frame: Frame.message, bytes: stream.slice(at, at + size), fds: [] });
      at += size;
    }
  }
  return found;
}

/** The part of a framer that its owner uses while receiving. */
export type Receiving = Pick<
  Framer,
  "at" | "size" | "end" | "room" | "received" | "attach" | "next" | "takeFds" | "takeAllFds"
>;

/** A framer over a buffer of its own, which starts at `from` of a larger one. */
export function makeFramer(capacity: number, messageBytesMax: number, from = 32) {
  const bytes = new Uint8Array(from + capacity + 32);
  return { bytes, framer: new Framer(new DataView(bytes.buffer), from, capacity, messageBytesMax) };
}

/**
 * Feeds pieces as a stream socket delivers them: a receive takes bytes of several pieces and ends
 * behind the first bytes of one that carries descriptors. `take` says how many bytes each receive
 * asks for. Descriptors that no message started for are in `closed`.
 */
export function receiveAll(
  { bytes, framer }: { bytes: Uint8Array; framer: Receiving },
  pieces: readonly Piece[],
  take: () => number,
): { found: Found[]; closed: number[] } {
  const queue = pieces.map((piece) => ({ ...piece, at: 0 }));
  const found: Found[] = [];
  const closed: number[] = [];
  while (queue.length > 0) {
    let room = Math.min(framer.room(), Math.max(1, take()));
    if (room <= 0) throw new Error("the framer has no room for the rest of a message");
    let fds: readonly number[] = [];
    for (let piece = queue[0]; piece !== undefined && room > 0; piece = queue[0]) {
      const count = Math.min(room, piece.bytes.length - piece.at);
      bytes.set(piece.bytes.subarray(piece.at, piece.at + count), framer.end);
      framer.received(count);
      if (piece.at === 0) fds = piece.fds;
      piece.at += count;
      room -= count;
      if (piece.at === piece.bytes.length) queue.shift();
      if (fds.length > 0) break;
    }
    if (fds.length > 0 && !framer.attach(fds)) closed.push(...fds);
    for (let frame = framer.next(); frame !== Frame.partial; frame = framer.next()) {
      const whole = bytes.slice(framer.at, framer.at + framer.size);
      found.push({ frame, bytes: whole, fds: framer.takeFds() });
    }
  }
  closed.push(...framer.takeAllFds());
  return { found, closed };
}
