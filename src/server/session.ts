import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { deferred, type VfioDevice, type Watch } from "../device/vfio-device.ts";
import { Command, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { closeFd } from "../sys/descriptors.ts";
import { socketPair } from "../sys/unix.ts";
import { Frame } from "../wire/framer.ts";
import { defaultLimits, type Limits } from "../wire/negotiate.ts";
import { agree } from "./agreement.ts";
import type { ConnectionState } from "./connection-state.ts";
import { DroppingDevice, Freeze, touchesBar } from "./freeze.ts";
import { HoldQueue } from "./hold.ts";
import { IrqMessages } from "./irq-messages.ts";
import { isQuiet, Lane } from "./lane.ts";
import { LateReply } from "./late-reply.ts";
import { batchRequestsMax, fenceRequestsMax } from "./limits.ts";
import { Lookout } from "./lookout.ts";
import { DmaPump } from "./message-dma.ts";
import { completeReply } from "./reply.ts";
import { Request } from "./request.ts";
import { handle } from "./routes.ts";
import { Touching } from "./touching.ts";

/** Why `run` came back. */
export const End = {
  /** Somebody wants the thread's attention; the connection is as it was. */
  interrupted: 0,
  /** The client is gone, or was sent away. */
  closed: 1,
} as const;
export type End = (typeof End)[keyof typeof End];

const noFds: readonly number[] = [];
const noReply = new Uint8Array(0);
const noWatches: readonly Watch[] = [];

/**
 * One client of one device: receives, serves, replies, and gives the device its turns. It blocks
 * the thread that runs it in exactly one of three places: `recvmsg` when nothing is pending, `poll`
 * while answers, events or unsent bytes are outstanding, nowhere while the device has work.
 */
export class Session {
  readonly #device: VfioDevice;
  readonly #dropping: DroppingDevice;
  readonly #interrupted: () => boolean;
  readonly #main = new Lane();
  #twin: Lane | null = null;
  readonly #pump: DmaPump;
  readonly #lookout = new Lookout();
  readonly #held = new HoldQueue();
  readonly #late = new LateReply();
  readonly #irqs = new IrqMessages(this.#main.outbox);
  readonly #request: Request;
  #negotiated = false;
  #closing = false;
  #freeze: Freeze = Freeze.none;
  /** For whoever shows the client what the device wrote, whatever stands still. */
  readonly touching: Touching;
  /** Requests served since the thread started. */
  served = 0;
  /** False: it never blocks, for a thread that has more to do than to serve one client. */
  waits = true;

  /** `interrupted` is asked between requests and after every interrupted wait. */
  constructor(device: VfioDevice, interrupted: () => boolean, now: () => number) {
    this.#device = device;
    this.#dropping = new DroppingDevice(device);
    this.#interrupted = interrupted;
    this.#pump = new DmaPump(() => (this.#twin?.isOpen === true ? this.#twin : this.#main), now);
    this.touching = new Touching(this.#pump, () => this.#sendDma());
    this.#request = new Request(device, this.#main, this.#irqs, defaultLimits);
  }

  get connected(): boolean {
    return this.#main.isOpen;
  }

  /** Its client is on another host, and no descriptor reaches it. */
  get isRemote(): boolean {
    return this.#irqs.agreed;
  }

  get frozen(): Freeze {
    return this.#freeze;
  }

  /**
   * Serves a fresh connection from its first byte on; some bytes may have been received already. It
   * may stand still from there on.
   */
  open(fd: number, unparsed?: Uint8Array<ArrayBuffer>, freeze: Freeze = Freeze.none): void {
    this.#main.open(fd, unparsed);
    this.#begin(false, defaultLimits, freeze, []);
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
    this.#irqs.restart(peer.irqMessages);
    this.#stand(freeze);
    this.#late.forget();
    this.#pump.start(peer.maxDataXferSize, abandoned);
    this.#device.attach(this.#pump);
  }

  #twinLane(): Lane {
    this.#twin ??= new Lane();
    return this.#twin;
  }

  /**
   * Lets the connection go for a successor: nothing is closed, transfers end and will run again. A
   * device that is at rest has no answer deferred, or has its result.
   */
  export(): ConnectionState {
    this.#pump.cancelAll();
    const late = this.#late.waits ? this.#late.take(this.#device) : noReply;
    assert(late !== null, `${this.#device.name} was parked and owes an answer`);
    const state: ConnectionState = {
      main: this.#main.export(late),
      twin: this.#twin?.isOpen === true ? this.#twin.export() : null,
      negotiated: this.#negotiated,
      peer: this.#request.peer,
      freeze: this.#freeze,
      held: this.#held.copy(),
      abandonedIds: this.#pump.outstandingIds,
    };
    this.#held.restart(new Uint8Array(0));
    this.#stand(Freeze.none);
    return state;
  }

  /** Ends the connection; the device keeps its state and loses its wiring. */
  close(): void {
    this.#pump.cancelAll();
    this.touching.settle();
    this.#late.forget();
    this.#main.close();
    this.#twin?.close();
    this.#device.detach();
    this.#device.attach(null);
    this.#irqs.restart(false);
    this.#held.restart(new Uint8Array(0));
    this.#stand(Freeze.none);
  }

  /**
   * Switches between running and the two modes of freezing. What was held is served after a thaw;
   * before accesses are dropped, all that came until now is served.
   */
  freeze(mode: Freeze): void {
    if (mode === Freeze.drop) this.fence();
    this.#stand(mode);
  }

  #stand(mode: Freeze): void {
    this.#freeze = mode;
    this.#request.device = mode === Freeze.drop ? this.#dropping : this.#device;
  }

  /**
   * Serves what has arrived, held accesses first, and looks once at every doorbell: whatever the
   * guest did before has reached the device then. Waits for nothing: not for a client that does not
   * take its replies either.
   */
  fence(): void {
    const mode = this.#freeze;
    if (!this.connected || mode === Freeze.drop) return;
    const { outbox } = this.#main;
    this.#stand(Freeze.none);
    for (let served = 0; served < fenceRequestsMax; served += batchRequestsMax) {
      const more = this.#serveBatch();
      outbox.flush();
      const received = this.#receiveMain(false);
      if (received <= 0 && !isQuiet(received)) this.#closing = true;
      if (this.#closing || !outbox.open || (received <= 0 && !more)) break;
    }
    if (this.#lookout.wait(null, null, this.#watches, 0) > 0) this.#lookout.tell();
    this.#stand(mode);
  }

  /** Serves until the client is gone or somebody wants the thread. */
  run(): End {
    for (;;) {
      if (this.#interrupted()) return End.interrupted;
      const more = this.#serveBatch();
      const trouble = this.#main.outbox.flush();
      if (trouble < 0 && !isQuiet(trouble)) return End.closed;
      if (this.#closing && this.#main.outbox.waiting === 0) return End.closed;
      const runs = trouble === 0 && this.#freeze === Freeze.none;
      const working = (runs || this.#moving) && this.#giveTurn();
      const received = this.#wait(!this.waits || (more && this.#main.outbox.open) || working);
      if (received <= 0 && !isQuiet(received)) return End.closed;
    }
  }

  /** True while the device needs its turns whatever its connection does. */
  get #moving(): boolean {
    return this.#late.waits || this.touching.active || this.#device.moving === true;
  }

  /** One slice of the device's work and its DMA commands; true when it has more to do at once. */
  #giveTurn(): boolean {
    const device = this.#device;
    if (device.busy) device.work();
    if (this.#pump.active) this.#sendDma();
    this.touching.settle();
    if (this.#late.waits && this.#main.outbox.open) this.#answerLate();
    return device.busy;
  }

  #answerLate(): void {
    const reply = this.#late.take(this.#device);
    if (reply === null) return;
    const { outbox } = this.#main;
    this.#irqs.send();
    outbox.bytes.set(reply, outbox.at);
    outbox.commit(reply.length);
    outbox.flush();
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
    const quiet = outbox.waiting === 0 && !this.#pump.active && this.#watches.length === 0;
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
    const twin = this.#twin?.isOpen === true ? this.#twin : null;
    const ready = this.#lookout.wait(this.#main, twin, this.#watches, timeoutMs);
    this.#pump.expire();
    if (ready <= 0) return ready === 0 ? -errno.EAGAIN : ready;
    this.#lookout.tell();
    if (twin !== null && this.#lookout.twinReady) this.#receiveTwin(twin);
    return this.#lookout.mainReady ? this.#receiveMain(false) : -errno.EAGAIN;
  }

  /** A frozen device looks at nothing; what is signalled meanwhile is found after the thaw. */
  get #watches(): readonly Watch[] {
    const watches = this.#freeze === Freeze.none || this.#moving ? this.#device.watches : noWatches;
    return this.#irqs.agreed ? [...watches, ...this.#irqs.watches] : watches;
  }

  /** The twin carries answers to our commands and nothing else. */
  #receiveTwin(twin: Lane): void {
    const received = twin.receive(false);
    if (received > 0) this.#pump.answerFrom(twin);
    else if (!isQuiet(received)) this.#loseTwin();
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
    completeReply(this.#request, view, at, -errno.EINVAL);
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
    const wanted = (flags & HeaderFlags.mask.noReply) === 0;
    if (result === deferred) this.#late.keep(request, wanted);
    else if (wanted) {
      if (this.#irqs.agreed) this.#irqs.sendAhead(Header.size + Math.max(0, result));
      completeReply(request, view, at, result);
    }
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
      completeReply(this.#request, view, at, -errno.EINVAL);
    }
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
    this.#irqs.restart(peer.irqMessages);
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
