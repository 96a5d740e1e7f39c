import { errno } from "../base/errno.ts";
import type { VfioDevice, Watch } from "../device/vfio-device.ts";
import { Command, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { POLLIN, POLLOUT } from "../sys/constants.ts";
import { closeFd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { socketPair } from "../sys/unix.ts";
import { Frame } from "../wire/framer.ts";
import { defaultLimits, type Limits } from "../wire/negotiate.ts";
import { agree } from "./agreement.ts";
import { DroppingDevice, Freeze, touchesBar } from "./freeze.ts";
import { HoldQueue } from "./hold.ts";
import { isQuiet, Lane, type LaneState } from "./lane.ts";
import { batchRequestsMax, msgFdsMax } from "./limits.ts";
import { DmaPump } from "./message-dma.ts";
import { Request } from "./request.ts";
import { routes } from "./routes.ts";

/** Why `run` came back. */
export const End = {
  /** Somebody wants the thread's attention; the connection is as it was. */
  interrupted: 0,
  /** The client is gone, or was sent away. */
  closed: 1,
} as const;
export type End = (typeof End)[keyof typeof End];

/** A connection at a message boundary, as plain data and descriptors: enough to go on elsewhere. */
export interface ConnectionState {
  readonly main: LaneState;
  readonly twin: LaneState | null;
  readonly negotiated: boolean;
  readonly peer: Limits;
  readonly freeze: Freeze;
  /** Region accesses that wait for the thaw. */
  readonly held: Uint8Array;
  /** Ids of DMA commands that were given up and may still be answered. */
  readonly abandonedIds: readonly number[];
}

const watchesMax = 1024;
const noFds: readonly number[] = [];
const noWatches: readonly Watch[] = [];

/**
 * One client of one device: receives, serves, replies, and gives the device its turns. It blocks
 * the
 * thread that runs it in exactly one of three places: `recvmsg` when nothing is pending, `poll`
 * while
 * answers, events or unsent bytes are outstanding, nowhere while the device has work.
 */
export class Session {
  readonly #device: VfioDevice;
  readonly #dropping: DroppingDevice;
  readonly #interrupted: () => boolean;
  readonly #main = new Lane();
  #twin: Lane | null = null;
  readonly #pump: DmaPump;
  readonly #poll = new PollSet(watchesMax + 2);
  readonly #held = new HoldQueue();
  readonly #request: Request;
  #negotiated = false;
  #closing = false;
  #freeze: Freeze = Freeze.none;
  /** Requests served since the thread started. */
  served = 0;

  /** `interrupted` is asked between requests and after every interrupted wait. */
  constructor(device: VfioDevice, interrupted: () => boolean, now: () => number) {
    this.#device = device;
    this.#dropping = new DroppingDevice(device);
    this.#interrupted = interrupted;
    this.#pump = new DmaPump(() => (this.#twin?.isOpen === true ? this.#twin : this.#main), now);
    const { outbox, bytes, view } = this.#main;
    this.#request = new Request(device, outbox, bytes, view, defaultLimits);
  }

  get connected(): boolean {
    return this.#main.isOpen;
  }

  get frozen(): Freeze {
    return this.#freeze;
  }

  /**
   * Serves a fresh connection from its first byte on; some bytes may have been received already.
   */
  open(fd: number, unparsed?: Uint8Array<ArrayBuffer>, pending?: LaneState["pendingFds"]): void {
    this.#main.open(fd, unparsed, pending);
    this.#begin(false, defaultLimits, Freeze.none, []);
    this.#held.restart(new Uint8Array(0));
  }

  /** Goes on with a connection that another session has exported. */
  takeUp(state: ConnectionState): void {
    this.#main.take(state.main);
    if (state.twin !== null) this.#twinLane().take(state.twin);
    this.#begin(state.negotiated, state.peer, state.freeze, state.abandonedIds);
    this.#held.restart(state.held);
  }

  #begin(negotiated: boolean, peer: Limits, freeze: Freeze, abandoned: readonly number[]): void {
    this.#negotiated = negotiated;
    this.#closing = false;
    this.#request.peer = peer;
    this.freeze(freeze);
    this.#pump.start(peer.maxDataXferSize, abandoned);
    this.#device.attach(this.#pump);
  }

  #twinLane(): Lane {
    this.#twin ??= new Lane();
    return this.#twin;
  }

  /**
   * Lets the connection go for a successor: nothing is closed, transfers end and will run again.
   */
  export(): ConnectionState {
    this.#pump.cancelAll();
    const state: ConnectionState = {
      main: this.#main.export(),
      twin: this.#twin?.isOpen === true ? this.#twin.export() : null,
      negotiated: this.#negotiated,
      peer: this.#request.peer,
      freeze: this.#freeze,
      held: this.#held.copy(),
      abandonedIds: this.#pump.outstandingIds,
    };
    this.#held.restart(new Uint8Array(0));
    this.freeze(Freeze.none);
    return state;
  }

  /** Ends the connection; the device keeps its state and loses its wiring. */
  close(): void {
    this.#pump.cancelAll();
    this.#main.close();
    this.#twin?.close();
    this.#device.detach();
    this.#device.attach(null);
    this.#held.restart(new Uint8Array(0));
    this.freeze(Freeze.none);
  }

  /**
   * Switches between running and the two modes of freezing; what was held is served after a thaw.
   */
  freeze(mode: Freeze): void {
    this.#freeze = mode;
    this.#request.device = mode === Freeze.drop ? this.#dropping : this.#device;
  }

  /** Serves until the client is gone or somebody wants the thread. */
  run(): End {
    for (;;) {
      if (this.#interrupted()) return End.interrupted;
      const more = this.#serveBatch();
      const trouble = this.#main.outbox.flush();
      if (trouble < 0 && !isQuiet(trouble)) return End.closed;
      if (this.#closing && this.#main.outbox.waiting === 0) return End.closed;
      const working = trouble === 0 && this.#freeze === Freeze.none && this.#giveTurn();
      const received = this.#wait((more && this.#main.outbox.open) || working);
      if (received <= 0 && !isQuiet(received)) return End.closed;
    }
  }

  /** One slice of the device's work and its DMA commands; true when it has more to do at once. */
  #giveTurn(): boolean {
    const device = this.#device;
    if (device.busy) device.work();
    if (this.#pump.active) this.#sendDma();
    return device.busy;
  }

  #sendDma(): void {
    this.#pump.pump();
    this.#main.outbox.flush();
    if (this.#twin?.isOpen !== true) return;
    const result = this.#twin.outbox.flush();
    if (result < 0 && !isQuiet(result)) this.#loseTwin();
  }

  #loseTwin(): void {
    this.#pump.cancelAll();
    this.#twin?.close();
  }

  /** Receives more, waiting in the way that fits; like `Lane.receive`. */
  #wait(nothingToWaitFor: boolean): number {
    const { outbox } = this.#main;
    const quiet = outbox.waiting === 0 && !this.#pump.active && this.#watches().length === 0;
    if (nothingToWaitFor) {
      if (!quiet) return this.#pollOnce(0);
      return this.#receiveMain(false);
    }
    return quiet && !this.#full()
      ? this.#receiveMain(true)
      : this.#pollOnce(this.#pump.patienceMs());
  }

  /** True when nothing more may be received until something was served. */
  #full(): boolean {
    return this.#main.framer.room() === 0;
  }

  #receiveMain(blocking: boolean): number {
    return this.#full() ? -errno.EAGAIN : this.#main.receive(blocking);
  }

  #pollOnce(timeoutMs: number): number {
    const watches = this.#watches();
    const poll = this.#poll;
    const twin = this.#twin?.isOpen === true ? this.#twin : null;
    poll.clear();
    poll.add(this.#main.channel.fd, this.#interest(this.#main));
    poll.add(twin?.channel.fd ?? -1, twin === null ? 0 : this.#interest(twin));
    const watched = Math.min(watches.length, watchesMax);
    for (let i = 0; i < watched; i++) poll.add(watches[i]?.fd ?? -1, POLLIN);
    const ready = poll.wait(timeoutMs);
    this.#pump.expire();
    if (ready <= 0) return ready === 0 ? -errno.EAGAIN : ready;
    for (let i = 0; i < watched; i++) if (poll.ready(2 + i) !== 0) watches[i]?.ready();
    if (twin !== null && (poll.ready(1) & ~POLLOUT) !== 0) this.#receiveTwin(twin);
    return (poll.ready(0) & ~POLLOUT) === 0 ? -errno.EAGAIN : this.#receiveMain(false);
  }

  /** A frozen device looks at nothing; what is signalled meanwhile is found after the thaw. */
  #watches(): readonly Watch[] {
    return this.#freeze === Freeze.none ? this.#device.watches : noWatches;
  }

  #interest({ framer, outbox }: Lane): number {
    return (framer.room() > 0 ? POLLIN : 0) | (outbox.waiting > 0 ? POLLOUT : 0);
  }

  /** The twin carries answers to our commands and nothing else. */
  #receiveTwin(twin: Lane): void {
    const received = twin.receive(false);
    if (received <= 0) {
      if (!isQuiet(received)) this.#loseTwin();
      return;
    }
    while (twin.framer.next() === Frame.message) {
      const { at, size } = twin.framer;
      for (const fd of twin.framer.takeFds()) closeFd(fd);
      this.#pump.answer(twin.bytes, twin.view, at, size);
    }
  }

  /**
   * Serves what is there, up to a bound; true when more can be served once the outbox is open.
   */
  #serveBatch(): boolean {
    const { framer, outbox, bytes, view } = this.#main;
    for (let i = 0; i < batchRequestsMax; i++) {
      if (this.#closing) return false;
      if (!outbox.open) return true;
      if (this.#freeze === Freeze.none && this.#held.next()) {
        this.#serve(this.#held.bytes, this.#held.view, this.#held.at, this.#held.size, noFds);
        continue;
      }
      if (this.#freeze === Freeze.hold && !this.#held.open) return false;
      const frame = framer.next();
      if (frame === Frame.partial) return false;
      const fds = framer.takeFds();
      if (frame === Frame.message) this.#serve(bytes, view, framer.at, framer.size, fds);
      else this.#refuse(framer.at, fds);
    }
    return true;
  }

  /** A header that announces an impossible size gets its answer, and the stream stays in step. */
  #refuse(at: number, fds: readonly number[]): void {
    for (const fd of fds) closeFd(fd);
    const { view } = this.#main;
    this.#reply(view, at, -errno.EINVAL);
    if (!this.#negotiated) this.#closing = true;
  }

  #serve(
    bytes: Uint8Array,
    view: DataView,
    at: number,
    size: number,
    fds: readonly number[],
  ): void {
    const command = view.getUint16(at + Header.offset.command, true);
    const flags = view.getUint32(at + Header.offset.flags, true);
    if ((flags & HeaderFlags.mask.type) !== MessageType.command) {
      this.#serveReply(bytes, view, at, size, command, fds);
      return;
    }
    if (this.#freeze === Freeze.hold && touchesBar(command, view, at)) {
      for (const fd of fds) closeFd(fd);
      this.#held.push(bytes, at, size);
      return;
    }
    this.served += 1;
    const request = this.#request;
    request.bytes = bytes;
    request.view = view;
    request.at = at + Header.size;
    request.length = size - Header.size;
    request.fds = fds;
    request.replyAt = this.#main.outbox.at + Header.size;
    const result = this.#negotiated ? handle(request, command) : this.#negotiate(request, command);
    if (request.fds.length > 0) for (const fd of request.fds) closeFd(fd);
    if ((flags & HeaderFlags.mask.noReply) === 0) this.#reply(view, at, result);
    request.replyFds = null;
    request.lentBytes = 0;
  }

  /** Answers to our own commands; an answer to nothing is the client's mistake. */
  #serveReply(
    bytes: Uint8Array,
    view: DataView,
    at: number,
    size: number,
    command: number,
    fds: readonly number[],
  ): void {
    for (const fd of fds) closeFd(fd);
    if (command === Command.dmaRead || command === Command.dmaWrite) {
      this.#pump.answer(bytes, view, at, size);
    } else {
      this.#reply(view, at, -errno.EINVAL);
    }
  }

  /**
   * Completes the reply to the message at `at`: its payload is in place, or `result` is an errno.
   */
  #reply(view: DataView, at: number, result: number): void {
    const { outbox } = this.#main;
    const request = this.#request;
    const failed = result < 0;
    const payload = failed ? 0 : result;
    const lent = failed ? 0 : request.lentBytes;
    const out = outbox.view;
    const to = outbox.at;
    const size = Header.size + payload;
    out.setUint32(to, view.getUint32(at, true), true);
    out.setUint32(to + Header.offset.messageSize, size + lent, true);
    out.setUint32(
      to + Header.offset.flags,
      failed ? MessageType.reply | HeaderFlags.mask.error : MessageType.reply,
      true,
    );
    out.setUint32(to + Header.offset.error, failed ? -result : 0, true);
    const fds = failed ? null : request.replyFds;
    if (lent > 0) outbox.commitLent(size, request.lentAddress, lent);
    else if (fds !== null && fds.length <= request.peer.maxMsgFds) {
      outbox.commitWithFds(size, fds, request.replyFdsOwned);
    } else outbox.commit(size);
    request.replyFdsOwned = false;
  }

  /** VERSION, which comes first; anything else, or one that does not fit, ends the connection. */
  #negotiate(request: Request, command: number): number {
    this.#closing = true;
    if (command !== Command.version) return -errno.EINVAL;
    const { bytes, at, length, outbox } = request;
    const agreement = agree(bytes.subarray(at, at + length), this.#device);
    if (typeof agreement === "number") return agreement;
    const { peer, payload } = agreement;
    if (agreement.twinSocket) this.#openTwin(request);
    request.peer = peer;
    outbox.bytes.set(payload, request.replyAt);
    this.#pump.start(peer.maxDataXferSize, []);
    this.#negotiated = true;
    this.#closing = false;
    return payload.length;
  }

  #openTwin(request: Request): void {
    const [ours, theirs] = socketPair();
    this.#twinLane().open(ours);
    request.replyFds = [theirs];
    request.replyFdsOwned = true;
  }
}

/** Finds the command's handler; more descriptors than we said we take are refused with it. */
function handle(request: Request, command: number): number {
  const route = routes[command];
  if (route === undefined || request.length < route.minimum) return -errno.EINVAL;
  if (request.fds.length > msgFdsMax) return -errno.EINVAL;
  return route.handle(request);
}
