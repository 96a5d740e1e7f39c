import { readU53 } from "../../../base/struct.ts";
import { FunctionFaults, FunctionFlags, FunctionRecord, messagesMax } from "./state.ts";

const { offset } = FunctionRecord;

/** What the function remembers as a whole, in the state. */
export class FunctionState {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;

  constructor(bytes: Uint8Array) {
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** True when one of these `FunctionFlags` is set. */
  is(flags: number): boolean {
    return (this.#view.getUint32(offset.flags, true) & flags) !== 0;
  }

  set(flags: number, value: boolean): void {
    const others = this.#view.getUint32(offset.flags, true) & ~flags;
    this.#view.setUint32(offset.flags, value ? others | flags : others, true);
  }

  /** `FunctionFaults` since the last reset. */
  get faults(): number {
    return this.#view.getUint32(offset.faults, true);
  }

  addFault(fault: number): void {
    this.#view.setUint32(offset.faults, this.faults | fault, true);
  }

  clearFaults(): void {
    this.#view.setUint32(offset.faults, 0, true);
  }

  /** Guest address of the table of SQ contexts; 0 for none. */
  get sqcTable(): number {
    return readU53(this.#view, offset.sqcTable);
  }

  get cqcTable(): number {
    return readU53(this.#view, offset.cqcTable);
  }

  /** Addresses are kept as the 64 bits that they are, to be read back so. */
  setTable(table: "sqcTable" | "cqcTable", low: number, high: number): void {
    this.#view.setUint32(offset[table], low, true);
    this.#view.setUint32(offset[table] + 4, high, true);
  }

  tableLow(table: "sqcTable" | "cqcTable"): number {
    return this.#view.getUint32(offset[table], true);
  }

  tableHigh(table: "sqcTable" | "cqcTable"): number {
    return this.#view.getUint32(offset[table] + 4, true);
  }

  /** The VF's message to the PF. */
  setOutgoing(message: number, data: number): void {
    this.#view.setUint32(offset.outgoing, message, true);
    this.#view.setUint32(offset.outgoing + 4, data, true);
  }

  get outgoingMessage(): number {
    return this.#view.getUint32(offset.outgoing, true);
  }

  get outgoingData(): number {
    return this.#view.getUint32(offset.outgoing + 4, true);
  }

  /** PF messages that wait. */
  get messages(): number {
    return this.#view.getUint32(offset.messages, true);
  }

  /** The oldest one's number and data; 0 when there is none. */
  get incomingMessage(): number {
    return this.#view.getUint32(offset.incoming, true);
  }

  get incomingData(): number {
    return this.#view.getUint32(offset.incoming + 4, true);
  }

  /** All that wait, message and data of each, and zeroes behind them. */
  get incoming(): readonly number[] {
    return Array.from({ length: 2 * messagesMax }, (_, index) =>
      this.#view.getUint32(offset.incoming + 4 * index, true),
    );
  }

  /** Replaces all that wait by these, at most `messagesMax`. */
  setIncoming(words: readonly number[]): void {
    this.#view.setUint32(offset.messages, words.length / 2, true);
    for (let index = 0; index < 2 * messagesMax; index++) {
      this.#view.setUint32(offset.incoming + 4 * index, words[index] ?? 0, true);
    }
  }

  /** Puts a PF message behind the others; false when there is no room. */
  pushMessage(message: number, data: number): boolean {
    const count = this.messages;
    if (count >= messagesMax) return false;
    this.#view.setUint32(offset.incoming + 8 * count, message, true);
    this.#view.setUint32(offset.incoming + 8 * count + 4, data, true);
    this.#view.setUint32(offset.messages, count + 1, true);
    return true;
  }

  /** Drops the oldest one. */
  dropMessage(): void {
    const count = this.messages;
    if (count === 0) return;
    const end = offset.incoming + 8 * messagesMax;
    this.#bytes.copyWithin(offset.incoming, offset.incoming + 8, end);
    this.#bytes.fill(0, end - 8, end);
    this.#view.setUint32(offset.messages, count - 1, true);
  }

  /** Where `carve` keeps the bits of its base address register. */
  get carved(): Uint8Array {
    return this.#bytes.subarray(offset.carved, offset.carved + 4);
  }

  /** After the state was replaced: does it make sense? */
  fits(): boolean {
    const flags = this.#view.getUint32(offset.flags, true);
    const unknown = (flags & ~FunctionFlags.all) | (this.faults & ~FunctionFaults.all);
    return unknown === 0 && this.messages <= messagesMax;
  }

  reset(): void {
    this.#bytes.fill(0);
  }
}
