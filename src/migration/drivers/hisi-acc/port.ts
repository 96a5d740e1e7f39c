import { errno } from "../../../base/errno.ts";
import type { VfioDevice } from "../../../device/vfio-device.ts";
import {
  DoorbellCommand,
  DoorbellHigh,
  DoorbellLow,
  DoorbellPriority,
  Qm,
  qmBar,
} from "../../../spec/hisi-qm.ts";
import type { Step } from "../../driver.ts";

/** The mailbox that silicon shares with the guest, or one of the control half's own. */
export type Mailboxes = "MAILBOX" | "CONTROL_MAILBOX";
type Name = keyof typeof Qm.registers;

const mailboxDwords = 4;
const dwordBytes = 4;

/**
 * The registers of a function, by its control plane. An access that the device refuses gives 0, and
 * is remembered: whoever made several of them looks at `result` in the end.
 */
export class QmPort {
  #failed = false;
  readonly #control: VfioDevice;
  readonly #bytes = new Uint8Array(mailboxDwords * dwordBytes);
  readonly #view = new DataView(this.#bytes.buffer);

  constructor(control: VfioDevice) {
    this.#control = control;
  }

  #note(result: number): void {
    if (result < 0) this.#failed = true;
  }

  /** A clean start, before accesses that belong together. */
  begin(): void {
    this.#failed = false;
  }

  read(name: Name, index = 0): number {
    const at = Qm.at[name] + dwordBytes * index;
    this.#view.setUint32(0, 0, true);
    this.#note(this.#control.read(qmBar, at, this.#bytes, 0, dwordBytes));
    return this.#view.getUint32(0, true);
  }

  /** Waits while a register has any of these bits, or until an access is refused: `result`. */
  *whileSet(name: Name, bits = 0xffff_ffff): Step {
    while ((this.read(name) & bits) !== 0 && this.result === 0) yield;
    return this.result;
  }

  /** A row of registers. */
  readRow(name: Name, count: number): number[] {
    return Array.from({ length: count }, (_, index) => this.read(name, index));
  }

  write(name: Name, value: number, index = 0): void {
    this.#view.setUint32(0, value, true);
    const at = Qm.at[name] + dwordBytes * index;
    this.#note(this.#control.write(qmBar, at, this.#bytes, 0, dwordBytes));
  }

  writeRow(name: Name, values: readonly number[]): void {
    for (const [index, value] of values.entries()) this.write(name, value, index);
  }

  /** Registers that lie in a row, as bytes: as many as there is room for. */
  readBytes(name: Name, bytes: Uint8Array): void {
    this.#note(this.#control.read(qmBar, Qm.at[name], bytes, 0, bytes.length));
  }

  writeBytes(name: Name, bytes: Uint8Array): void {
    this.#note(this.#control.write(qmBar, Qm.at[name], bytes, 0, bytes.length));
  }

  /**
   * The 128 bits of a mailbox as one access, so that no part of it is seen without the others. What
   * was written to memory before is there before: here a call returns when the device has taken it.
   */
  writeMailbox(name: Mailboxes, words: readonly number[]): void {
    for (const [index, word] of words.entries()) {
      this.#view.setUint32(dwordBytes * index, word, true);
    }
    this.#note(this.#control.write(qmBar, Qm.at[name], this.#bytes, 0, dwordBytes * words.length));
  }

  readMailbox(name: Mailboxes): number[] {
    const { length } = this.#bytes;
    const result = this.#control.read(qmBar, Qm.at[name], this.#bytes, 0, length);
    this.#note(result);
    return Array.from({ length: mailboxDwords }, (_, index) =>
      result < 0 ? 0 : this.#view.getUint32(dwordBytes * index, true),
    );
  }

  #ring(name: "QUEUE_DOORBELL" | "EVENT_DOORBELL", low: number, high: number): void {
    this.#view.setUint32(0, low, true);
    this.#view.setUint32(dwordBytes, high, true);
    this.#note(this.#control.write(qmBar, Qm.at[name], this.#bytes, 0, 2 * dwordBytes));
  }

  /** Tells a queue to go on where it stood. */
  resume(queue: number): void {
    const low = DoorbellLow.pack({ queue, command: DoorbellCommand.sq });
    this.#ring("QUEUE_DOORBELL", low, DoorbellHigh.pack({ priority: DoorbellPriority.resume }));
  }

  /** Tells an event queue how far its consumer is: it raises its interrupt if there is more. */
  ringEvent(queue: "eq" | "aeq", index: number): void {
    const low = DoorbellLow.pack({ command: DoorbellCommand[queue] });
    this.#ring("EVENT_DOORBELL", low, DoorbellHigh.pack({ index }));
  }

  /** EIO when an access was refused since `begin`. */
  get result(): number {
    return this.#failed ? -errno.EIO : 0;
  }
}
