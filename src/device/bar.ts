import type { Hooks, RegisterBank } from "../base/register-bank.ts";
import type { Registers, RegisterTable } from "../base/registers.ts";
import type { DeviceState } from "./device-state.ts";

/** Up to here a loop over the bytes is faster than a view and a copy. */
const loopBytes = 64;

/** Copies bytes between buffers that do not overlap. */
export function copyBytes(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  at: number,
  count: number,
): void {
  if (count > loopBytes) {
    target.set(source.subarray(from, from + count), at);
    return;
  }
  for (let i = 0; i < count; i++) target[at + i] = source[from + i] as number;
}

/** A live register bank, whatever its table. */
type AnyBank = Pick<RegisterBank<Registers>, "read" | "write" | "reset" | "describe">;

/**
 * What a base address register leads to: plain memory in the device's state, with registers over
 * its start where the device has some.
 */
export class Bar {
  /** Bytes. */
  readonly size: number;
  /** Descriptor of the file behind it; -1 when clients cannot map it. */
  readonly fd: number;
  readonly #state: DeviceState;
  readonly #at: number;
  #bank: AnyBank | null = null;
  #bankBytes = 0;
  /** False while the memory behind the registers is known to be zero. */
  #touched = false;

  /** `at` is the place in the state; `fd` what the state shares there, or -1. */
  constructor(state: DeviceState, at: number, size: number, fd: number) {
    this.#state = state;
    this.#at = at;
    this.size = size;
    this.fd = fd;
  }

  /** Lays registers over the start. */
  lay<T extends Registers>(table: RegisterTable<T>, hooks: Hooks<T>): RegisterBank<T> {
    const bank = table.bank(this.#state.view, this.#at, hooks);
    this.#bank = bank as AnyBank;
    this.#bankBytes = table.size;
    return bank;
  }

  /** Reads `count` bytes at `offset`; the caller has checked the range. */
  read(offset: number, bytes: Uint8Array, at: number, count: number): void {
    const registers = Math.max(0, Math.min(count, this.#bankBytes - offset));
    if (registers > 0) this.#bank?.read(offset, bytes, at, registers);
    if (registers === count) return;
    const from = this.#at + offset + registers;
    copyBytes(this.#state.bytes, from, bytes, at + registers, count - registers);
  }

  /** Writes, likewise. */
  write(offset: number, bytes: Uint8Array, at: number, count: number): void {
    const registers = Math.max(0, Math.min(count, this.#bankBytes - offset));
    if (registers > 0) this.#bank?.write(offset, bytes, at, registers);
    if (registers === count) return;
    this.#touched = true;
    const to = this.#at + offset + registers;
    copyBytes(bytes, at + registers, this.#state.bytes, to, count - registers);
  }

  /** Power-on: registers to their reset values, memory to zero. */
  reset(): void {
    this.#bank?.reset();
    if (!this.#touched && this.fd < 0) return;
    this.#state.bytes.fill(0, this.#at + this.#bankBytes, this.#at + this.size);
    this.#touched = false;
  }

  /** The state was replaced from outside. */
  restored(): void {
    this.#touched = true;
  }

  describe(): ReturnType<AnyBank["describe"]> {
    return this.#bank?.describe() ?? [];
  }
}
