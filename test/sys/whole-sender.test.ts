/** Pieces and descriptors for a peer that reads slowly, not at all, or has gone. */
import { closeSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT } from "../../src/sys/constants.ts";
import { createMemfd } from "../../src/sys/descriptors.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { WholeSender } from "../../src/sys/whole-sender.ts";

const pieceBytes = 4 * 1_048_576;
const room = new Arena(65_536);
const piece = new Arena(pieceBytes);
for (const i of piece.bytes.keys()) piece.bytes[i] = (i * 7) % 251;

const inAMinute = (): number => performance.now() + 60_000;

describe("a sender of whole pieces", () => {
  let near: Channel;
  let far: Channel;
  let sender: WholeSender;

  beforeEach(() => {
    const [one, other] = socketPair();
    near = new Channel(one);
    far = new Channel(other);
    sender = new WholeSender(near);
  });

  afterEach(() => {
    for (const each of [near, far]) if (each.fd >= 0) each.close();
    sender.free();
  });

  /** What the far side gets until `bytes` have come, a little at a time; closes descriptors. */
  async function takeIn(bytes: number): Promise<{ received: Buffer; fds: number }> {
    const parts: Buffer[] = [];
    let fds = 0;
    for (let done = 0; done < bytes; ) {
      const count = far.receive(room.address, room.bytes.length, MSG_DONTWAIT);
      fds += far.receivedFdCount;
      far.closeReceived();
      if (count > 0) {
        done += count;
        parts.push(Buffer.from(room.bytes.slice(0, count)));
      } else if (count === -errno.EAGAIN) await sleep(1);
      else throw new Error(`receiving: ${count}`);
    }
    return { received: Buffer.concat(parts), fds };
  }

  it("sends what does not fit at once as fast as it is read", async () => {
    const sending = sender.send(piece.address, pieceBytes, inAMinute());
    const { received } = await takeIn(pieceBytes);
    expect(await sending).toBe(0);
    expect(received.equals(Buffer.from(piece.bytes))).toBe(true);
  });

  it("sends more descriptors than the kernel takes with one message", async () => {
    const fd = createMemfd("one", 4096);
    const sending = sender.sendFds(piece.address, Array<number>(600).fill(fd), inAMinute());
    const { fds } = await takeIn(Math.ceil(600 / 250));
    closeSync(fd);
    expect(await sending).toBe(0);
    expect(fds).toBe(600);
  });

  it("gives a peer up that does not read", async () => {
    const result = await sender.send(piece.address, pieceBytes, performance.now() + 20);
    expect(result).toBe(-errno.ETIMEDOUT);
  });

  it("says that the peer has gone, before or while it waits", async () => {
    const sending = sender.send(piece.address, pieceBytes, inAMinute());
    far.close();
    far.fd = -1;
    expect(await sending).toBe(-errno.EPIPE);
    expect(await sender.sendFds(piece.address, [0], inAMinute())).toBe(-errno.EPIPE);
  });
});
