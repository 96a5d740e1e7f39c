import { errno, errnoName } from "../base/errno.ts";
import type { RawClient, RawMessage, Received } from "../client/raw-client.ts";
import {
  deviceGetInfo,
  type HeaderChoice,
  message,
  type RawRequest,
} from "../client/raw-requests.ts";
import { commandName, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { POLLIN } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { describeMessage, Way } from "../wire/describe.ts";
import type { Proposal } from "../wire/negotiate.ts";
import { Mismatch } from "./case.ts";
import { expectEqual, expectThat } from "./expect.ts";
import type { Guest } from "./guest.ts";

const { mask } = HeaderFlags;
const poll = new PollSet(2);

/** A received message, or its absence, as a line. */
export function describeReceived(received: Received): string {
  if (received === "silence") return "nothing";
  if (received === "closed") return "the end of the connection";
  if (received === "garbled") return "a header with an impossible size";
  const whole = message(received, received);
  return describeMessage(Way.toClient, whole, received.fds.length);
}

/** What a reply must be, as a line. */
const wanted = (command: number, id: number, rest: string): string =>
  `${commandName(command)} #${id} ${rest}`;

/**
 * A client with an agreed version. It checks of every reply what the document says of all of them:
 * type, error flag, error number, message id, command and size.
 */
export class Peer {
  readonly client: RawClient;
  /** The socket for the server's commands; null when they share the main one. */
  twin: RawClient | null;
  /** What the server said in VERSION. */
  readonly server: Proposal;
  readonly #timeoutMs: number;
  readonly #fds: number[] = [];
  #nextId = 1;
  /** Answers the server's commands that come while a reply is awaited. */
  guest: Guest | null = null;
  /** Called for each command of the server instead of `guest`, which then answers nothing. */
  intercept: ((request: RawMessage, socket: RawClient) => void) | null = null;

  /** As `relayed` of the offer. */
  relayed = false;

  constructor(client: RawClient, twin: RawClient | null, server: Proposal, timeoutMs: number) {
    this.client = client;
    this.twin = twin;
    this.server = server;
    this.#timeoutMs = timeoutMs;
  }

  /** Sends a request with the next id and does not wait; returns the id. */
  post(request: RawRequest, fds: readonly number[] = [], choice: HeaderChoice = {}): number {
    const messageId = choice.messageId ?? this.#nextId;
    this.#nextId = (this.#nextId % 0xffff) + 1;
    const bytes = message(request, { ...choice, messageId });
    this.sendBytes(bytes, fds);
    return messageId;
  }

  /** Sends bytes as they are; the server must take them all in time. */
  sendBytes(bytes: Uint8Array, fds: readonly number[] = []): void {
    const sent = this.client.send(bytes, fds, this.#timeoutMs);
    if (sent < 0) throw new Mismatch("an open connection", errnoName(sent));
    expectEqual("bytes that the server took", sent, bytes.length);
  }

  /** The next message on the main socket that is no command of the server; those are answered. */
  receive(timeoutMs = this.#timeoutMs): Received {
    const deadline = performance.now() + timeoutMs;
    for (;;) {
      const left = Math.max(0, Math.ceil(deadline - performance.now()));
      const socket = this.#ready(left);
      if (socket === null) return "silence";
      const received = socket.receive(left);
      if (typeof received === "string") return received;
      this.#fds.push(...received.fds);
      if (socket === this.client && (received.flags & mask.type) !== MessageType.command) {
        return received;
      }
      this.#serve(received, socket);
    }
  }

  #ready(timeoutMs: number): RawClient | null {
    poll.clear();
    poll.add(this.client.fd, POLLIN);
    poll.add(this.twin?.fd ?? -1, POLLIN);
    if (poll.wait(timeoutMs) <= 0) return null;
    return this.twin !== null && poll.ready(1) !== 0 ? this.twin : this.client;
  }

  #serve(request: RawMessage, socket: RawClient): void {
    const place = this.twin === null ? this.client : this.twin;
    expectThat(socket === place, "commands of the server on the twin socket", "the main socket");
    if (this.intercept !== null) this.intercept(request, socket);
    else if (this.guest !== null) socket.send(this.guest.answer(request));
    else throw new Mismatch("no command of the server", describeReceived(request));
  }

  /** Serves the server's commands until `condition` holds; false when the time is over first. */
  serveUntil(condition: () => boolean): boolean {
    const deadline = performance.now() + this.#timeoutMs;
    while (!condition()) {
      const left = Math.ceil(deadline - performance.now());
      const socket = left > 0 ? this.#ready(left) : null;
      if (socket === null) return false;
      const received = socket.receive(left);
      if (typeof received === "string" || (received.flags & mask.type) !== 0) {
        throw new Mismatch("a command of the server", describeReceived(received));
      }
      this.#serve(received, socket);
    }
    return true;
  }

  /** The reply to the request with this id, whatever it says. */
  reply(command: number, messageId: number): RawMessage {
    const received = this.receive();
    if (typeof received === "string") {
      throw new Mismatch(wanted(command, messageId, "reply"), describeReceived(received));
    }
    const { flags } = received;
    const isReply = (flags & mask.type) === MessageType.reply;
    const fits = received.command === command && received.messageId === messageId;
    if (!isReply || !fits || (flags & ~(mask.type | mask.error)) !== 0) {
      throw new Mismatch(wanted(command, messageId, "reply"), describeReceived(received));
    }
    if ((flags & mask.error) === 0) expectEqual("error of a good reply", received.error, 0);
    else expectEqual("size of an error reply", received.messageSize, Header.size);
    return received;
  }

  /** Sends a request and returns its reply. */
  ask(request: RawRequest, fds: readonly number[] = [], choice: HeaderChoice = {}): RawMessage {
    return this.reply(request.command, this.post(request, fds, choice));
  }

  /** Sends a request that must succeed; its reply has exactly `payloadBytes` if they are given. */
  done(request: RawRequest, payloadBytes?: number, fds: readonly number[] = []): RawMessage {
    return this.#good(this.ask(request, fds), payloadBytes);
  }

  /** The good reply to a request that was posted. */
  doneAs(command: number, messageId: number, payloadBytes?: number): RawMessage {
    return this.#good(this.reply(command, messageId), payloadBytes);
  }

  #good(reply: RawMessage, payloadBytes?: number): RawMessage {
    const { command, messageId } = reply;
    if ((reply.flags & mask.error) !== 0) {
      throw new Mismatch(wanted(command, messageId, "ok"), describeReceived(reply));
    }
    const name = `payload bytes of the ${commandName(command)} reply`;
    if (payloadBytes !== undefined) expectEqual(name, reply.payload.length, payloadBytes);
    return reply;
  }

  /** Sends a request that must fail with this error, or one of these. */
  refused(
    request: RawRequest,
    error: number | readonly number[] = errno.EINVAL,
    fds: readonly number[] = [],
    choice: HeaderChoice = {},
  ): void {
    this.refusedAs(request.command, this.post(request, fds, choice), error);
  }

  /** The error reply to a request that was posted. */
  refusedAs(command: number, id: number, error: number | readonly number[] = errno.EINVAL): void {
    const reply = this.reply(command, id);
    const errors = typeof error === "number" ? [error] : error;
    const fits = (reply.flags & mask.error) !== 0 && errors.includes(reply.error);
    if (fits) return;
    const names = errors.map(errnoName).join(" or ");
    throw new Mismatch(wanted(command, id, `error ${names}`), describeReceived(reply));
  }

  /** Closes the twin socket and goes on with the main one. */
  dropTwin(): void {
    this.twin?.close();
    this.twin = null;
  }

  /** The connection still serves. */
  usable(): void {
    this.done(deviceGetInfo());
  }

  /** Closes the connection and every descriptor that came over it. */
  close(): void {
    for (const fd of this.#fds.splice(0)) closeFd(fd);
    this.twin?.close();
    this.client.close();
  }
}

/** A reply's payload, to read fields from. */
export const viewOf = ({ payload }: RawMessage): DataView =>
  new DataView(payload.buffer, payload.byteOffset, payload.length);
