import type { Interrupts } from "../../../device/interrupts.ts";
import type { QmBank } from "./event-queue.ts";
import type { FunctionState } from "./function-state.ts";

/** Whoever answers the VF's messages: the PF. */
export interface PfPort {
  /** A message of VF number `vf`, which counts as taken when this returns. */
  receive(vf: number, message: number, data: number): void;
}

/**
 * Messages between the VF and its PF. What the PF sends waits here, in order, until the VF has
 * acknowledged what came before.
 */
export class Messages {
  readonly #bank: QmBank;
  readonly #state: FunctionState;
  readonly #interrupts: Interrupts;
  readonly #vector: number;
  readonly #vf: number;
  readonly #pf: PfPort;

  /** `vector` is -1 where there is no such interrupt. */
  constructor(
    bank: QmBank,
    state: FunctionState,
    interrupts: Interrupts,
    vector: number,
    vf: number,
    pf: PfPort,
  ) {
    this.#bank = bank;
    this.#state = state;
    this.#interrupts = interrupts;
    this.#vector = vector;
    this.#vf = vf;
    this.#pf = pf;
  }

  /** The PF sends a message; false when too many wait. */
  push(message: number, data: number): boolean {
    const first = this.#state.messages === 0;
    if (!this.#state.pushMessage(message, data)) return false;
    if (first) this.#announce();
    return true;
  }

  #announce(): void {
    this.#bank.set("IFC_INT_SOURCE", 1);
    this.fire();
  }

  /** Interrupts if a message waits and nothing keeps it back. */
  fire(): void {
    if (this.status !== 0 && this.#vector >= 0) this.#interrupts.raise(this.#vector);
  }

  /** IFC_INT_STATUS. */
  get status(): number {
    return this.#bank.get("IFC_INT_SOURCE") & ~this.#bank.get("IFC_INT_MASK") & 1;
  }

  /** IFC_INT_SOURCE was written, and is `source` now: the oldest message may be acknowledged. */
  acknowledge(source: number): void {
    if (source !== 0 || this.#state.messages === 0) return;
    this.#state.dropMessage();
    if (this.#state.messages > 0) this.#announce();
  }

  /** IFC_INT_SET was written: the PF takes the message at once. */
  send(set: number): void {
    if ((set & 1) === 0) return;
    this.#pf.receive(this.#vf, this.#state.outgoingMessage, this.#state.outgoingData);
  }
}
