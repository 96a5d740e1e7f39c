import { afterEach, describe, expect, it } from "vitest";
import { message } from "../../src/client/raw-requests.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT } from "../../src/sys/constants.ts";
import { closeFd, createEventfd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { Frame, Framer } from "../../src/wire/framer.ts";
import { type Found, makeFramer, naiveFrames, receiveAll } from "../fuzz/framer-model.ts";

const messageBytesMax = 96;

/** A message whose payload's bytes all are `fill`, so that a mix-up shows. */
const filled = (fill: number, payloadBytes: number): Uint8Array =>
  message(
    { command: fill, payload: new Uint8Array(payloadBytes).fill(fill) },
    { messageId: fill * 257 },
  );

/** A header that announces `size` bytes. */
const announcing = (size: number): Uint8Array =>
  message({ command: 9, payload: new Uint8Array(0) }, { messageSize: size });

function concat(...pieces: Uint8Array[]): Uint8Array {
  return Uint8Array.from(pieces.flatMap((piece) => [...piece]));
}

const plain = (bytes: Uint8Array) => ({ bytes, fds: [] });
const frames = (found: readonly Found[]) => found.map(({ frame }) => frame);

/** Feeds a stream in pieces of `step` bytes. */
function inSteps(stream: Uint8Array, step: number, capacity = messageBytesMax): Found[] {
  return receiveAll(makeFramer(capacity, messageBytesMax), [plain(stream)], () => step).found;
}

describe("cutting a stream", () => {
  const stream = concat(filled(1, 0), filled(2, 80), filled(3, 5), filled(4, 33), filled(5, 0));

  it("gives whole messages, whatever the size of the pieces", () => {
    const expected = naiveFrames(stream, messageBytesMax);
    expect(frames(expected)).toEqual(Array(5).fill(Frame.message));
    for (let step = 1; step <= stream.length; step++) {
      expect(inSteps(stream, step), `pieces of ${step}`).toEqual(expected);
      expect(inSteps(stream, step, 4 * messageBytesMax), `pieces of ${step}`).toEqual(expected);
    }
  });

  it("waits for the last byte of a header and of a body", () => {
    const { bytes, framer } = makeFramer(messageBytesMax, messageBytesMax);
    const whole = filled(7, 20);
    for (const [i, byte] of whole.entries()) {
      expect(framer.next()).toBe(Frame.partial);
      expect(framer.missing()).toBe(i < 16 ? 0 : whole.length - i);
      expect(framer.unparsed).toBe(i);
      expect(framer.room()).toBeGreaterThan(0);
      bytes[framer.end] = byte;
      framer.received(1);
    }
    expect(framer.next()).toBe(Frame.message);
    expect(bytes.slice(framer.at, framer.at + framer.size)).toEqual(whole);
    expect(framer.next()).toBe(Frame.partial);
    expect(framer.unparsed).toBe(0);
  });

  it("always has room for the rest of a message, even in a buffer that holds only one", () => {
    const { bytes, framer } = makeFramer(messageBytesMax, messageBytesMax);
    for (const first of [16, 17, 50, 95]) {
      const head = filled(1, first - 16);
      const largest = filled(2, messageBytesMax - 16);
      const cut = messageBytesMax - first;
      bytes.set(concat(head, largest.subarray(0, cut)), framer.end);
      framer.received(messageBytesMax);
      expect(framer.next()).toBe(Frame.message);
      expect(framer.next()).toBe(Frame.partial);
      expect(framer.room()).toBe(messageBytesMax - cut);
      bytes.set(largest.subarray(cut), framer.end);
      framer.received(largest.length - cut);
      expect(framer.next()).toBe(Frame.message);
      expect(bytes.slice(framer.at, framer.at + framer.size)).toEqual(largest);
      expect(framer.room()).toBe(messageBytesMax);
    }
  });

  it("does not move a message while the next ones still fit behind it", () => {
    const { bytes, framer } = makeFramer(4 * messageBytesMax, messageBytesMax);
    bytes.set(concat(filled(1, 0), filled(2, 0).subarray(0, 8)), framer.end);
    framer.received(24);
    framer.next();
    const start = framer.start;
    framer.room();
    expect(framer.start).toBe(start);
  });
});

describe("impossible sizes", () => {
  it("reports a size below the header's and goes on behind the header", () => {
    for (const size of [0, 1, 15]) {
      const found = inSteps(concat(announcing(size), filled(3, 4)), 5);
      expect(frames(found), `size ${size}`).toEqual([Frame.tooSmall, Frame.message]);
      expect(found[0]?.bytes).toEqual(announcing(size));
    }
  });

  it("takes the largest size and refuses one byte more", () => {
    expect(frames(inSteps(filled(1, messageBytesMax - 16), 7))).toEqual([Frame.message]);
    const found = inSteps(concat(filled(1, messageBytesMax - 15), filled(2, 3)), 7);
    expect(frames(found)).toEqual([Frame.tooLarge, Frame.message]);
    expect(found[1]?.bytes).toEqual(filled(2, 3));
  });

  it("reports an over-long message as soon as its header is there and stores no body", () => {
    const { bytes, framer } = makeFramer(messageBytesMax, messageBytesMax);
    bytes.set(announcing(1_000_000), framer.end);
    framer.received(16);
    expect(framer.next()).toBe(Frame.tooLarge);
    expect(framer.skipping).toBe(1_000_000 - 16);
    let left = 1_000_000 - 16;
    while (left > 0) {
      const count = Math.min(left, framer.room());
      expect(count).toBeGreaterThan(0);
      framer.received(count);
      left -= count;
      expect(framer.next()).toBe(Frame.partial);
      expect(framer.unparsed).toBe(0);
    }
    expect(framer.skipping).toBe(0);
    bytes.set(filled(6, 9), framer.end);
    framer.received(25);
    expect(framer.next()).toBe(Frame.message);
  });

  it("skips the largest size that a header can say", () => {
    const { bytes, framer } = makeFramer(messageBytesMax, messageBytesMax);
    bytes.set(announcing(0xffff_ffff), framer.end);
    framer.received(16);
    expect(framer.next()).toBe(Frame.tooLarge);
    expect(framer.skipping).toBe(0xffff_ffff - 16);
  });
});

describe("descriptors", () => {
  const one = filled(1, 10);
  const two = filled(2, 40);
  const three = filled(3, 0);

  it("go to the message that came last in the same receive", () => {
    for (const step of [16, 26, 60, 1000]) {
      const pieces = [plain(one), { bytes: two, fds: [7, 8] }, { bytes: three, fds: [9] }];
      const got = receiveAll(makeFramer(200, messageBytesMax), pieces, () => step);
      expect(
        got.found.map(({ fds }) => fds),
        `receives of ${step}`,
      ).toEqual([[], [7, 8], [9]]);
      expect(got.closed).toEqual([]);
    }
  });

  it("stay with their message when it is split anywhere, and when the buffer is moved", () => {
    for (let cut = 1; cut < two.length; cut++) {
      const pieces = [
        plain(one),
        { bytes: two.subarray(0, cut), fds: [5] },
        plain(two.subarray(cut)),
        plain(concat(three, one)),
      ];
      for (const step of [1, 9, 31, 1000]) {
        const got = receiveAll(makeFramer(messageBytesMax, messageBytesMax), pieces, () => step);
        expect(
          got.found.map(({ fds }) => fds),
          `cut ${cut}`,
        ).toEqual([[], [5], [], []]);
      }
    }
  });

  it("that come with header and body of one message are that message's, in order", () => {
    const pieces = [
      { bytes: two.subarray(0, 16), fds: [5] },
      { bytes: two.subarray(16), fds: [6, 7] },
    ];
    const got = receiveAll(makeFramer(200, messageBytesMax), pieces, () => 1000);
    expect(got.found.map(({ fds }) => fds)).toEqual([[5, 6, 7]]);
  });

  it("that come with a header of impossible size can be taken with it", () => {
    for (const size of [3, 5000]) {
      const pieces = [{ bytes: announcing(size), fds: [4] }, plain(three)];
      const got = receiveAll(makeFramer(200, messageBytesMax), pieces, () => 16);
      expect(got.found[0]?.fds, `size ${size}`).toEqual([4]);
      expect(got.closed).toEqual([]);
    }
  });

  it("inside a body that is skipped belong to nobody", () => {
    const pieces = [
      plain(announcing(60)),
      { bytes: new Uint8Array(44), fds: [3, 4] },
      plain(three),
    ];
    const got = receiveAll(makeFramer(48, 48), pieces, () => 16);
    expect(got.closed).toEqual([3, 4]);
    expect(got.found.map(({ fds }) => fds)).toEqual([[], []]);
  });

  it("of a message that never ends are given back", () => {
    const pieces = [{ bytes: two.subarray(0, 30), fds: [3, 4] }];
    const got = receiveAll(makeFramer(200, messageBytesMax), pieces, () => 16);
    expect(got).toEqual({ found: [], closed: [3, 4] });
  });
});

describe("a framer that takes over from another", () => {
  it("goes on at any byte with the same messages and descriptors", () => {
    const stream = concat(filled(1, 10), filled(2, 40), announcing(150), new Uint8Array(134));
    const whole = concat(stream, filled(3, 7));
    const expected = naiveFrames(whole, messageBytesMax);
    for (let cut = 1; cut < whole.length; cut++) {
      const found = handedOver(whole, cut);
      expect(found.map(({ frame, bytes }) => ({ frame, bytes, fds: [] }))).toEqual(expected);
      const withFds = found.filter(({ fds }) => fds.length > 0);
      expect(
        withFds.map(({ bytes }) => bytes),
        `cut at ${cut}`,
      ).toEqual([filled(2, 40)]);
    }
  });

  /** Hands over after `cut` bytes; a descriptor comes with the second message's first byte. */
  function handedOver(whole: Uint8Array, cut: number): Found[] {
    const first = makeFramer(200, messageBytesMax);
    const second = makeFramer(300, messageBytesMax, 8);
    const found: Found[] = [];
    let current = first;
    for (const [at, byte] of whole.entries()) {
      if (at === cut) {
        const { framer, bytes } = first;
        const unparsed = bytes.slice(framer.start, framer.end);
        second.framer.restart(unparsed, framer.skipping, framer.pendingFds());
        current = second;
      }
      const { framer, bytes } = current;
      expect(framer.room()).toBeGreaterThan(0);
      bytes[framer.end] = byte;
      framer.received(1);
      if (at === 26) expect(framer.attach([9])).toBe(true);
      for (let frame = framer.next(); frame !== Frame.partial; frame = framer.next()) {
        const message = bytes.slice(framer.at, framer.at + framer.size);
        found.push({ frame, bytes: message, fds: framer.takeFds() });
      }
    }
    return found;
  }
});

describe("on a real socket", () => {
  const closers: Array<() => void> = [];
  afterEach(() => {
    for (const close of closers.splice(0)) close();
  });

  it("the kernel delivers descriptors with the last bytes of a receive", () => {
    const [left, right] = socketPair();
    const sender = new Channel(left);
    const receiver = new Channel(right);
    const arena = new Arena(4096);
    const event = createEventfd();
    closers.push(
      () => sender.close(),
      () => receiver.close(),
      () => closeFd(event),
    );
    const pieces: Array<[Uint8Array, number[]]> = [
      [filled(1, 10), []],
      [filled(2, 40), [event]],
      [filled(3, 0), []],
      [filled(4, 8).subarray(0, 20), [event, event]],
      [filled(4, 8).subarray(20), []],
    ];
    for (const [bytes, fds] of pieces) {
      arena.bytes.set(bytes);
      sender.sendWithFds(arena.address, bytes.length, fds);
    }
    const framer = new Framer(arena.view, 2048, 1024, messageBytesMax);
    const counts = new Map<number, number>();
    while (counts.size < 4) {
      const room = framer.room();
      const count = receiver.receive(arena.address + framer.end, room, MSG_DONTWAIT);
      if (count <= 0) break;
      framer.received(count);
      const fds = [...receiver.receivedFds.subarray(0, receiver.receivedFdCount)];
      if (fds.length > 0) framer.attach(fds);
      while (framer.next() === Frame.message) {
        const taken = framer.takeFds();
        counts.set(arena.view.getUint16(framer.at + 2, true), taken.length);
        for (const fd of taken) closeFd(fd);
      }
    }
    expect([...counts]).toEqual([
      [1, 0],
      [2, 1],
      [3, 0],
      [4, 2],
    ]);
  });
});
