import { errno } from "../../../base/errno.ts";
import type { LockToken, PfLock } from "./pf-lock.ts";

/** What the PF says of one VF. */
export interface VfFacts {
  /** Number of the function, from 1. */
  readonly vf: number;
  /** Its queues among the PF's. */
  readonly queueBase: number;
  readonly queueCount: number;
  /** `QUEUE_ISOLATION`. */
  readonly isolation: number;
  /** `FunctionFaults` of this function since its last reset. */
  readonly faults: number;
  /** Its state is not to be trusted until the PF has reset it. */
  readonly broken: boolean;
  /** Resets of the PF so far. */
  readonly resets: number;
  /** Whether the control half has a mailbox of its own. */
  readonly controlMailbox: boolean;
}

/** Who asks the PF: while it has the lock, nobody else does. */
export class VfHandle {
  readonly driver: string;
  readonly vf: number;
  readonly #lock: PfLock;
  readonly #token: LockToken;
  readonly #read: () => VfFacts;

  constructor(broker: VfBroker, lock: PfLock, token: LockToken, read: () => VfFacts) {
    this.driver = broker.driver;
    this.vf = broker.vf;
    this.#lock = lock;
    this.#token = token;
    this.#read = read;
  }

  /** Null once the lock is lost. */
  get facts(): VfFacts | null {
    return this.#lock.has(this.#token) ? this.#read() : null;
  }

  release(): void {
    this.#lock.release(this.#token);
  }
}

/** The locks of a PF: for whoever asks it, and while it is reset. */
export interface PfLocks {
  readonly access: PfLock;
  readonly reset: PfLock;
}

/** The way from one VF to its PF. Whoever has it can ask for this VF and for no other one. */
export class VfBroker {
  /** Which driver the PF is bound to: `hisi-sec2`. */
  readonly driver: string;
  readonly vf: number;
  readonly #locks: PfLocks;
  readonly #read: () => VfFacts;

  constructor(driver: string, locks: PfLocks, read: () => VfFacts) {
    this.driver = driver;
    this.vf = read().vf;
    this.#locks = locks;
    this.#read = read;
  }

  /** EAGAIN while the PF is reset, EBUSY while another one asks. */
  acquire(): VfHandle | number {
    if (this.#locks.reset.taken) return -errno.EAGAIN;
    const token = this.#locks.access.take();
    if (token === null) return -errno.EBUSY;
    return new VfHandle(this, this.#locks.access, token, this.#read);
  }
}
