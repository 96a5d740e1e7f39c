/** Connections that claim nothing, half of something, or what somebody else has. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { RawClient } from "../../src/client/raw-client.ts";
import { message, proposal, version } from "../../src/client/raw-requests.ts";
import { ourCapabilities } from "../../src/conform/context.ts";
import { Header, HeaderFlags, MessageType } from "../../src/spec/vfio-user.ts";
import { anyRequest, patienceMs, survivor } from "./victim.ts";

/** Connections that have claimed nothing are closed when more than so many wait. */
const unclaimedMax = 8;
/** and after so long in any case, in milliseconds. */
const unclaimedMs = 5000;
const hello = message(proposal(ourCapabilities), { messageId: 3 });
const server = survivor("hello", [], 2);

const { reply } = MessageType;
const errorReply = reply | HeaderFlags.mask.error;

describe("a client that says nothing", () => {
  it("holds nobody up", () => {
    server.victim.context().connect();
    server.victim.use(0);
    server.victim.use(1);
  });

  it("or half a VERSION, cut anywhere, holds nobody up", () => {
    for (const length of [1, 4, 15, 16, 17, 20, hello.length - 1]) {
      const context = server.victim.context();
      const silent = context.connect();
      silent.send(hello.subarray(0, length));
      server.victim.use(0);
      context.end();
    }
  });

  it("may say the rest later and is served", () => {
    const context = server.victim.context();
    for (let at = 1; at < hello.length; at += 7) {
      const slow = context.connect();
      slow.send(hello.subarray(0, at));
      server.victim.use(1);
      slow.send(hello.subarray(at));
      expect(slow.receive(patienceMs)).toMatchObject({ command: 1, flags: reply });
      slow.close();
      server.victim.use(0);
    }
  });

  it("is sent away after a while", () => {
    const context = server.victim.context();
    const silent = [context.connect(), context.connect()];
    silent[1]?.send(hello.subarray(0, 30));
    for (const client of silent) expect(client.receive(unclaimedMs + patienceMs)).toBe("closed");
  });
});

describe("many clients that say nothing", () => {
  it("give way to those that come later, who are served", () => {
    const context = server.victim.context();
    const silent = Array.from({ length: 4 * unclaimedMax }, () => context.connect());
    server.victim.use(0);
    server.victim.use(1);
    const closed = silent.filter((client) => client.hungUp(0)).length;
    expect(closed).toBeGreaterThanOrEqual(3 * unclaimedMax);
  });

  it("cannot make the server hold more than a few descriptors", () => {
    const context = server.victim.context();
    const before = server.victim.openFds;
    for (let i = 0; i < 300; i++) context.connect();
    server.victim.use(1);
    const oneClient = 4;
    expect(server.victim.openFds).toBeLessThanOrEqual(before + unclaimedMax + oneClient);
  });

  it("and go at once leave nothing", () => {
    const context = server.victim.context();
    for (let i = 0; i < 300; i++) {
      const client = context.connect();
      if (i % 3 === 0) client.send(hello.subarray(0, i % hello.length));
      client.close();
    }
  });
});

describe("a second client of a device", () => {
  /** The answer to VERSION of somebody who comes too late. */
  function expectBusy(client: RawClient): void {
    expect(client.receive(patienceMs)).toMatchObject({
      messageId: 3,
      command: 1,
      flags: errorReply,
      error: errno.EBUSY,
      messageSize: Header.size,
    });
    expect(client.receive(patienceMs)).toBe("closed");
  }

  it("is told EBUSY and sent away, and the first one does not notice", () => {
    const context = server.victim.context();
    const first = context.open();
    for (let i = 0; i < 20; i++) {
      const second = context.connect();
      second.send(hello);
      expectBusy(second);
      second.close();
      first.done(anyRequest());
    }
  });

  it("with a bad VERSION is told EINVAL and sent away", () => {
    const context = server.victim.context();
    const first = context.open();
    for (const request of [version(7, 0), version(0, 0, "{"), anyRequest()]) {
      const second = context.connect();
      second.send(message(request));
      expect(second.receive(patienceMs)).toMatchObject({ flags: errorReply, error: errno.EINVAL });
      expect(second.receive(patienceMs)).toBe("closed");
    }
    first.done(anyRequest());
  });

  it("does not keep the device from whoever comes when the first one has gone", () => {
    const context = server.victim.context();
    const first = context.open();
    const waiting = Array.from({ length: unclaimedMax }, () => context.connect());
    first.close();
    const last = waiting.at(-1);
    last?.send(hello);
    expect(last?.receive(patienceMs)).toMatchObject({ flags: reply, error: 0 });
  });
});

describe("numbers in VERSION", () => {
  it.each([-1, 0, "1", null, 0.5, 2 ** 53, 1e300])("max_data_xfer_size %s is refused", (value) => {
    const client = server.victim.context().connect();
    client.send(message(proposal({ max_data_xfer_size: value })));
    expect(client.receive(patienceMs)).toMatchObject({ flags: errorReply, error: errno.EINVAL });
  });

  it.each([1, 3, 2 ** 32, 2 ** 53 - 1])("max_data_xfer_size %s is taken", (value) => {
    const peer = server.victim.context().open({ ...ourCapabilities, max_data_xfer_size: value });
    peer.done(anyRequest());
  });

  it("a text of any length up to the largest is answered, and longer ones are refused", () => {
    const context = server.victim.context();
    for (const length of [100, 8000, 16_000, 16_384, 16_385, 20_000, 1_000_000]) {
      const client = context.connect();
      const text = `{}${" ".repeat(length - 3)}\0`;
      client.send(message(version(0, 1, text)), [], 1000);
      const received = client.receive(patienceMs);
      const expected = length <= 16_384 ? { flags: reply } : { flags: errorReply };
      if (received !== "closed" || length <= 16_384) expect(received).toMatchObject(expected);
      client.close();
      server.victim.use(0);
    }
  });
});
