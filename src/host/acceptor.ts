import { errno } from "../base/errno.ts";
import { POLLHUP, POLLIN } from "../sys/constants.ts";
import { closeFd, createEventfd, drainEventfd, signalEventfd } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import { acceptUnix } from "../sys/unix.ts";
import { FirstMessage, Unclaimed } from "./unclaimed.ts";

/** Connections that have said nothing complete yet, over all devices of the process. */
export const unclaimedMax = 8;
/** How long a connection may take for its first message. */
export const unclaimedMs = 5000;
/** How often it is asked after a client that has hung up and still has its device. */
const leavingMs = 20;
/** Connections accepted from one listener before the others have their turn. */
const acceptsMax = 16;
/** Listeners, and so devices, of one process. */
export const listenersMax = 1024;

/** Somebody whose device is being asked for. */
export interface Claimant {
  /** True while a client has the device. */
  readonly claimed: boolean;
  /** True when that client has hung up and its end is only not told yet. */
  readonly leaving: boolean;
  /** True while the device is given to another process, which lets clients in afterwards. */
  readonly away: boolean;
  /** Gives the device to a connection whose VERSION was received. */
  claim(fd: number, unparsed: Uint8Array<ArrayBuffer>): void;
}

interface Listener {
  readonly fd: number;
  readonly claimant: Claimant;
}

/** A connection with the device that it asks for; `complete` once its VERSION is there. */
interface Caller {
  readonly unclaimed: Unclaimed;
  readonly claimant: Claimant;
  complete: boolean;
}

/**
 * Watches every listener of the process and the connections that have not claimed a device. The
 * first complete VERSION claims; later ones are told EBUSY. Nobody who is silent, or who sends half
 * a message, holds up another. It waits on a thread of the pool, so the main thread stays free.
 */
export class Acceptor {
  readonly #poll = new PollSet(1 + listenersMax + unclaimedMax);
  readonly #wakeup = createEventfd();
  readonly #now: () => number;
  readonly #listeners: Listener[] = [];
  #callers: Caller[] = [];
  #stopping = false;

  constructor(now: () => number) {
    this.#now = now;
  }

  /** Listens for one device; the descriptor is non-blocking and stays the caller's. */
  listen(fd: number, claimant: Claimant): void {
    this.#listeners.push({ fd, claimant });
    this.nudge();
  }

  /** Takes a connection that is there already, as `--fd` gives it, or another host. */
  greet(fd: number, claimant: Claimant): void {
    this.#makePlace();
    const unclaimed = new Unclaimed(fd, this.#now() + unclaimedMs);
    this.#callers.push({ unclaimed, claimant, complete: false });
    this.nudge();
  }

  /** Looks at everything again: a device has become free. */
  nudge(): void {
    signalEventfd(this.#wakeup);
  }

  /** Ends `run`; connections that have claimed nothing are closed. */
  stop(): void {
    this.#stopping = true;
    this.nudge();
  }

  /** Serves until `stop`. */
  async run(): Promise<void> {
    while (!this.#stopping) {
      const listeners = this.#watch();
      const ready = await this.#poll.waitAsync(this.#patienceMs());
      if (this.#stopping) break;
      drainEventfd(this.#wakeup);
      if (ready > 0) this.#attend(listeners);
      this.#settle();
    }
    for (const { unclaimed } of this.#callers) closeFd(unclaimed.fd);
    this.#callers = [];
    closeFd(this.#wakeup);
  }

  /** Fills the poll set: the wake-up, listeners, callers; returns how many listeners are in it. */
  #watch(): number {
    this.#poll.clear();
    this.#poll.add(this.#wakeup, POLLIN);
    for (const { fd, claimant } of this.#listeners) {
      this.#poll.add(claimant.away ? -1 : fd, POLLIN);
    }
    for (const { unclaimed, complete } of this.#callers) {
      this.#poll.add(complete ? -1 : unclaimed.fd, POLLIN);
    }
    return this.#listeners.length;
  }

  #patienceMs(): number {
    if (this.#callers.length === 0) return -1;
    const next = Math.min(...this.#callers.map(({ unclaimed }) => unclaimed.deadlineMs));
    const patienceMs = Math.max(0, Math.ceil(next - this.#now()));
    const someWait = this.#callers.some(({ complete }) => complete);
    return someWait ? Math.min(patienceMs, leavingMs) : patienceMs;
  }

  /** `listeners` is how many were polled; one that came since has its turn next time. */
  #attend(listeners: number): void {
    const callers = this.#callers.slice();
    for (const [i, caller] of callers.entries()) {
      if (!caller.complete && this.#poll.ready(1 + listeners + i) !== 0) this.#receive(caller);
    }
    for (const [i, listener] of this.#listeners.slice(0, listeners).entries()) {
      const { away } = listener.claimant;
      if (!away && this.#poll.ready(1 + i) !== 0) this.#accept(listener);
    }
  }

  #accept({ fd, claimant }: Listener): void {
    for (let i = 0; i < acceptsMax; i++) {
      const connection = acceptUnix(fd);
      if (connection === -errno.EINTR) continue;
      if (connection < 0) return;
      this.#makePlace();
      const unclaimed = new Unclaimed(connection, this.#now() + unclaimedMs);
      const caller: Caller = { unclaimed, claimant, complete: false };
      this.#callers.push(caller);
      this.#receive(caller);
    }
  }

  /** Who has been silent for longest makes place for who comes now. */
  #makePlace(): void {
    if (this.#callers.length < unclaimedMax) return;
    const silent = this.#callers.find(({ complete }) => !complete) ?? this.#callers[0];
    if (silent !== undefined) this.#dismiss(silent);
  }

  #receive(caller: Caller): void {
    const state = caller.unclaimed.receive();
    if (state === FirstMessage.version) caller.complete = true;
    else if (state !== FirstMessage.partial) this.#dismiss(caller);
  }

  /**
   * Gives devices to those who may have them, and sends away those who may not or took too long.
   */
  #settle(): void {
    const now = this.#now();
    for (const caller of this.#callers.slice()) {
      const { unclaimed, claimant, complete } = caller;
      if (complete && claimant.away) continue;
      if (complete && !claimant.claimed) {
        this.#forget(caller);
        claimant.claim(unclaimed.fd, unclaimed.bytes);
      } else if (complete && !claimant.leaving) {
        unclaimed.refuse(errno.EBUSY);
        this.#dismiss(caller);
      } else if (unclaimed.deadlineMs <= now) this.#dismiss(caller);
    }
  }

  #forget(caller: Caller): void {
    this.#callers = this.#callers.filter((each) => each !== caller);
  }

  #dismiss(caller: Caller): void {
    this.#forget(caller);
    closeFd(caller.unclaimed.fd);
  }
}

const one = new PollSet(1);

/** True when the peer of a connected socket has closed its end. */
export function hasHungUp(fd: number): boolean {
  one.clear();
  one.add(fd, 0);
  return one.wait(0) > 0 && (one.ready(0) & POLLHUP) !== 0;
}
