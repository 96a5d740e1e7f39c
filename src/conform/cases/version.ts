import { errno } from "../../base/errno.ts";
import type { RawClient } from "../../client/raw-client.ts";
import {
  cut,
  deviceGetInfo,
  type HeaderChoice,
  message,
  proposal,
  type RawRequest,
  version,
} from "../../client/raw-requests.ts";
import { DeviceInfo } from "../../spec/vfio.ts";
import { Command, Header, HeaderFlags, MessageType, Version } from "../../spec/vfio-user.ts";
import { POLLHUP, POLLIN } from "../../sys/constants.ts";
import { versionReplyBytesMax } from "../../wire/negotiate.ts";
import { type CaseEntry, casesOf, Mismatch } from "../case.ts";
import { type Context, ourCapabilities, pause } from "../context.ts";
import { expectEqual, expectThat } from "../expect.ts";
import { describeReceived, type Peer } from "../peer.ts";

const text = (object: unknown): string => `${JSON.stringify(object)}\0`;

/** The server says EINVAL (or nothing, where it cannot say more) and closes the connection. */
function expectRefusal(client: RawClient, command: number, timeoutMs: number): void {
  const reply = client.receive(timeoutMs);
  if (typeof reply !== "string") {
    const { type, error } = HeaderFlags.mask;
    const isError = (reply.flags & (type | error)) === (MessageType.reply | error);
    const fits = isError && reply.error === errno.EINVAL && reply.command === command;
    if (!fits || reply.messageSize !== Header.size) {
      throw new Mismatch("error EINVAL in a header alone", describeReceived(reply));
    }
    const after = client.receive(timeoutMs);
    if (after !== "closed") throw new Mismatch("a closed connection", describeReceived(after));
  } else if (reply !== "closed") {
    throw new Mismatch("error EINVAL and a closed connection", describeReceived(reply));
  }
}

/** Sends a first message that no server can agree to. */
function refusedFirst(context: Context, request: RawRequest, choice: HeaderChoice = {}): void {
  const client = context.connect();
  client.send(message(request, { messageId: 9, ...choice }));
  expectRefusal(client, request.command, context.timeoutMs);
  client.close();
}

/** A case for each malformed capability text. */
function malformed(id: string, title: string, texts: readonly (string | Uint8Array)[]): CaseEntry {
  return {
    id,
    title: `${title}: EINVAL, and the connection is closed`,
    run(context) {
      for (const each of texts) refusedFirst(context, version(0, 1, each));
    },
  };
}

const badKey = (key: string, values: readonly unknown[]): string[] =>
  values.map((value) => text({ capabilities: { [key]: value } }));

/** The capability object of a reply, whose form is checked. */
function capabilitiesOf(reply: { payload: Uint8Array }): Record<string, unknown> {
  const bytes = reply.payload.subarray(Version.size);
  expectEqual("last byte of the capabilities", bytes.at(-1), 0);
  const parsed = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.slice(0, -1)));
  return (parsed as { capabilities?: Record<string, unknown> }).capabilities ?? {};
}

/** The reply to a VERSION that must be agreed to, on a connection of its own. */
function agreed(context: Context, request: RawRequest) {
  const deadline = performance.now() + context.timeoutMs;
  for (;;) {
    const client = context.connect();
    client.send(message(request, { messageId: 4 }));
    const reply = client.receive(context.timeoutMs);
    const busy = typeof reply !== "string" && reply.error === errno.EBUSY;
    if (typeof reply !== "string" && !busy) {
      expectEqual("flags of the VERSION reply", reply.flags, MessageType.reply);
      expectEqual("id of the VERSION reply", reply.messageId, 4);
      expectEqual("command of the VERSION reply", reply.command, Command.version);
      return { client, reply };
    }
    if (!busy || performance.now() > deadline) {
      throw new Mismatch("a VERSION reply", describeReceived(reply));
    }
    client.close();
    pause(5);
  }
}

/** Agrees, looks at the capabilities, and lets the connection go. */
function capabilitiesFor(context: Context, request: RawRequest): Record<string, unknown> {
  const { client, reply } = agreed(context, request);
  const found = capabilitiesOf(reply);
  for (const fd of reply.fds) context.adopt(fd);
  client.close();
  return found;
}

function expectMinor(context: Context, minor: number): void {
  const { client, reply } = agreed(context, version(0, minor, text({ capabilities: {} })));
  const view = new DataView(reply.payload.buffer, reply.payload.byteOffset);
  const came = Version.get(view, 0);
  expectEqual("major version", came.major, 0);
  expectThat(came.minor <= minor, `a minor version up to ${minor}`, came.minor);
  client.close();
}

const expectServes = (peer: Peer): void => peer.usable();

export const cases = casesOf(
  "version",
  "VFIO_USER_VERSION",
  [],
  [
    {
      id: "no-text",
      title: "the capabilities are optional; the reply has the server's, closed with a NUL",
      run(context) {
        const found = capabilitiesFor(context, version(0, 1));
        const { max_msg_fds: fds = 1, max_data_xfer_size: bytes = 1_048_576 } = found;
        expectThat(Number(fds) >= 1 && Number(fds) <= 1024, "a max_msg_fds from 1 to 1024", fds);
        expectThat(Number(bytes) > 0, "a max_data_xfer_size", bytes);
      },
    },
    {
      id: "empty-object",
      title: "capabilities may be missing, empty, or have names that nobody knows",
      run(context) {
        const strange = { surprise: [1, { a: null }], max_msg_fds: 1024 };
        for (const each of [{}, { capabilities: {} }, { more: 1, capabilities: strange }]) {
          capabilitiesFor(context, version(0, 1, text(each)));
        }
      },
    },
    {
      id: "minor",
      title: "the reply has the same major version and a minor one up to that proposed",
      run(context) {
        for (const minor of [0, 1, 2, 0xffff]) expectMinor(context, minor);
      },
    },
    {
      id: "reply-fits-qemu",
      title: "the reply fits the 214 bytes that QEMU has for it",
      run(context) {
        const asked = {
          migration: { pgsize: 4096, max_bitmap_size: 268_435_456 },
          ...ourCapabilities,
        };
        const { reply } = agreed(context, proposal(asked, 0));
        const fits = reply.messageSize <= versionReplyBytesMax;
        expectThat(fits, `at most ${versionReplyBytesMax} bytes`, reply.messageSize);
      },
    },
    {
      id: "nothing-unasked",
      title: "twin_socket and write_multiple are only offered to who asked, and no fd is sent",
      run(context) {
        const { client, reply } = agreed(context, proposal({ max_msg_fds: 8 }));
        const found = capabilitiesOf(reply);
        expectEqual("twin_socket", JSON.stringify(found["twin_socket"]), undefined);
        expectEqual("write_multiple", found["write_multiple"], undefined);
        expectEqual("descriptors with the reply", reply.fds.length, 0);
        client.close();
      },
    },
    {
      id: "twin",
      title: "a server that agrees to a twin socket sends it and names its index",
      run(context) {
        const { reply } = agreed(context, proposal({ twin_socket: { supported: true } }));
        const twin = capabilitiesOf(reply)["twin_socket"] as Record<string, unknown> | undefined;
        if (twin?.["supported"] !== true) return expectEqual("descriptors", reply.fds.length, 0);
        const index = Number(twin["fd_index"]);
        const fd = reply.fds[index];
        if (fd === undefined) throw new Mismatch("a descriptor at fd_index", String(index));
        const socket = context.adopt(fd);
        expectEqual("events of the twin socket", socket.wait(POLLIN | POLLHUP, 20), false);
      },
    },
    {
      id: "twin-refused",
      title: "supported: false, or no fd that a client takes, is no twin socket",
      run(context) {
        const refused = { twin_socket: { supported: false } };
        const unable = { max_msg_fds: 0, twin_socket: { supported: true } };
        for (const each of [refused, unable]) {
          const { client, reply } = agreed(context, proposal(each));
          const twin = capabilitiesOf(reply)["twin_socket"] as { supported?: boolean } | undefined;
          expectThat(twin?.supported !== true, "no twin socket", JSON.stringify(twin));
          expectEqual("descriptors with the reply", reply.fds.length, 0);
          client.close();
        }
      },
    },
    {
      id: "again",
      section: "Client Disconnection Behavior",
      title: "after a client has gone the next one is served",
      run(context) {
        for (let i = 0; i < 5; i++) {
          const peer = context.open();
          expectServes(peer);
          peer.close();
        }
      },
    },
    {
      id: "twice",
      title: "a second VERSION is refused and the connection goes on",
      run(context) {
        const peer = context.open();
        peer.refused(proposal(ourCapabilities));
        peer.done(deviceGetInfo(), DeviceInfo.size);
      },
    },
    {
      id: "no-payload",
      title: "VERSION without a version: EINVAL, and the connection is closed",
      run(context) {
        for (let length = 0; length < Version.size; length++) {
          refusedFirst(context, cut(version(0, 1), length));
        }
      },
    },
    {
      id: "too-large",
      title: "a VERSION above every limit is refused and the connection closed",
      run(context) {
        refusedFirst(context, version(0, 1), { messageSize: 1_048_576 + 33 });
        refusedFirst(context, version(0, 1), { messageSize: 0xffff_ffff });
      },
    },
    {
      id: "too-small",
      title: "a first message with an impossible size is refused and the connection closed",
      run(context) {
        for (const messageSize of [0, 15]) refusedFirst(context, version(0, 1), { messageSize });
      },
    },
    {
      id: "not-first",
      title: "a first message that is no VERSION is refused and the connection closed",
      run(context) {
        const { payload } = version(0, 1, text({}));
        refusedFirst(context, { command: 999, payload });
        refusedFirst(context, deviceGetInfo());
        refusedFirst(context, { command: Command.deviceReset, payload: new Uint8Array(0) });
      },
    },
    {
      id: "reply-first",
      title: "a first message that is a reply is refused and the connection closed",
      run(context) {
        refusedFirst(context, version(0, 1), { flags: MessageType.reply });
      },
    },
    {
      id: "major",
      title: "another major version is refused and the connection closed",
      run(context) {
        for (const major of [1, 999, 0xffff]) refusedFirst(context, version(major, 0, text({})));
      },
    },
    malformed("missing-nul", "capabilities without their NUL", ["{}", '{"capabilities":{}}']),
    malformed("bad-json", "capabilities that are no JSON object", [
      "{\0",
      '"\0',
      "[]\0",
      "null\0",
      Uint8Array.of(0x7b, 0xff, 0x7d, 0),
    ]),
    malformed("bad-capabilities", "capabilities of a wrong kind", [
      text({ capabilities: "23" }),
      text({ capabilities: [] }),
    ]),
    malformed("bad-max-msg-fds", "a bad max_msg_fds", badKey("max_msg_fds", ["foo", -1, 1025])),
    malformed(
      "bad-max-data-xfer-size",
      "a bad max_data_xfer_size",
      badKey("max_data_xfer_size", ["foo", -1, {}]),
    ),
    malformed(
      "bad-migration",
      "a bad migration capability",
      badKey("migration", ["23", { pgsize: "foo" }, { pgsize: 4095 }]),
    ),
    malformed(
      "bad-twin-socket",
      "a bad twin_socket",
      badKey("twin_socket", [true, { supported: "yes" }]),
    ),
  ],
);
