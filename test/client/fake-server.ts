/**
 * The other end of a client's socket, with a script for a mind: what it will answer is written
 * before the client asks, and what the client said is read afterwards. So one thread is enough, and
 * nothing depends on time. The client's message ids are 1, 2, 3 ...; VERSION is the first.
 */
import { readdirSync } from "node:fs";
import { Connection } from "../../src/client/connection.ts";
import type { ConnectionOptions } from "../../src/client/connection-options.ts";
import { Command, Header, HeaderFlags, MessageType } from "../../src/spec/vfio-user.ts";
import { Arena } from "../../src/sys/arena.ts";
import { Channel } from "../../src/sys/channel.ts";
import { MSG_DONTWAIT } from "../../src/sys/constants.ts";
import { socketPair } from "../../src/sys/unix.ts";
import { defaultLimits, formatVersion, type Limits } from "../../src/wire/negotiate.ts";

/** A message that the client has sent. */
export interface Said {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly error: number;
  readonly payload: Uint8Array;
  readonly fds: readonly number[];
}

/** A message of the server; what is not named is as it should be. */
export interface Line {
  readonly id: number;
  readonly command: number;
  readonly payload?: Uint8Array;
  readonly fds?: readonly number[];
  /** A reply unless this says so. */
  readonly isCommand?: boolean;
  readonly flags?: number;
  readonly error?: number;
  /** The size that the header tells, where it lies. */
  readonly size?: number;
}

export const serverLimits: Limits = { ...defaultLimits, maxMsgFds: 8, writeMultiple: true };
const none: Uint8Array = new Uint8Array(0);

/** Descriptors that this process has open. */
export const openFds = (): number => readdirSync("/proc/self/fd").length;

/** Bytes from little-endian words of a given width: `words(4, 1, 2)` is eight bytes. */
export function words(width: 2 | 4 | 8, ...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(width * values.length);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) {
    if (width === 2) view.setUint16(i * 2, value, true);
    else if (width === 4) view.setUint32(i * 4, value, true);
    else view.setBigUint64(i * 8, BigInt(value), true);
  }
  return bytes;
}

export function joined(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(parts.flatMap((part) => Array.from(part)));
}

/** A message as bytes. */
export function encode(line: Line): Uint8Array {
  const { payload = none, isCommand = false } = line;
  const bytes = new Uint8Array(Header.size + payload.length);
  const failed = line.error === undefined ? 0 : HeaderFlags.mask.error;
  Header.set(new DataView(bytes.buffer), 0, {
    messageId: line.id,
    command: line.command,
    messageSize: line.size ?? bytes.length,
    flags: (isCommand ? MessageType.command : MessageType.reply) | failed | (line.flags ?? 0),
    error: line.error ?? 0,
  });
  bytes.set(payload, Header.size);
  return bytes;
}

/** One end of a socket: writes messages as they are told, reads whole ones. */
export class Puppet {
  readonly #channel: Channel;
  readonly #arena = new Arena(4 * 1024 * 1024);
  #end = 0;
  #fds: Array<{ at: number; fds: number[] }> = [];

  constructor(fd: number) {
    this.#channel = new Channel(fd);
  }

  get fd(): number {
    return this.#channel.fd;
  }

  /** Sends bytes as they are. */
  raw(bytes: Uint8Array, fds: readonly number[] = []): void {
    const copy = new Arena(Math.max(bytes.length, 1));
    copy.bytes.set(bytes);
    const sent = this.#channel.sendWithFds(copy.address, bytes.length, fds, MSG_DONTWAIT);
    copy.free();
    if (sent !== bytes.length) throw new Error(`the script is too long: ${sent}`);
  }

  say(line: Line): void {
    this.raw(encode(line), line.fds);
  }

  reply(id: number, command: number, payload = none, fds: readonly number[] = []): void {
    this.say({ id, command, payload, fds });
  }

  fail(id: number, command: number, error: number, payload = none): void {
    this.say({ id, command, error, payload });
  }

  command(id: number, command: number, payload = none, fds: readonly number[] = []): void {
    this.say({ id, command, payload, fds, isCommand: true });
  }

  /** Every whole message that has come and was not read yet. */
  heard(): Said[] {
    for (;;) {
      const room = this.#arena.size - this.#end;
      const count = this.#channel.receive(this.#arena.address + this.#end, room, MSG_DONTWAIT);
      if (count <= 0) break;
      const fds = Array.from(this.#channel.receivedFds.subarray(0, this.#channel.receivedFdCount));
      if (fds.length > 0) this.#fds.push({ at: this.#end, fds });
      this.#end += count;
    }
    return this.#cut();
  }

  #cut(): Said[] {
    const said: Said[] = [];
    let at = 0;
    while (at + Header.size <= this.#end) {
      const header = Header.get(this.#arena.view, at);
      const next = at + header.messageSize;
      if (next > this.#end) break;
      const mine = this.#fds.filter((each) => each.at >= at && each.at < next);
      said.push({
        id: header.messageId,
        command: header.command,
        flags: header.flags,
        error: header.error,
        payload: this.#arena.bytes.slice(at + Header.size, next),
        fds: mine.flatMap(({ fds }) => fds),
      });
      at = next;
    }
    if (at !== this.#end) throw new Error("the client left a message half sent");
    this.#end = 0;
    this.#fds = [];
    return said;
  }

  /** Hangs up. */
  close(): void {
    this.#channel.close();
  }
}

/** A scripted server, and a client that is connected to it. */
export class FakeServer extends Puppet {
  readonly #clientFd: number;

  constructor() {
    const [clientFd, serverFd] = socketPair();
    super(serverFd);
    this.#clientFd = clientFd;
  }

  /** Answers VERSION with limits, and perhaps a twin socket. */
  agree(limits: Limits = serverLimits, twin?: { index: number; fds: readonly number[] }): this {
    const extra = twin === undefined ? {} : { twinFdIndex: twin.index };
    this.reply(1, Command.version, formatVersion(1, limits, extra), twin?.fds ?? []);
    return this;
  }

  /** The client's side, negotiated with what was scripted. */
  connect(options: ConnectionOptions = {}): Connection {
    return Connection.adopt(this.#clientFd, "the server", options);
  }

  /** The usual: a negotiated connection whose VERSION was heard. */
  static connected(options: ConnectionOptions = {}): [FakeServer, Connection] {
    const server = new FakeServer().agree();
    const connection = server.connect(options);
    server.heard();
    return [server, connection];
  }

  /** A negotiated connection with a twin socket, whose server end is the third. */
  static twins(options: ConnectionOptions = {}): [FakeServer, Connection, Puppet] {
    const [clientTwin, serverTwin] = socketPair();
    const server = new FakeServer();
    server.agree({ ...serverLimits, twinSocket: true }, { index: 0, fds: [clientTwin] });
    new Channel(clientTwin).close();
    const connection = server.connect({ ...options, twinSocket: true });
    server.heard();
    return [server, connection, new Puppet(serverTwin)];
  }
}
