import { errno } from "../base/errno.ts";
import { Command, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { MSG_DONTWAIT } from "../sys/constants.ts";
import { parseVersion, versionBytesMax } from "../wire/negotiate.ts";

/** The longest first message that is waited for. */
const firstMessageBytesMax = Header.size + 4 + versionBytesMax;

/** What is known of a connection that has claimed no device yet. */
export const FirstMessage = {
  /** Not all of it is there. */
  partial: 0,
  /** A VERSION that can be agreed on, or at least answered by whoever serves the device. */
  version: 1,
  /** Something else; it was answered. */
  refused: 2,
  /** The client has gone. */
  gone: 3,
} as const;
export type FirstMessage = (typeof FirstMessage)[keyof typeof FirstMessage];

const arena = new Arena(firstMessageBytesMax);
const channel = new Channel(-1);

/** A connection that was accepted and has not said which version it speaks. */
export class Unclaimed {
  readonly fd: number;
  readonly deadlineMs: number;
  /** What was received so far; exactly the first message, once it is complete. */
  bytes = new Uint8Array(0);

  constructor(fd: number, deadlineMs: number) {
    this.fd = fd;
    this.deadlineMs = deadlineMs;
  }

  #view(): DataView {
    return new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.length);
  }

  /** How long the first message is; the header alone while that is not known. */
  #wanted(): number {
    if (this.bytes.length < Header.size) return Header.size;
    return this.#view().getUint32(Header.offset.messageSize, true);
  }

  /** Takes what has come, never a byte of the message behind. */
  receive(): FirstMessage {
    for (;;) {
      const missing = Math.min(this.#wanted(), firstMessageBytesMax) - this.bytes.length;
      if (missing <= 0) return this.#judge();
      channel.fd = this.fd;
      const received = channel.receive(arena.address, missing, MSG_DONTWAIT);
      if (received === -errno.EINTR) continue;
      if (received === -errno.EAGAIN) return FirstMessage.partial;
      if (received <= 0) return FirstMessage.gone;
      channel.closeReceived();
      this.#append(arena.bytes.subarray(0, received));
      if (this.#isHopeless()) return this.refuse(errno.EINVAL);
    }
  }

  #append(more: Uint8Array): void {
    const all = new Uint8Array(this.bytes.length + more.length);
    all.set(this.bytes);
    all.set(more, this.bytes.length);
    this.bytes = all;
  }

  /** True as soon as the header shows that no VERSION is coming. */
  #isHopeless(): boolean {
    if (this.bytes.length < Header.size) return false;
    const { command, messageSize, flags } = Header.get(this.#view(), 0);
    const isCommand = (flags & HeaderFlags.mask.type) === MessageType.command;
    const sizeFits = messageSize > Header.size && messageSize <= firstMessageBytesMax;
    return command !== Command.version || !isCommand || !sizeFits;
  }

  #judge(): FirstMessage {
    const proposal = parseVersion(this.bytes.subarray(Header.size));
    return typeof proposal === "number" ? this.refuse(-proposal) : FirstMessage.version;
  }

  /** Answers the first message with an error; the caller closes the connection. */
  refuse(error: number): FirstMessage {
    const reply = arena.view;
    Header.set(reply, 0, {
      ...Header.get(this.#view(), 0),
      messageSize: Header.size,
      flags: MessageType.reply | HeaderFlags.mask.error,
      error,
    });
    channel.fd = this.fd;
    channel.send(arena.address, Header.size, MSG_DONTWAIT);
    return FirstMessage.refused;
  }
}
