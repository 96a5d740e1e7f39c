import type { Hooks, RegisterBank } from "../base/register-bank.ts";
import type { Registers, RegisterTable } from "../base/registers.ts";
import type { BarShape } from "./config-space.ts";
import type { DeviceState } from "./device-state.ts";
import type { Shadow } from "./shadow.ts";
import type { MmapOffer } from "./vfio-device.ts";

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
type AnyBank = Pick<
  RegisterBank<Registers>,
  "read" | "write" | "reset" | "describe" | "quietOffset"
>;

/**
 * What a base address register leads to: plain memory in the device's state, with registers over
 * its start where the device has some. Memory that clients may map has a shadow in front of it.
 */
export class Bar {
  /** Bytes. */
  readonly size: number;
  /** What clients map; null when they cannot. */
  readonly shadow: Shadow | null;
  readonly #state: DeviceState;
  readonly #space: BarShape["space"];
  #at: number;
  #bank: AnyBank | null = null;
  #bankBytes = 0;
  /** False while the memory behind the registers is known to be zero. */
  #touched = false;

  /** `at` is the place in the state of what is shown first. */
  constructor(state: DeviceState, at: number, { size, space }: BarShape, shadow: Shadow | null) {
    this.#state = state;
    this.#at = at;
    this.#space = space;
    this.size = size;
    this.shadow = shadow;
  }

  /** Descriptor of the file behind it; -1 when clients cannot map it. */
  get fd(): number {
    return this.shadow?.fd ?? -1;
  }

  /** What clients may map; the file is another one once one was taken. */
  offer(areas: MmapOffer["areas"]): MmapOffer {
    const fdOf = (): number => this.fd;
    return {
      offset: 0,
      areas,
      get fd(): number {
        return fdOf();
      },
    };
  }

  /** Lays registers over the start. */
  lay<T extends Registers>(table: RegisterTable<T>, hooks: Hooks<T>): RegisterBank<T> {
    const bank = table.bank(this.#state.view, this.#at, hooks);
    this.#bank = bank as AnyBank;
    this.#bankBytes = table.size;
    return bank;
  }

  /** Shows another part of the state, from `at` on: a window on more than fits. */
  turn(at: number): void {
    this.#at = at;
  }

  /** The offset of a word of memory that is read by a message, without effect; -1 for none. */
  get quietOffset(): number {
    if (this.shadow !== null || this.#space === "io") return -1;
    return this.#bank === null ? 0 : this.#bank.quietOffset;
  }

  /** The memory behind the registers. */
  get #memory(): Uint8Array {
    return this.shadow?.live === true ? this.shadow.bytes : this.#state.bytes;
  }

  /** Where the BAR starts in it. */
  get #start(): number {
    return this.shadow?.live === true ? 0 : this.#at;
  }

  /** Reads `count` bytes at `offset`; the caller has checked the range. */
  read(offset: number, bytes: Uint8Array, at: number, count: number): void {
    const registers = Math.max(0, Math.min(count, this.#bankBytes - offset));
    if (registers > 0) this.#bank?.read(offset, bytes, at, registers);
    if (registers === count) return;
    const from = this.#start + offset + registers;
    copyBytes(this.#memory, from, bytes, at + registers, count - registers);
  }

  /** Writes, likewise. */
  write(offset: number, bytes: Uint8Array, at: number, count: number): void {
    const registers = Math.max(0, Math.min(count, this.#bankBytes - offset));
    if (registers > 0) this.#bank?.write(offset, bytes, at, registers);
    if (registers === count) return;
    this.#touched = true;
    const to = this.#start + offset + registers;
    copyBytes(bytes, at + registers, this.#memory, to, count - registers);
  }

  /** Power-on: registers to their reset values, memory to zero. */
  reset(): void {
    this.#bank?.reset();
    this.shadow?.clear();
    if (!this.#touched && this.shadow === null) return;
    this.#state.clear(this.#at + this.#bankBytes, this.#at + this.size);
    this.#touched = false;
  }

  /** The state is to be read: what clients have stored so far is a part of it. */
  capture(): void {
    this.shadow?.capture(this.#bankBytes, this.size);
  }

  /** The device stops: from here on no client's store changes it. */
  stop(): void {
    this.capture();
    this.shadow?.part();
  }

  /** The device runs: clients see what it has, and share it again. */
  start(): void {
    this.shadow?.show(this.#bankBytes, this.size);
    this.shadow?.join();
  }

  /** The state was replaced from outside. */
  restored(): void {
    this.#touched = true;
    if (this.shadow?.live === true) this.start();
  }

  describe(): ReturnType<AnyBank["describe"]> {
    return this.#bank?.describe() ?? [];
  }
}
