/** Which way a transfer goes, seen from the device. */
export const Direction = { read: 0, write: 1 } as const;
export type Direction = (typeof Direction)[keyof typeof Direction];

/** The status of a transfer that has not ended; every other status is 0 or a negated errno. */
export const pending = 1;

/**
 * One piece of DMA between guest memory and a buffer of the device. A device makes its transfers
 * once and starts them again and again. A transfer never blocks: either it ends inside `start`, or
 * it stays `pending` until the VMM has answered, and the device's `work` is called again.
 */
export class Transfer {
  direction: Direction = Direction.read;
  iova = 0;
  bytes: Uint8Array = new Uint8Array(0);
  at = 0;
  length = 0;
  /** `pending`, 0, or a negated errno. */
  status = 0;
  /** For whoever carries the transfer: bytes that were asked for, and bytes that arrived. */
  asked = 0;
  done = 0;

  /** Names what to move; returns itself, so that it can be started in the same line. */
  set(direction: Direction, iova: number, bytes: Uint8Array, at: number, length: number): this {
    this.direction = direction;
    this.iova = iova;
    this.bytes = bytes;
    this.at = at;
    this.length = length;
    this.asked = 0;
    this.done = 0;
    return this;
  }
}

/** A write of one byte to each of many places; always carried by messages. */
export class Touches extends Transfer {
  /** Where byte n of the transfer goes. */
  readonly places: readonly number[];

  constructor(places: readonly number[], bytes: Uint8Array) {
    super();
    this.places = places;
    this.set(Direction.write, 0, bytes, 0, places.length);
  }
}

/** Whoever can carry DMA by messages (DMA_READ, DMA_WRITE): the server's session. */
export interface MessageDma {
  /** Takes a pending transfer; 0, or a negated errno when it cannot be carried. */
  submit(transfer: Transfer): number;
  /** Ends the transfers that touch the range with ECANCELED; late answers to them are dropped. */
  cancel(iova: number, size: number): void;
}
