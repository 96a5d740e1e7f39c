/** What a session keeps for a client and for its device at most, whatever both of them ask. */
import { beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { message } from "../../src/client/raw-requests.ts";
import { Direction, pending, Transfer } from "../../src/memory/transfer.ts";
import { HoldQueue } from "../../src/server/hold.ts";
import { Lane } from "../../src/server/lane.ts";
import {
  dmaInFlightMax,
  holdBytesMax,
  messageBytesMax,
  transfersMax,
} from "../../src/server/limits.ts";
import { DmaPump } from "../../src/server/message-dma.ts";
import { Command, Header } from "../../src/spec/vfio-user.ts";

describe("the requests that a frozen device's session holds", () => {
  const request = message({ command: Command.regionRead, payload: new Uint8Array(1008) });

  it("are a MiB of them, and whatever the last one's size is", () => {
    const queue = new HoldQueue();
    let count = 0;
    for (; queue.open && count < 10_000; count++) queue.push(request, 0, request.length);
    expect(count).toBe(Math.ceil(holdBytesMax / request.length));
    expect([count, queue.bytes.length]).toEqual([1024, holdBytesMax + messageBytesMax]);
  });

  it("come out as they came in, and leave room for the longest one", () => {
    const queue = new HoldQueue();
    while (queue.open) queue.push(request, 0, request.length);
    expect(queue.next()).toBe(true);
    const longest = message({
      command: Command.regionWrite,
      payload: new Uint8Array(messageBytesMax - Header.size),
    });
    expect(queue.open).toBe(true);
    queue.push(longest, 0, longest.length);
    expect(queue.open).toBe(false);
    const sizes = [];
    while (queue.next()) sizes.push(queue.size);
    expect(sizes).toEqual([...Array(1023).fill(request.length), longest.length]);
  });
});

describe("DMA by messages", () => {
  const lane = new Lane();
  let pump: DmaPump;
  beforeEach(() => {
    pump = new DmaPump(
      () => lane,
      () => 0,
    );
    pump.start(64, []);
  });

  const read = (bytes: number): Transfer =>
    new Transfer().set(Direction.read, 0, new Uint8Array(bytes), 0, bytes);

  it(`is for ${transfersMax} transfers at once; a device that starts more is told so`, () => {
    const all = Array.from({ length: transfersMax }, () => read(8));
    expect(new Set(all.map((each) => pump.submit(each)))).toEqual(new Set([0]));
    const more = read(8);
    expect([pump.submit(more), more.status]).toEqual([-errno.EBUSY, 0]);
    pump.cancelAll();
    expect([pump.submit(more), more.status]).toEqual([0, pending]);
    expect(transfersMax).toBe(64);
  });

  it(`asks a client for ${dmaInFlightMax} pieces at once, whatever a transfer's length is`, () => {
    const long = read(64 * 100);
    pump.submit(long);
    pump.pump();
    expect([pump.inFlight, long.asked]).toEqual([16, 64 * 16]);
    expect(dmaInFlightMax).toBe(16);
    pump.pump();
    expect(long.asked).toBe(64 * 16);
  });
});
