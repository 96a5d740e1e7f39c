import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { Connection } from "../../src/client/connection.ts";
import { fdsPendingMax } from "../../src/client/link.ts";
import { outstandingMax } from "../../src/client/outstanding.ts";
import { Command, HeaderFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd } from "../../src/sys/descriptors.ts";
import { encode, FakeServer, openFds, words } from "./fake-server.ts";

const { deviceGetInfo, deviceReset, regionRead, dmaUnmap } = Command;

/** Asks with an empty payload and takes at most `replyBytesMax` back. */
function ask(connection: Connection, command: Command, replyBytesMax: number): number {
  const prepared = connection.prepare(0);
  return prepared < 0 ? prepared : connection.call(command, 0, replyBytesMax);
}

function send(connection: Connection, command: Command, replyBytesMax = 16): number {
  expect(connection.prepare(0)).toBe(0);
  return connection.send(command, 0, replyBytesMax);
}

const payloadOf = (connection: Connection): number[] =>
  Array.from(
    connection.replyBytes.subarray(connection.replyAt, connection.replyAt + connection.replyLength),
  );

describe("a reply", () => {
  it("is the result of its request: the payload's length, and the payload", () => {
    const [server, connection] = FakeServer.connected();
    server.reply(2, deviceGetInfo, words(4, 16, 3, 9, 5));
    expect(ask(connection, deviceGetInfo, 16)).toBe(16);
    expect(payloadOf(connection)).toEqual(Array.from(words(4, 16, 3, 9, 5)));
    expect(server.heard()).toMatchObject([{ id: 2, command: deviceGetInfo, flags: 0 }]);
    connection.close();
    server.close();
  });

  it("with the error flag is the server's errno, with and without a payload", () => {
    const [server, connection] = FakeServer.connected();
    server.fail(2, deviceReset, errno.EIO);
    server.fail(3, deviceReset, errno.EPERM, words(8, 1, 2, 3));
    server.fail(4, deviceReset, 48_879);
    server.fail(5, deviceReset, 0);
    server.reply(6, deviceReset);
    expect(ask(connection, deviceReset, 0)).toBe(-errno.EIO);
    expect(ask(connection, deviceReset, 0)).toBe(-errno.EPERM);
    expect(ask(connection, deviceReset, 0)).toBe(-48_879);
    expect(ask(connection, deviceReset, 0)).toBe(-errno.EIO);
    expect(ask(connection, deviceReset, 0)).toBe(0);
    connection.close();
    server.close();
  });

  it("longer than was asked for is EPROTO, and the next one is found behind it", () => {
    const [server, connection] = FakeServer.connected();
    server.reply(2, regionRead, new Uint8Array(40));
    server.reply(3, deviceGetInfo, words(4, 1, 2, 3, 4));
    expect(ask(connection, regionRead, 20)).toBe(-errno.EPROTO);
    expect(ask(connection, deviceGetInfo, 16)).toBe(16);
    expect(connection.failure).toBeNull();
    connection.close();
    server.close();
  });

  it("may come in any pieces", () => {
    const [server, connection] = FakeServer.connected({ timeoutMs: 10_000 });
    const bytes = encode({ id: 2, command: deviceGetInfo, payload: words(4, 7, 8) });
    for (const byte of bytes) server.raw(Uint8Array.of(byte));
    expect(ask(connection, deviceGetInfo, 16)).toBe(8);
    expect(payloadOf(connection)).toEqual(Array.from(words(4, 7, 8)));
    connection.close();
    server.close();
  });
});

describe("replies to several requests", () => {
  it("are matched by id, whatever order they come and are awaited in", () => {
    const [server, connection] = FakeServer.connected();
    const ids = [0, 1, 2, 3].map(() => send(connection, deviceGetInfo));
    expect(ids).toEqual([2, 3, 4, 5]);
    expect(connection.outstanding).toBe(4);
    for (const id of [4, 5, 2, 3]) server.reply(id, deviceGetInfo, words(4, id * 100));
    for (const id of [5, 2, 3, 4]) {
      expect(connection.wait(id)).toBe(4);
      expect(payloadOf(connection)).toEqual(Array.from(words(4, id * 100)));
    }
    expect(connection.outstanding).toBe(0);
    connection.close();
    server.close();
  });

  it("keep their own errors when they are put aside", () => {
    const [server, connection] = FakeServer.connected();
    const first = send(connection, deviceGetInfo, 8);
    const second = send(connection, dmaUnmap, 24);
    const third = send(connection, deviceReset, 0);
    server.reply(first, deviceGetInfo, new Uint8Array(64));
    server.fail(second, dmaUnmap, errno.ENOENT);
    server.reply(third, deviceReset);
    expect(connection.wait(third)).toBe(0);
    expect(connection.wait(second)).toBe(-errno.ENOENT);
    expect(connection.wait(first)).toBe(-errno.EPROTO);
    connection.close();
    server.close();
  });

  it("an id is not used again while its reply is out, and there is a limit", () => {
    const [server, connection] = FakeServer.connected();
    let heard = 0;
    const ids = Array.from({ length: outstandingMax }, () => {
      const id = send(connection, deviceReset, 0);
      heard += server.heard().length;
      return id;
    });
    expect(heard).toBe(outstandingMax);
    expect(new Set(ids).size).toBe(outstandingMax);
    expect(connection.prepare(0)).toBe(0);
    expect(connection.send(deviceReset, 0, 0)).toBe(-errno.EBUSY);
    expect(connection.post(deviceReset, 0)).toBe(-errno.EBUSY);
    const answered = ids[500] as number;
    server.reply(answered, deviceReset);
    expect(connection.wait(answered)).toBe(0);
    expect(send(connection, deviceReset, 0)).toBe(answered);
    expect(server.heard()).toMatchObject([{ id: answered }]);
    connection.close();
    server.close();
  });

  it("a posted request wants none, and says so", () => {
    const [server, connection] = FakeServer.connected();
    expect(connection.prepare(0)).toBe(0);
    expect(connection.post(deviceReset, 0)).toBe(0);
    expect(connection.outstanding).toBe(0);
    const { noReply } = HeaderFlags.mask;
    expect(server.heard()).toMatchObject([{ command: deviceReset, flags: noReply }]);
    connection.close();
    server.close();
  });
});

describe("a reply that nobody asked for", () => {
  it("is dropped with its descriptors, and the right one is waited for", () => {
    const [server, connection] = FakeServer.connected();
    const eventfd = createEventfd();
    const before = openFds();
    server.reply(999, deviceReset, words(4, 1), [eventfd, eventfd]);
    server.reply(60_000, deviceReset);
    server.reply(2, deviceReset);
    expect(ask(connection, deviceReset, 0)).toBe(0);
    expect(connection.strayReplies).toBe(2);
    expect(openFds()).toBe(before);
    closeFd(eventfd);
    connection.close();
    server.close();
  });

  it("because its time had passed is dropped too, and its id is free again only then", () => {
    const [server, connection] = FakeServer.connected({ timeoutMs: 5 });
    expect(ask(connection, deviceReset, 0)).toBe(-errno.ETIMEDOUT);
    expect(connection.outstanding).toBe(1);
    server.fail(2, deviceReset, errno.EIO);
    server.reply(3, deviceGetInfo, words(4, 5));
    expect(ask(connection, deviceGetInfo, 16)).toBe(4);
    expect(connection.strayReplies).toBe(1);
    expect(connection.outstanding).toBe(0);
    expect(connection.failure).toBeNull();
    connection.close();
    server.close();
  });
});

describe("the end of a connection", () => {
  /** A script that breaks the connection, and a word of why. */
  const ends: ReadonlyArray<[what: string, why: RegExp, script: (s: FakeServer) => void]> = [
    ["a hang-up", /closed/, (s) => s.close()],
    [
      "a hang-up inside of a header",
      /closed/,
      (s) => {
        s.raw(Uint8Array.of(2, 0, 13));
        s.close();
      },
    ],
    [
      "a hang-up inside of a payload",
      /closed/,
      (s) => {
        s.say({ id: 2, command: deviceReset, size: 64 });
        s.close();
      },
    ],
    [
      "an answer to another command",
      /DEVICE_RESET with REGION_READ/,
      (s) => s.reply(2, regionRead),
    ],
    ["a size below a header's", /of 15 bytes/, (s) => s.say({ id: 2, command: 13, size: 15 })],
    [
      "a size above every limit",
      /of 1073741824 bytes/,
      (s) => s.say({ id: 2, command: 13, size: 2 ** 30 }),
    ],
  ];

  for (const [what, why, script] of ends) {
    it(`${what} is ENOTCONN, and stays so`, () => {
      const before = openFds();
      const [server, connection] = FakeServer.connected();
      script(server);
      expect(ask(connection, deviceReset, 0)).toBe(-errno.ENOTCONN);
      expect(connection.failure).toMatch(why);
      expect(ask(connection, deviceReset, 0)).toBe(-errno.ENOTCONN);
      expect(connection.post(deviceReset, 0)).toBe(-errno.ENOTCONN);
      expect(connection.poll()).toBe(-errno.ENOTCONN);
      connection.close();
      connection.close();
      expect(ask(connection, deviceReset, 0)).toBe(-errno.ENOTCONN);
      if (!what.startsWith("a hang-up")) server.close();
      expect(openFds()).toBe(before);
    });
  }

  it("replies that were there before the hang-up still count", () => {
    const [server, connection] = FakeServer.connected();
    const ids = [send(connection, deviceReset, 0), send(connection, deviceReset, 0)];
    for (const id of ids) server.reply(id, deviceReset);
    server.close();
    for (const id of ids) expect(connection.wait(id)).toBe(0);
    expect(connection.wait(send(connection, deviceReset, 0))).toBe(-errno.ENOTCONN);
    connection.close();
  });
});

describe("descriptors of a reply", () => {
  it("are the caller's when it takes them; the surplus is closed", () => {
    const [server, connection] = FakeServer.connected();
    const eventfd = createEventfd();
    const before = openFds();
    server.reply(2, deviceReset, new Uint8Array(0), [eventfd, eventfd, eventfd]);
    expect(ask(connection, deviceReset, 0)).toBe(0);
    expect(openFds()).toBe(before + 3);
    const taken = connection.takeFds(1);
    expect(taken).toHaveLength(1);
    expect(connection.takeFds(1)).toEqual([]);
    expect(openFds()).toBe(before + 1);
    for (const fd of [...taken, eventfd]) closeFd(fd);
    connection.close();
    server.close();
  });

  it("are closed with the next request when nobody takes them", () => {
    const [server, connection] = FakeServer.connected();
    const eventfd = createEventfd();
    const before = openFds();
    server.reply(2, deviceReset, new Uint8Array(0), [eventfd]);
    server.reply(3, deviceReset);
    ask(connection, deviceReset, 0);
    ask(connection, deviceReset, 0);
    expect(openFds()).toBe(before);
    closeFd(eventfd);
    connection.close();
    server.close();
  });

  it("that were put aside are closed with the connection", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const [server, connection] = FakeServer.connected();
    send(connection, deviceReset, 0);
    const second = send(connection, deviceReset, 0);
    server.reply(2, deviceReset, new Uint8Array(0), [eventfd, eventfd]);
    server.reply(second, deviceReset);
    expect(connection.wait(second)).toBe(0);
    connection.close();
    server.close();
    expect(openFds()).toBe(before);
    closeFd(eventfd);
  });

  it("in any number end the connection, and none stays open", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const [server, connection] = FakeServer.connected();
    const fds = Array.from({ length: 250 }, () => eventfd);
    server.raw(encode({ id: 2, command: deviceReset, size: 4096 }).subarray(0, 16), fds);
    for (let i = 0; i * 250 < fdsPendingMax; i++) server.raw(Uint8Array.of(0), fds);
    expect(ask(connection, deviceReset, 4096)).toBe(-errno.ENOTCONN);
    expect(connection.failure).toMatch(/descriptors/);
    connection.close();
    server.close();
    expect(openFds()).toBe(before);
    closeFd(eventfd);
  });
});
