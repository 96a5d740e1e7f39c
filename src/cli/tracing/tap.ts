import { rmSync } from "node:fs";
import { errnoName } from "../../base/errno.ts";
import { POLLIN } from "../../sys/constants.ts";
import { closeFd } from "../../sys/descriptors.ts";
import { PollSet } from "../../sys/poll.ts";
import { acceptUnix, connectUnix, listenUnix } from "../../sys/unix.ts";
import { placesPerSession, TapSession } from "./tap-session.ts";
import type { TraceLog } from "./trace-log.ts";

/** Clients at a time; more of them wait. */
export const sessionsMax = 16;
const backlog = 8;
/** How long a signal may wait while nothing goes by, and while much does. */
const tickMs = 200;

/**
 * Listens in the place of a server, connects every client to it and passes on what they say. It
 * blocks in `poll`, because a trace must cost a register access as little as can be, and looks at
 * the event loop, where signals arrive, a few times a second and whenever one ends the wait.
 */
export class Tap {
  readonly #listenPath: string;
  readonly #connectPath: string;
  readonly #log: TraceLog;
  readonly #listenFd: number;
  readonly #poll = new PollSet(1 + sessionsMax * placesPerSession);
  #sessions: TapSession[] = [];
  #count = 0;
  #stopping = false;

  constructor(listenPath: string, connectPath: string, log: TraceLog) {
    this.#listenPath = listenPath;
    this.#connectPath = connectPath;
    this.#log = log;
    this.#listenFd = listenUnix(listenPath, backlog);
  }

  /** Connections so far. */
  get count(): number {
    return this.#count;
  }

  /** Makes `run` return soon. */
  stop(): void {
    this.#stopping = true;
  }

  /** Passes on until it is stopped; with `once`, until the first client has gone. */
  async run(once: boolean): Promise<void> {
    let looked = performance.now();
    const isDone = (): boolean =>
      this.#stopping ||
      !this.#log.isRead ||
      (once && this.#count > 0 && this.#sessions.length === 0);
    while (!isDone()) {
      const ready = this.#wait();
      if (ready > 0) this.#step();
      this.#log.flush();
      if (ready <= 0 || performance.now() - looked > tickMs) {
        await new Promise((resolve) => setImmediate(resolve));
        looked = performance.now();
      }
    }
  }

  #wait(): number {
    const open = this.#sessions.length < sessionsMax;
    this.#poll.clear();
    this.#poll.add(open ? this.#listenFd : -1, POLLIN);
    for (const session of this.#sessions) session.watch(this.#poll);
    return this.#poll.wait(tickMs);
  }

  #step(): void {
    const arrived = this.#poll.ready(0) !== 0;
    for (const session of this.#sessions) {
      session.step(this.#poll);
      if (session.isOver) this.#end(session);
    }
    if (arrived) this.#accept();
  }

  #accept(): void {
    const clientFd = acceptUnix(this.#listenFd);
    if (clientFd < 0) return;
    const number = ++this.#count;
    const serverFd = connectUnix(this.#connectPath);
    if (serverFd < 0) {
      closeFd(clientFd);
      const why = errnoName(serverFd);
      this.#log.event(number, `sent away: cannot connect to ${this.#connectPath}: ${why}`);
      return;
    }
    this.#log.event(number, "connected");
    const session = new TapSession(number, clientFd, serverFd, (socket, to, message) =>
      this.#log.message(number, socket, to, message),
    );
    this.#sessions.push(session);
  }

  #end(session: TapSession): void {
    session.close();
    this.#log.event(session.number, "closed");
    this.#sessions = this.#sessions.filter((each) => each !== session);
  }

  /** Ends every connection and takes the socket file away. */
  close(): void {
    for (const session of this.#sessions) this.#end(session);
    closeFd(this.#listenFd);
    rmSync(this.#listenPath, { force: true });
  }
}
