/**
 * How much memory a QEMU leaves for the time when no vCPU runs. It is told a time, 300 ms by
 * default, and stops the VM as soon as what is left would be copied in that. For a VM whose devices
 * take some milliseconds that is the largest share by far, and one pass more makes it small.
 */
import { messageOf } from "../base/errors.ts";
import type { Qemu } from "./qemu.ts";

/** What it is at first, in milliseconds: less than QEMU takes for the rest of a VM. */
export const firstLimitMs = 2;
/** Passes over memory with the first limit: the first one takes all of it, most others little. */
const patientPasses = 10;

/** The limit in the pass with this number, of a QEMU that was given `ownMs` by its operator. */
export const limitIn = (pass: number, ownMs: number): number =>
  Math.min(ownMs, firstLimitMs * 2 ** Math.max(0, pass - patientPasses));

/** The limit of one QEMU while it migrates; its operator's comes back in the end. */
export class DowntimeLimit {
  readonly #qemu: Qemu;
  /** What the operator has set; null until it is known. */
  #ownMs: number | null = null;
  #nowMs = 0;

  constructor(qemu: Qemu) {
    this.#qemu = qemu;
  }

  /** Sets the first one, before memory is copied. */
  async begin(): Promise<void> {
    this.#ownMs = await this.#qemu.downtimeLimit();
    await this.#set(limitIn(1, this.#ownMs));
  }

  async #set(limitMs: number): Promise<void> {
    if (limitMs === this.#nowMs) return;
    await this.#qemu.setDowntimeLimit(limitMs);
    this.#nowMs = limitMs;
  }

  /**
   * A VM that writes faster than its memory is copied would never stop: after some passes each one
   * doubles the limit, up to the operator's own, with which it stops as it ever did.
   */
  async follow(enough: AbortSignal, note: (why: string) => void): Promise<void> {
    const own = this.#ownMs ?? 0;
    const raise = async (pass: number): Promise<void> => await this.#set(limitIn(pass, own));
    await this.#qemu.eachPass(raise, enough).catch((thrown: unknown) => {
      if (!enough.aborted) note(`its limit for the time when no vCPU runs: ${messageOf(thrown)}`);
    });
  }

  /** Undoes `begin`. */
  async end(): Promise<void> {
    if (this.#ownMs !== null) await this.#set(this.#ownMs);
  }
}
