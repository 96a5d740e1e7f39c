import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { FerryError } from "../../src/base/errors.ts";
import { Connection } from "../../src/client/connection.ts";
import { dataXferBytesMax } from "../../src/client/connection-options.ts";
import { Command } from "../../src/spec/vfio-user.ts";
import { createEventfd } from "../../src/sys/descriptors.ts";
import { formatVersion, parseVersion } from "../../src/wire/negotiate.ts";
import { FakeServer, joined, openFds, serverLimits, words } from "./fake-server.ts";

/** Why a client does not take a server, as its error's code. */
function codeOf(attempt: () => unknown): string {
  try {
    attempt();
  } catch (thrown) {
    if (thrown instanceof FerryError) return thrown.code;
    throw thrown;
  }
  return "connected";
}

const text = (json: string): Uint8Array => new TextEncoder().encode(`${json}\0`);

describe("VERSION", () => {
  it("is the first message and says what this side can take", () => {
    const server = new FakeServer().agree();
    const connection = server.connect({ limits: { maxMsgFds: 3, maxDataXferSize: 65_536 } });
    const [version, ...more] = server.heard();
    expect(more).toEqual([]);
    expect(version).toMatchObject({ id: 1, command: Command.version, flags: 0, fds: [] });
    const proposal = parseVersion(version?.payload ?? new Uint8Array(0));
    expect(proposal).toMatchObject({
      minor: 1,
      limits: { maxMsgFds: 3, maxDataXferSize: 65_536, twinSocket: false, writeMultiple: true },
    });
    connection.close();
    server.close();
  });

  it("leaves the server's limits and the agreed minor version on the connection", () => {
    const server = new FakeServer();
    const limits = { ...serverLimits, maxMsgFds: 5, maxDataXferSize: 8192 };
    server.reply(1, Command.version, formatVersion(0, limits));
    const connection = server.connect();
    expect(connection.minor).toBe(0);
    expect(connection.server).toEqual(limits);
    expect(connection.dataBytesMax).toBe(8192);
    connection.close();
    server.close();
  });

  it("proposes the project's own extension only when it is asked to", () => {
    for (const precopyInfo of [false, true]) {
      const server = new FakeServer().agree();
      const connection = server.connect({ precopyInfo });
      const payload = server.heard()[0]?.payload ?? new Uint8Array(0);
      expect(parseVersion(payload)).toMatchObject({ limits: { precopyInfo } });
      expect(new TextDecoder().decode(payload).includes("vfio_ferry")).toBe(precopyInfo);
      connection.close();
      server.close();
    }
  });

  it("offers a twin socket only when it is asked to", () => {
    const [server, connection, twin] = FakeServer.twins();
    expect(connection.twinFd).toBeGreaterThan(2);
    connection.close();
    twin.close();
    server.close();
  });

  const refusals: ReadonlyArray<[what: string, code: string, script: (s: FakeServer) => void]> = [
    ["EBUSY", "device-busy", (s) => s.fail(1, Command.version, errno.EBUSY)],
    ["EINVAL", "negotiation-refused", (s) => s.fail(1, Command.version, errno.EINVAL)],
    ["a hang-up", "negotiation-failed", (s) => s.close()],
    ["another command", "negotiation-failed", (s) => s.reply(1, Command.deviceReset)],
    ["no payload", "negotiation-failed", (s) => s.reply(1, Command.version)],
    [
      "another major version",
      "negotiation-failed",
      (s) => s.reply(1, Command.version, joined(words(2, 1, 0), text("{}"))),
    ],
    [
      "a minor version above the proposed one",
      "negotiation-failed",
      (s) => s.reply(1, Command.version, joined(words(2, 0, 9), text("{}"))),
    ],
    [
      "a text that is not JSON",
      "negotiation-failed",
      (s) => s.reply(1, Command.version, joined(words(2, 0, 1), text("{"))),
    ],
    [
      "a size below a header's",
      "negotiation-failed",
      (s) => s.say({ id: 1, command: Command.version, size: 8 }),
    ],
    [
      "a size without bounds",
      "negotiation-failed",
      (s) => s.say({ id: 1, command: Command.version, size: 0xffff_ffff }),
    ],
  ];

  for (const [what, code, script] of refusals) {
    it(`answered with ${what} ends the attempt: ${code}`, () => {
      const before = openFds();
      const server = new FakeServer();
      script(server);
      expect(codeOf(() => server.connect())).toBe(code);
      if (what !== "a hang-up") server.close();
      expect(openFds()).toBe(before);
    });
  }

  it("not answered at all ends the attempt after the time-out", () => {
    const server = new FakeServer();
    expect(codeOf(() => server.connect({ timeoutMs: 5 }))).toBe("no-answer");
    server.close();
  });

  it("a reply that comes before the hang-up is still read", () => {
    const server = new FakeServer();
    server.fail(1, Command.version, errno.EBUSY);
    server.close();
    expect(codeOf(() => server.connect())).toBe("device-busy");
  });

  it("nobody at the path is a sentence", () => {
    expect(codeOf(() => Connection.connect("/nonexistent/socket"))).toBe("cannot-connect");
  });

  it("an offer that no buffer holds is refused here", () => {
    const server = new FakeServer();
    const limits = { maxDataXferSize: dataXferBytesMax + 1 };
    expect(codeOf(() => server.connect({ limits }))).toBe("transfer-too-large");
    server.close();
  });
});

describe("a twin socket", () => {
  const twin = { ...serverLimits, twinSocket: true };

  it("that is promised and not sent ends the attempt", () => {
    for (const promise of [undefined, { index: 0, fds: [] }]) {
      const before = openFds();
      const server = new FakeServer().agree(twin, promise);
      expect(codeOf(() => server.connect({ twinSocket: true }))).toBe("twin-missing");
      server.close();
      expect(openFds()).toBe(before);
    }
  });

  it("whose fd_index points past the descriptors ends the attempt and closes them", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const server = new FakeServer().agree(twin, { index: 1, fds: [eventfd] });
    expect(codeOf(() => server.connect({ twinSocket: true }))).toBe("twin-missing");
    server.close();
    expect(openFds()).toBe(before);
  });

  it("nobody asked for is closed", () => {
    const eventfd = createEventfd();
    const before = openFds();
    const server = new FakeServer().agree(twin, { index: 0, fds: [eventfd, eventfd] });
    const connection = server.connect();
    expect(connection.twinFd).toBe(-1);
    connection.close();
    server.close();
    expect(openFds()).toBe(before);
  });
});
