import { errno } from "../base/errno.ts";

/** Requests that may wait for their replies at one time; also the number of message ids in use. */
export const outstandingMax = 1024;

/** What has become of a message id. */
export const RequestState = {
  /** Not in use. */
  free: 0,
  /** Sent; somebody waits for its reply. */
  waiting: 1,
  /** Its reply came while another one was awaited, and was put aside. */
  arrived: 2,
  /** Its reply did not come in time; the id stays taken until it comes after all. */
  abandoned: 3,
} as const;
export type RequestState = (typeof RequestState)[keyof typeof RequestState];

/** A reply that was put aside. */
export interface KeptReply {
  /** The payload's length, or a negated errno. */
  readonly result: number;
  readonly payload: Uint8Array<ArrayBuffer>;
  readonly fds: readonly number[];
}

/**
 * The requests of one connection that have no reply yet, by message id. An id is not used again
 * before its reply has come, however late, so a late reply is never taken for another one's.
 */
export class Outstanding {
  readonly #state = new Uint8Array(outstandingMax);
  readonly #command = new Uint16Array(outstandingMax);
  readonly #replyBytesMax = new Uint32Array(outstandingMax);
  readonly #kept = new Map<number, KeptReply>();
  #last = 0;
  #count = 0;

  /** Ids in use. */
  get count(): number {
    return this.#count;
  }

  /**
   * Takes an id for a command whose reply has at most `replyBytesMax` bytes of payload; or EBUSY.
   */
  take(command: number, replyBytesMax: number): number {
    if (this.#count === outstandingMax) return -errno.EBUSY;
    let id = this.#last;
    do id = (id + 1) % outstandingMax;
    while (this.#state[id] !== RequestState.free);
    this.#last = id;
    this.#count += 1;
    this.#state[id] = RequestState.waiting;
    this.#command[id] = command;
    this.#replyBytesMax[id] = replyBytesMax;
    return id;
  }

  /** What has become of any 16-bit id. */
  state(id: number): RequestState {
    return (this.#state[id] ?? RequestState.free) as RequestState;
  }

  command(id: number): number {
    return this.#command[id] as number;
  }

  replyBytesMax(id: number): number {
    return this.#replyBytesMax[id] as number;
  }

  /** The id may be used again. */
  release(id: number): void {
    this.#state[id] = RequestState.free;
    this.#count -= 1;
  }

  abandon(id: number): void {
    this.#state[id] = RequestState.abandoned;
  }

  /** Puts a reply aside until somebody asks for it. */
  keep(id: number, reply: KeptReply): void {
    this.#state[id] = RequestState.arrived;
    this.#kept.set(id, reply);
  }

  /** Gives out a reply that was put aside, and frees its id. */
  takeKept(id: number): KeptReply | null {
    const reply = this.#kept.get(id);
    if (reply === undefined) return null;
    this.#kept.delete(id);
    this.release(id);
    return reply;
  }

  /** Descriptors of replies that nobody will ask for any more. */
  takeAllFds(): number[] {
    const fds = [...this.#kept.values()].flatMap((reply) => reply.fds);
    this.#kept.clear();
    return fds;
  }
}
