/**
 * Whoever answers for the physical function. A migration driver never looks into a PF driver's data
 * and never touches a register of the PF: it asks, one question at a time, for its own VF.
 */
import { errno } from "../../../base/errno.ts";
import { FerryError } from "../../../base/errors.ts";

/** What the PF says of one VF. */
export interface PfFacts {
  /** Number of the function, from 1. */
  readonly vf: number;
  /** Its queues among the PF's. */
  readonly queueBase: number;
  readonly queueCount: number;
  /** `QUEUE_ISOLATION`. */
  readonly isolation: number;
  /** `FunctionFaults` of this function since its last reset; never those of another one. */
  readonly faults: number;
  /** Its state is not to be trusted until the PF has reset it. */
  readonly broken: boolean;
  /** Resets of the PF so far. */
  readonly resets: number;
  /** Whether the control half has a mailbox of its own, and what goes with it. */
  readonly controlMailbox: boolean;
}

/**
 * The right to ask: whoever has it knows which driver the PF is bound to, which function this is,
 * and that nobody else asks meanwhile. It is given back on every path, and ends by itself.
 */
export interface PfHandle {
  readonly driver: string;
  readonly vf: number;
  /** Null once the right has ended. */
  readonly facts: PfFacts | null;
  release(): void;
}

/** One VF's way to what only its PF knows. */
export interface PfBroker {
  readonly driver: string;
  readonly vf: number;
  /** A negated errno when this one may not ask: EAGAIN in a reset of the PF, EBUSY otherwise. */
  acquire(): PfHandle | number;
}

/** The facts as they are now, or a negated errno. */
export function askPf(broker: PfBroker): PfFacts | number {
  const handle = broker.acquire();
  if (typeof handle === "number") return handle;
  try {
    const { facts } = handle;
    const isOurs = handle.driver === broker.driver && handle.vf === broker.vf;
    if (!isOurs || (facts !== null && facts.vf !== broker.vf)) return -errno.ENODEV;
    return facts ?? -errno.EBUSY;
  } finally {
    handle.release();
  }
}

/** Is it the same function, with the same queues? */
export const isSameFunction = (a: PfFacts, b: PfFacts): boolean =>
  a.queueBase === b.queueBase &&
  a.queueCount === b.queueCount &&
  a.isolation === b.isolation &&
  a.controlMailbox === b.controlMailbox;

/** The broker of a device's planes; a FerryError when there is none, or none that answers. */
export function brokerOf(name: string, broker: unknown): PfBroker {
  const known = broker as Partial<PfBroker> | undefined;
  if (typeof known?.acquire === "function") return known as PfBroker;
  throw new FerryError("no-broker", `${name}: nobody answers for its physical function.`);
}
