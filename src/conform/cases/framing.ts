import { errno } from "../../base/errno.ts";
import { RawClient } from "../../client/raw-client.ts";
import {
  cut,
  deviceGetInfo,
  joined,
  message,
  type RawRequest,
  regionRead,
  regionWrite,
} from "../../client/raw-requests.ts";
import { DeviceInfo, PciRegion } from "../../spec/vfio.ts";
import { Command, Header, HeaderFlags, MessageType, RegionAccess } from "../../spec/vfio-user.ts";
import { closeFd } from "../../sys/descriptors.ts";
import { socketPair } from "../../sys/unix.ts";
import { memoryOf, readBytes } from "../actions.ts";
import { casesOf, Mismatch } from "../case.ts";
import { type Context, pause } from "../context.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { config, known, limited } from "../offer.ts";
import { describeReceived } from "../peer.ts";

const { noReply } = HeaderFlags.mask;
const empty = new Uint8Array(0);

/** Commands that are no client's to send, or nobody's. */
const strangers = [0, Command.version, Command.dmaRead, Command.dmaWrite, 14, 19, 999, 0xffff];

/** Every command of a client but DEVICE_RESET needs a payload. */
const withPayload = [
  Command.dmaMap,
  Command.dmaUnmap,
  Command.deviceGetInfo,
  Command.deviceGetRegionInfo,
  Command.deviceGetRegionIoFds,
  Command.deviceGetIrqInfo,
  Command.deviceSetIrqs,
  Command.regionRead,
  Command.regionWrite,
  Command.deviceFeature,
  Command.migDataRead,
  Command.migDataWrite,
];

/** A socket whose end is seen here when the server has closed the other one. */
function canary(context: Context): { here: RawClient; there: number } {
  const [here, there] = socketPair();
  return { here: context.keep(new RawClient(here)), there };
}

function expectClosed(context: Context, canaries: readonly RawClient[], what: string): void {
  for (const here of canaries) {
    expectThat(here.hungUp(context.timeoutMs), `${what} closed`, "still open");
  }
}

/** Two different requests whose replies cannot be taken for each other's. */
const one = (): RawRequest => deviceGetInfo();
const other = (): RawRequest => regionRead(PciRegion.config, 0, 4);

export const cases = casesOf(
  "framing",
  "Header",
  [],
  [
    {
      id: "id-echo",
      title: "a reply carries the command and the message id of its request",
      run(context) {
        const peer = context.open();
        for (const messageId of [0, 1, 0x7fff, 0xffff]) {
          peer.doneAs(Command.deviceGetInfo, peer.post(one(), [], { messageId }), DeviceInfo.size);
        }
      },
    },
    {
      id: "id-reuse",
      title: "an id may be used again, even while a request with it is outstanding",
      needs: [config],
      run(context) {
        const peer = context.open();
        peer.post(one(), [], { messageId: 7 });
        peer.post(other(), [], { messageId: 7 });
        peer.post(one(), [], { messageId: 7 });
        peer.doneAs(Command.deviceGetInfo, 7, DeviceInfo.size);
        peer.doneAs(Command.regionRead, 7, RegionAccess.size + 4);
        peer.doneAs(Command.deviceGetInfo, 7, DeviceInfo.size);
      },
    },
    {
      id: "reserved-error",
      title: "the error field of a command is reserved and not looked at",
      run(context) {
        const peer = context.open();
        const id = peer.post(one(), [], { error: 0xdead });
        peer.doneAs(Command.deviceGetInfo, id, DeviceInfo.size);
      },
    },
    {
      id: "too-small",
      title: "a size below the header's is EINVAL with the same id, and the connection goes on",
      run(context) {
        const peer = context.open();
        for (const messageSize of [15, 8, 0]) {
          const header = { command: Command.deviceGetInfo, payload: empty };
          peer.refusedAs(Command.deviceGetInfo, peer.post(header, [], { messageSize }));
          peer.usable();
        }
      },
    },
    {
      id: "too-large",
      title: "a message above every limit is EINVAL, and the stream stays in step behind its body",
      needs: [limited],
      run(context) {
        const peer = context.open();
        const bodyBytes = peer.server.limits.maxDataXferSize + 65_536;
        const request = { command: Command.regionWrite, payload: empty };
        const messageSize = Header.size + bodyBytes;
        peer.refusedAs(Command.regionWrite, peer.post(request, [], { messageSize }));
        peer.sendBytes(new Uint8Array(bodyBytes).fill(0x11));
        peer.usable();
      },
    },
    {
      id: "unsolicited-reply",
      title: "a reply that answers nothing is EINVAL",
      run(context) {
        const peer = context.open();
        const id = peer.post(one(), [], { flags: MessageType.reply });
        peer.refusedAs(Command.deviceGetInfo, id);
        peer.usable();
      },
    },
    {
      id: "unknown-type",
      title: "a message that is neither a command nor a reply is EINVAL",
      run(context) {
        const peer = context.open();
        for (const flags of [2, 15]) {
          peer.refusedAs(Command.deviceGetInfo, peer.post(one(), [], { flags }));
        }
        peer.usable();
      },
    },
    {
      id: "unknown-command",
      section: "Commands",
      title: "a command that a server does not know is EINVAL",
      run(context) {
        const peer = context.open();
        for (const command of strangers) {
          for (const length of [0, 1, 64]) {
            peer.refused({ command, payload: new Uint8Array(length) }, errno.EINVAL);
          }
        }
        peer.usable();
      },
    },
    {
      id: "no-payload",
      title: "only DEVICE_RESET may be a header alone",
      run(context) {
        const peer = context.open();
        for (const command of withPayload) peer.refused({ command, payload: empty });
        peer.usable();
      },
    },
    {
      id: "pipelined",
      section: "Command Concurrency",
      title: "many requests in one piece are answered one by one, in order",
      needs: [config],
      run(context) {
        const peer = context.open();
        const pieces: Uint8Array[] = [];
        for (let id = 1; id <= 200; id++) {
          pieces.push(message(id % 2 === 0 ? one() : other(), { messageId: id }));
        }
        peer.sendBytes(joined(...pieces));
        for (let id = 1; id <= 200; id++) {
          if (id % 2 === 0) peer.doneAs(Command.deviceGetInfo, id, DeviceInfo.size);
          else peer.doneAs(Command.regionRead, id, RegionAccess.size + 4);
        }
      },
    },
    {
      id: "pipelined-large",
      section: "Command Concurrency",
      title:
        "requests with large replies in one piece are all answered without any more being sent",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset, size } = memoryOf(context.offer);
        const count = Math.min(size, 60_000);
        const read = regionRead(region, offset, count);
        const ids = [1, 2, 3, 4, 5, 6, 7, 8];
        peer.sendBytes(joined(...ids.map((messageId) => message(read, { messageId }))));
        for (const id of ids) peer.doneAs(Command.regionRead, id, RegionAccess.size + count);
      },
    },
    {
      id: "unread-replies",
      section: "Command Concurrency",
      title: "replies that a client reads late are all there",
      needs: [config],
      run(context) {
        const peer = context.open();
        const bytes = message(regionRead(PciRegion.config, 0, 256), { messageId: 5 });
        let sent = 0;
        for (let i = 0; i < 100_000 && sent % bytes.length === 0; i++) {
          const taken = peer.client.send(bytes, [], 50);
          if (taken <= 0) break;
          sent += taken;
        }
        const whole = Math.floor(sent / bytes.length);
        for (let i = 0; i < whole; i++) peer.doneAs(Command.regionRead, 5, RegionAccess.size + 256);
      },
    },
    {
      id: "split",
      title: "a request may come in any two pieces",
      run(context) {
        const peer = context.open();
        const bytes = message(one(), { messageId: 3 });
        for (let at = 1; at < bytes.length; at++) {
          peer.sendBytes(bytes.subarray(0, at));
          pause(1);
          peer.sendBytes(bytes.subarray(at));
          peer.doneAs(Command.deviceGetInfo, 3, DeviceInfo.size);
        }
      },
    },
    {
      id: "byte-by-byte",
      title: "two requests may come byte by byte",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        const data = Uint8Array.from({ length: 20 }, (_, i) => 200 - i);
        const write = message(regionWrite(region, offset, data), { messageId: 1 });
        const read = message(regionRead(region, offset, 20), { messageId: 2 });
        for (const byte of joined(write, read)) peer.sendBytes(Uint8Array.of(byte));
        peer.doneAs(Command.regionWrite, 1, RegionAccess.size);
        const reply = peer.doneAs(Command.regionRead, 2, RegionAccess.size + 20);
        expectBytes("data", reply.payload.subarray(RegionAccess.size), data);
      },
    },
    {
      id: "joined-unevenly",
      title: "a piece may hold the end of one request and the start of the next",
      needs: [config],
      run(context) {
        const peer = context.open();
        const stream = joined(message(one(), { messageId: 1 }), message(other(), { messageId: 2 }));
        for (const at of [16, 24, 31, 33, 40, 48, 63]) {
          peer.sendBytes(stream.subarray(0, at));
          pause(1);
          peer.sendBytes(stream.subarray(at));
          peer.doneAs(Command.deviceGetInfo, 1, DeviceInfo.size);
          peer.doneAs(Command.regionRead, 2, RegionAccess.size + 4);
        }
      },
    },
    {
      id: "no-reply",
      title: "No_reply: there is none, neither to what works nor to what fails",
      run(context) {
        const peer = context.open();
        peer.post(one(), [], { flags: noReply });
        peer.post(cut(one(), 8), [], { flags: noReply });
        peer.post({ command: 999, payload: empty }, [], { flags: noReply });
        const id = peer.post(one());
        peer.doneAs(Command.deviceGetInfo, id, DeviceInfo.size);
        const more = peer.receive(50);
        if (more !== "silence") throw new Mismatch("nothing more", describeReceived(more));
      },
    },
    {
      id: "no-reply-order",
      section: "Command Concurrency",
      title: "what was asked without a reply is done before a later request is answered",
      needs: [known],
      run(context) {
        const peer = context.open();
        const { region, offset } = memoryOf(context.offer);
        for (let value = 1; value <= 50; value++) {
          const data = new Uint8Array(8).fill(value);
          peer.post(regionWrite(region, offset, data), [], { flags: noReply });
          expectBytes("data", readBytes(peer, region, offset, 8), data);
        }
      },
    },
    {
      id: "unwanted-fds",
      section: "VFIO_USER_VERSION",
      title: "descriptors with a command that takes none are closed, and the command is served",
      run(context) {
        const peer = context.open();
        const canaries = [canary(context), canary(context)];
        peer.done(
          one(),
          DeviceInfo.size,
          canaries.map(({ there }) => there),
        );
        for (const { there } of canaries) closeFd(there);
        const here = canaries.map((each) => each.here);
        expectClosed(context, here, "an unwanted descriptor");
      },
    },
    {
      id: "too-many-fds",
      section: "VFIO_USER_VERSION",
      title: "more descriptors than max_msg_fds are EINVAL, and all are closed",
      run(context) {
        const peer = context.open();
        const count = peer.server.limits.maxMsgFds + 1;
        const { here, there } = canary(context);
        const id = peer.post(one(), Array<number>(Math.min(count, 253)).fill(there));
        closeFd(there);
        peer.refusedAs(Command.deviceGetInfo, id);
        expectClosed(context, [here], "a surplus descriptor");
        peer.usable();
      },
    },
    {
      id: "error-reply-size",
      title: "an error reply is the header alone, also when the command reached the device",
      needs: [config],
      run(context) {
        const peer = context.open();
        const { config: index } = PciRegion;
        peer.refused(regionRead(index, context.offer.regions[index]?.size ?? 0, 8));
        peer.refused(regionWrite(index, 0xffff_fff0, new Uint8Array(8)));
        peer.refused({ command: 999, payload: new Uint8Array(100) });
        expectEqual("messages left", describeReceived(peer.receive(20)), "nothing");
      },
    },
  ],
);
