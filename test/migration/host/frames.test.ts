/** What travels over a link, cut out of a stream of bytes. */
import { describe, expect, it } from "vitest";
import { FrameReader, frameHeader, sparesMax } from "../../../src/host/links/frame-reader.ts";
import type { Frame } from "../../../src/migration/hosts/link.ts";
import { dataBytesMax, messages } from "../../../src/migration/hosts/link-messages.ts";

describe("frames", () => {
  const frames = [0, 1, 5, 100, 70_000].map(
    (length): Frame => ({ type: messages.data.type, payload: new Uint8Array(length).fill(length) }),
  );
  const stream = Buffer.concat(frames.flatMap((frame) => [frameHeader(frame), frame.payload]));

  it("are cut out of a stream, wherever it is cut itself", () => {
    for (const pieceBytes of [1, 3, 4096, stream.length]) {
      const taken: Frame[] = [];
      const reader = new FrameReader((frame) => taken.push(frame));
      for (let at = 0; at < stream.length; at += pieceBytes) {
        reader.copy(stream.subarray(at, at + pieceBytes));
      }
      expect(taken).toEqual(frames);
    }
  });

  it("are read into memory that was given back, the large ones", () => {
    const taken: Frame[] = [];
    const reader = new FrameReader((frame) => taken.push(frame));
    for (let i = 0; i < 2; i++) {
      reader.copy(stream);
      for (const { payload } of taken.slice(-frames.length)) reader.recycle(payload);
    }
    const buffers = taken.map(({ payload }) => payload.buffer);
    expect(buffers.at(-1)).toBe(buffers[frames.length - 1]);
    expect(new Set(buffers.filter(({ byteLength }) => byteLength > 0)).size).toBe(7);
    expect(taken.at(-1)).toEqual(frames.at(-1));
  });

  it("leave no more memory waiting than for some of them, whatever is given back", () => {
    const taken: Frame[] = [];
    const reader = new FrameReader((frame) => taken.push(frame));
    const given = Array.from({ length: 2 * sparesMax }, () => new Uint8Array(70_000));
    for (const each of given) reader.recycle(each);
    for (let i = 0; i < given.length; i++) reader.copy(stream);
    const again = taken.filter(({ payload }) =>
      given.some(({ buffer }) => buffer === payload.buffer),
    );
    expect(again.length).toBe(sparesMax);
  });

  it.each([
    ["a type that there is not", 99, 1],
    ["a payload that is too long", messages.data.type, dataBytesMax + 1],
    ["a control message that is too long", messages.hello.type, dataBytesMax],
  ])("with %s end it, and take no memory", (_, type, length) => {
    const header = Buffer.alloc(5);
    header[0] = type;
    header.writeUInt32LE(length, 1);
    const reader = new FrameReader(() => {});
    reader.copy(header);
    expect(reader.broken).toBe(true);
  });
});
