import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { type Command, commandName, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { MSG_DONTWAIT } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { connectUnix } from "../sys/unix.ts";
import { Frame } from "../wire/framer.ts";
import { defaultLimits, type Limits } from "../wire/negotiate.ts";
import {
  type ConnectionOptions,
  clientLimits,
  dataXferBytesMax,
  messageHeadBytesMax,
} from "./connection-options.ts";
import { handshake } from "./handshake.ts";
import { Link } from "./link.ts";
import { Outstanding, RequestState } from "./outstanding.ts";
import { type DmaPort, noMemory, serveCommand } from "./server-command.ts";
import { type IrqPort, serveInterrupts } from "./server-interrupts.ts";
import { Sockets } from "./sockets.ts";

const noFds: readonly number[] = [];
const nobody = -1;

/**
 * A connection to a vfio-user server, from the client's side. Requests are built in place:
 * `prepare` names where the payload goes in `requestBytes`, `call` sends it and waits, and the
 * reply lies in `replyBytes` until the next call. While it waits, it serves the server's DMA
 * messages. Results are lengths of payloads or negated errnos; after the first failure of the
 * connection itself everything is ENOTCONN, and `failure` says why.
 */
export class Connection {
  /** What this side can take. */
  readonly ours: Limits;
  /** What the server can take; the defaults until it has said so. */
  server: Limits = defaultLimits;
  /** The minor version that both speak. */
  minor = 0;
  /** Who holds the memory that the server asks for. */
  dma: DmaPort = noMemory;
  /** Who hears of interrupts that come as messages; null when nobody does. */
  irqs: IrqPort | null = null;
  /** Replies that nobody had asked for, or not any more; they are dropped. */
  strayReplies = 0;
  /** Commands of the server that were answered, DMA messages most of all. */
  commandsServed = 0;

  /** Where a request's payload is built, from `requestAt` on. */
  readonly requestBytes: Uint8Array<ArrayBuffer>;
  readonly requestView: DataView<ArrayBuffer>;
  readonly requestAt: number = Header.size;
  /** Where the last reply's payload lies: `replyLength` bytes from `replyAt`. */
  replyBytes: Uint8Array<ArrayBuffer>;
  replyView: DataView<ArrayBuffer>;
  replyAt = 0;
  replyLength = 0;

  readonly #main: Link;
  readonly #sockets: Sockets;
  readonly #timeoutMs: number;
  readonly #outstanding = new Outstanding();
  readonly #messageBytesMax: number;
  #replyFds: readonly number[] = noFds;
  #deadline = 0;
  #result = 0;
  #closed = false;

  /**
   * Takes over a connected socket without saying anything yet; {@link Connection.adopt} negotiates.
   */
  constructor(fd: number, options: ConnectionOptions = {}) {
    const { twinSocket = false, precopyInfo = false, remote = false } = options;
    const own = { twinSocket, precopyInfo, irqMessages: remote };
    this.ours = { ...clientLimits, ...options.limits, ...own, ...(remote ? { maxMsgFds: 0 } : {}) };
    if (this.ours.maxDataXferSize > dataXferBytesMax) {
      throw new FerryError(
        "transfer-too-large",
        `max_data_xfer_size ${this.ours.maxDataXferSize} exceeds ${dataXferBytesMax}.`,
      );
    }
    this.#timeoutMs = options.timeoutMs ?? 0;
    this.#messageBytesMax = this.ours.maxDataXferSize + messageHeadBytesMax;
    this.#main = new Link(fd, this.#messageBytesMax);
    this.#sockets = new Sockets(this.#main);
    this.requestBytes = this.#main.outgoing.bytes;
    this.requestView = this.#main.outgoing.view;
    this.replyBytes = this.#main.incoming.bytes;
    this.replyView = this.#main.incoming.view;
  }

  /** Connects to a socket path and negotiates; a {@link FerryError} says why it cannot be. */
  static connect(path: string, options: ConnectionOptions = {}): Connection {
    const fd = connectUnix(path);
    if (fd < 0) {
      throw new FerryError(
        "cannot-connect",
        `cannot connect to ${path}: ${errnoName(fd)}. Is a server listening there?`,
      );
    }
    return Connection.adopt(fd, path, options);
  }

  /** Negotiates on a connected socket, which it owns from here on; `peer` names it in errors. */
  static adopt(fd: number, peer: string, options: ConnectionOptions = {}): Connection {
    let connection: Connection | null = null;
    try {
      connection = new Connection(fd, options);
      handshake(connection, peer, options.minor);
      return connection;
    } catch (thrown) {
      if (connection === null) closeFd(fd);
      else connection.close();
      throw thrown;
    }
  }

  /** Why the connection broke; null while it stands. */
  get failure(): string | null {
    return this.#sockets.failure;
  }

  /** Ends the connection for a reason, and stays to be closed: ENOTCONN. */
  fail(reason: string): number {
    return this.#sockets.break(reason);
  }

  /** Bytes of data that one message may carry both ways. */
  get dataBytesMax(): number {
    return Math.min(this.server.maxDataXferSize, this.ours.maxDataXferSize);
  }

  get fd(): number {
    return this.#main.channel.fd;
  }

  /** The twin socket, or -1. */
  get twinFd(): number {
    return this.#sockets.twin?.channel.fd ?? -1;
  }

  /** Requests without a reply. */
  get outstanding(): number {
    return this.#outstanding.count;
  }

  /** From now on the server's commands come on a socket of their own, which the connection owns. */
  adoptTwin(fd: number): void {
    this.#sockets.twin = new Link(fd, this.#messageBytesMax);
  }

  /**
   * Makes room for a request; its payload of `length` bytes goes to `requestAt` of `requestBytes`.
   * 0, E2BIG when no message can be that long, or ENOTCONN.
   */
  prepare(length: number): number {
    if (this.failure !== null) return -errno.ENOTCONN;
    if (length > this.#messageBytesMax - Header.size) return -errno.E2BIG;
    this.#startClock();
    if (this.#main.unsent) {
      const drained = this.#drain();
      if (drained < 0) return drained;
    }
    this.#main.reserve(Header.size + length);
    return 0;
  }

  /**
   * Sends the prepared request and waits for its reply: the length of its payload, which is at most
   * `replyBytesMax`, or a negated errno: the server's own, EPROTO for a longer reply, ETIMEDOUT.
   */
  call(command: Command, length: number, replyBytesMax: number, fds = noFds): number {
    const id = this.send(command, length, replyBytesMax, fds);
    return id < 0 ? id : this.wait(id);
  }

  /**
   * Sends the prepared request without waiting: its id, to be given to `wait`, or a negated errno.
   */
  send(command: Command, length: number, replyBytesMax: number, fds = noFds): number {
    if (this.failure !== null) return -errno.ENOTCONN;
    const id = this.#outstanding.take(command, replyBytesMax);
    if (id < 0) return id;
    const sent = this.#transmit(id, command, 0, length, fds);
    return sent < 0 ? sent : id;
  }

  /** Sends the prepared request as one that is not replied to: 0 or a negated errno. */
  post(command: Command, length: number): number {
    if (this.failure !== null) return -errno.ENOTCONN;
    const id = this.#outstanding.take(command, 0);
    if (id < 0) return id;
    const sent = this.#transmit(id, command, HeaderFlags.mask.noReply, length, noFds);
    this.#outstanding.release(id);
    return sent;
  }

  #startClock(): void {
    if (this.#timeoutMs > 0) this.#deadline = performance.now() + this.#timeoutMs;
  }

  #transmit(
    id: number,
    command: number,
    flags: number,
    length: number,
    fds: readonly number[],
  ): number {
    const view = this.requestView;
    view.setUint16(Header.offset.messageId, id, true);
    view.setUint16(Header.offset.command, command, true);
    view.setUint32(Header.offset.messageSize, Header.size + length, true);
    view.setUint32(Header.offset.flags, MessageType.command | flags, true);
    view.setUint32(Header.offset.error, 0, true);
    if (fds.length === 0) this.#main.queue(Header.size + length);
    else this.#main.queueWithFds(Header.size + length, fds);
    return this.#drain();
  }

  /** Waits for the reply of a request that was sent; the result is that of `call`. */
  wait(id: number): number {
    this.#closeReplyFds();
    this.#startClock();
    for (;;) {
      if (this.#outstanding.state(id) === RequestState.arrived) return this.#takeKept(id);
      if (this.#sockets.twin !== null) this.#parse(this.#sockets.twin, nobody);
      if (this.#parse(this.#main, id)) return this.#result;
      if (this.failure !== null) return -errno.ENOTCONN;
      const moved = this.#sockets.unsent ? this.#drain() : this.#sockets.receive(this.#deadline);
      if (moved === -errno.ETIMEDOUT) {
        if (this.ours.irqMessages) return this.fail("the server did not answer in time");
        this.#outstanding.abandon(id);
        return moved;
      }
    }
  }

  /**
   * Sends what is queued and takes in what comes meanwhile, so that no two sends block each other.
   */
  #drain(): number {
    for (;;) {
      const flushed = this.#sockets.flush();
      if (flushed !== -errno.EAGAIN) return flushed;
      const moved = this.#sockets.exchange(this.#deadline);
      if (moved === -errno.ETIMEDOUT) {
        return this.#sockets.break("the server took no bytes before the time-out");
      }
      if (moved < 0) return moved;
      this.#parseAll();
    }
  }

  #parseAll(): void {
    this.#parse(this.#main, nobody);
    const { twin } = this.#sockets;
    if (twin !== null) this.#parse(twin, nobody);
  }

  /**
   * Takes the messages that are there: serves commands, puts replies aside. True as soon as the
   * reply of `wanted` is there; then `#result` and the reply's place are set, and the buffer stays
   * as it is.
   */
  #parse(link: Link, wanted: number): boolean {
    while (this.failure === null && link.roomy) {
      if (!this.#nextMessage(link)) return false;
      if (!link.isReply(link.framer.at)) {
        this.#serve(link);
      } else if (this.#takeReply(link, wanted)) {
        this.#serveFollowing(link);
        return true;
      }
    }
    return false;
  }

  /** Moves to the next whole message; one of an impossible size ends the connection. */
  #nextMessage(link: Link): boolean {
    const frame = link.framer.next();
    if (frame === Frame.message) return true;
    if (frame !== Frame.partial) {
      this.#sockets.break(`the server sent a message of ${link.declaredSize} bytes`);
    }
    return false;
  }

  #serve(link: Link): void {
    this.commandsServed += 1;
    const taken = this.irqs === null ? 0 : serveInterrupts(link, this.irqs);
    if (taken < 0) this.fail("the server sent interrupts that make no sense");
    else if (taken === 0) serveCommand(link, this.dma, this.ours.maxDataXferSize);
  }

  /** Serves the commands behind a reply, because the next look may be long after it. */
  #serveFollowing(link: Link): void {
    const { framer } = link;
    const { at, size } = framer;
    while (framer.unparsed >= Header.size && !link.isReply(framer.start) && link.roomy) {
      if (!this.#nextMessage(link)) break;
      this.#serve(link);
    }
    framer.at = at;
    framer.size = size;
    if (this.#sockets.unsent) this.#sockets.flush();
  }

  /** Takes the reply at the framer's place; true when it is the wanted one. */
  #takeReply(link: Link, wanted: number): boolean {
    const { framer } = link;
    const view = link.incoming.view;
    const id = view.getUint16(framer.at + Header.offset.messageId, true);
    const command = view.getUint16(framer.at + Header.offset.command, true);
    const state = this.#outstanding.state(id);
    const awaited = state === RequestState.waiting && link === this.#main;
    if (!awaited) {
      for (const fd of framer.takeFds()) closeFd(fd);
      this.strayReplies += 1;
      if (state === RequestState.abandoned) this.#outstanding.release(id);
      return false;
    }
    if (command !== this.#outstanding.command(id)) {
      const asked = commandName(this.#outstanding.command(id));
      this.#sockets.break(`the server answered ${asked} with ${commandName(command)}`);
      return false;
    }
    const result = this.#resultOf(link, id);
    if (id !== wanted) {
      const from = framer.at + Header.size;
      const payload = link.incoming.bytes.slice(
        from,
        result === -errno.EPROTO ? from : framer.at + framer.size,
      );
      this.#outstanding.keep(id, { result, payload, fds: framer.takeFds() });
      return false;
    }
    this.#outstanding.release(id);
    this.#result = result;
    this.replyBytes = link.incoming.bytes;
    this.replyView = view;
    this.replyAt = framer.at + Header.size;
    this.replyLength = framer.size - Header.size;
    this.#replyFds = framer.takeFds();
    return true;
  }

  /** The payload's length; the server's errno; EPROTO for a payload longer than was asked for. */
  #resultOf(link: Link, id: number): number {
    const { at, size } = link.framer;
    const view = link.incoming.view;
    const length = size - Header.size;
    const flags = view.getUint32(at + Header.offset.flags, true);
    if ((flags & HeaderFlags.mask.error) !== 0) {
      return -(view.getUint32(at + Header.offset.error, true) || errno.EIO);
    }
    return length <= this.#outstanding.replyBytesMax(id) ? length : -errno.EPROTO;
  }

  #takeKept(id: number): number {
    const kept = this.#outstanding.takeKept(id);
    if (kept === null) return -errno.ENOTCONN;
    this.replyBytes = kept.payload;
    this.replyView = new DataView(kept.payload.buffer);
    this.replyAt = 0;
    this.replyLength = kept.payload.length;
    this.#replyFds = kept.fds;
    return kept.result;
  }

  /** Serves what the server has sent meanwhile, without waiting: 0, or ENOTCONN. */
  poll(): number {
    const { twin } = this.#sockets;
    if (this.failure === null) this.#sockets.receiveFrom(this.#main, MSG_DONTWAIT);
    if (this.failure === null && twin !== null) this.#sockets.receiveFrom(twin, MSG_DONTWAIT);
    this.#parseAll();
    if (this.failure === null) this.#sockets.flush();
    return this.failure === null ? 0 : -errno.ENOTCONN;
  }

  /** The last reply's descriptors, at most `max`, now the caller's; surplus ones are closed. */
  takeFds(max: number): readonly number[] {
    const fds = this.#replyFds;
    this.#replyFds = noFds;
    if (fds.length <= max) return fds;
    for (const fd of fds.slice(max)) closeFd(fd);
    return fds.slice(0, max);
  }

  #closeReplyFds(): void {
    if (this.#replyFds.length > 0) this.takeFds(0);
  }

  /** Ends the connection and closes its sockets; the places of requests and replies are gone. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#closeReplyFds();
    for (const fd of this.#outstanding.takeAllFds()) closeFd(fd);
    this.#sockets.close();
  }
}
