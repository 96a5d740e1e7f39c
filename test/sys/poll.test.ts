import { closeSync } from "node:fs";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { POLLHUP, POLLIN, POLLOUT } from "../../src/sys/constants.ts";
import { createEventfd, drainEventfd, signalEventfd } from "../../src/sys/descriptors.ts";
import { PollSet } from "../../src/sys/poll.ts";
import { shutdownSocket, socketPair } from "../../src/sys/unix.ts";

const pollNval = 32;

describe("a poll set", () => {
  let first: number;
  let second: number;

  beforeEach(() => {
    first = createEventfd();
    second = createEventfd();
  });

  afterEach(() => {
    closeSync(first);
    closeSync(second);
  });

  it("says which of its descriptors are ready", () => {
    const set = new PollSet(4);
    expect([set.add(first, POLLIN), set.add(second, POLLIN)]).toEqual([0, 1]);
    expect(set.wait(0)).toBe(0);
    signalEventfd(second);
    expect(set.wait(-1)).toBe(1);
    expect([set.ready(0), set.ready(1)]).toEqual([0, POLLIN]);
    signalEventfd(first);
    expect(set.wait(-1)).toBe(2);
    drainEventfd(second);
    expect(set.wait(-1)).toBe(1);
    expect([set.ready(0), set.ready(1)]).toEqual([POLLIN, 0]);
  });

  it("waits for what it was asked for only", () => {
    const set = new PollSet(2);
    set.add(first, POLLOUT);
    set.add(second, POLLOUT | POLLIN);
    expect(set.wait(-1)).toBe(2);
    expect([set.ready(0), set.ready(1)]).toEqual([POLLOUT, POLLOUT]);
  });

  it("skips a place without a descriptor, and says what is wrong with a closed one", () => {
    const set = new PollSet(3);
    set.add(-1, POLLIN);
    expect(set.wait(0)).toBe(0);
    expect(set.ready(0)).toBe(0);
    set.add(19_999, POLLIN);
    expect(set.wait(0)).toBe(1);
    expect(set.ready(1)).toBe(pollNval);
  });

  it("says when the other end of a connection is gone", () => {
    const [near, far] = socketPair();
    const set = new PollSet(1);
    set.add(near, POLLIN);
    shutdownSocket(far);
    expect(set.wait(-1)).toBe(1);
    expect(set.ready(0) & (POLLIN | POLLHUP)).toBe(POLLIN | POLLHUP);
    closeSync(near);
    closeSync(far);
  });

  it("is full at its capacity, and begins anew when it is cleared", () => {
    const set = new PollSet(2);
    expect([set.add(first, POLLIN), set.add(second, POLLIN)]).toEqual([0, 1]);
    expect(set.add(first, POLLIN)).toBe(-1);
    expect(set.count).toBe(2);
    set.clear();
    expect(set.count).toBe(0);
    signalEventfd(first);
    expect(set.wait(0)).toBe(0);
    expect(set.add(first, POLLIN)).toBe(0);
    expect(set.wait(0)).toBe(1);
  });

  it("ends after its time-out", async () => {
    const set = new PollSet(1);
    set.add(first, POLLIN);
    expect(set.wait(1)).toBe(0);
    expect(await set.waitAsync(1)).toBe(0);
  });

  it("waits on the side while the event loop goes on", async () => {
    const set = new PollSet(1);
    set.add(first, POLLIN);
    const waiting = set.waitAsync(-1);
    await new Promise((resolve) => setImmediate(resolve));
    signalEventfd(first);
    expect(await waiting).toBe(1);
    expect(set.ready(0)).toBe(POLLIN);
  });
});
