import { errno } from "../base/errno.ts";
import { IrqSetFlags } from "../spec/vfio.ts";
import { closeFd, signalEventfd } from "../sys/descriptors.ts";
import { closeAll, names } from "./irq-request.ts";
import type { IrqRequest, IrqWire } from "./vfio-device.ts";

const { mask: flag } = IrqSetFlags;

/** Vectors whose pending bits share a word. */
const wordVectors = 32;

/** Bytes of state that the pending bits of so many vectors take. */
export const pendingBytes = (vectors: number): number => 4 * Math.ceil(vectors / wordVectors);

/**
 * The vectors of one interrupt index that sends messages: MSI, MSI-X, ERR, REQ. A vector that is
 * raised while it is masked or has no eventfd stays pending, and fires as soon as it can. Pending
 * bits are the device's state; eventfds and masks are the client's wiring.
 */
export class IrqVectors {
  readonly index: number;
  readonly count: number;
  /** The highest vector with an eventfd, and one. */
  wired = 0;
  readonly #fds: Int32Array;
  readonly #masked: Uint8Array;
  readonly #view: DataView;
  readonly #at: number;
  readonly #holds: (vector: number) => boolean;

  /** `holds` says whether the function itself keeps a vector back, by masks in its capability. */
  constructor(
    index: number,
    count: number,
    view: DataView,
    at: number,
    holds: (vector: number) => boolean,
  ) {
    this.index = index;
    this.count = count;
    this.#fds = new Int32Array(count).fill(-1);
    this.#masked = new Uint8Array(count);
    this.#view = view;
    this.#at = at;
    this.#holds = holds;
  }

  raise(vector: number): void {
    const fd = this.#fds[vector] ?? -1;
    if (fd < 0 || this.#masked[vector] !== 0 || this.#holds(vector)) this.#setPending(vector);
    else signalEventfd(fd);
  }

  /** Pending bits of 32 vectors. */
  pendingWord(word: number): number {
    return this.#view.getUint32(this.#at + 4 * word, true);
  }

  #setPending(vector: number): void {
    if (vector >= this.count) return;
    const at = this.#at + 4 * (vector >>> 5);
    this.#view.setUint32(at, this.#view.getUint32(at, true) | (1 << (vector & 31)), true);
  }

  /** Fires what is pending and can be sent. */
  deliver(): void {
    for (let first = 0; first < this.count; first += wordVectors) {
      const at = this.#at + 4 * (first >>> 5);
      const word = this.#view.getUint32(at, true);
      if (word === 0) continue;
      this.#view.setUint32(at, 0, true);
      for (let bit = 0; bit < wordVectors; bit++) {
        if ((word & (1 << bit)) !== 0) this.raise(first + bit);
      }
    }
  }

  set(request: IrqRequest): number {
    const wires = request.data === flag.dataEventfd;
    switch (request.action) {
      case flag.actionTrigger:
        if (wires) this.#wire(request);
        else if (request.count === 0) this.disable();
        else this.#trigger(request);
        break;
      case flag.actionMask:
      case flag.actionUnmask:
        if (wires) {
          closeAll(request);
          return -errno.EINVAL;
        }
        this.#mask(request, request.action === flag.actionMask);
        break;
      default:
        return -errno.EINVAL;
    }
    this.deliver();
    return 0;
  }

  #wire({ start, count, fds }: IrqRequest): void {
    for (let i = 0; i < count; i++) this.#replace(start + i, fds[i] ?? -1);
    this.#countWired();
  }

  #replace(vector: number, fd: number): void {
    closeFd(this.#fds[vector] ?? -1);
    this.#fds[vector] = fd;
  }

  #countWired(): void {
    this.wired = this.#fds.findLastIndex((fd) => fd >= 0) + 1;
  }

  #trigger(request: IrqRequest): void {
    for (let vector = request.start; vector < request.start + request.count; vector++) {
      if (names(request, vector) && (this.#fds[vector] ?? -1) >= 0) this.raise(vector);
    }
  }

  #mask(request: IrqRequest, masked: boolean): void {
    for (let vector = request.start; vector < request.start + request.count; vector++) {
      if (names(request, vector)) this.#masked[vector] = Number(masked);
    }
  }

  /** Takes all eventfds and masks away, and forgets what is pending. */
  disable(): void {
    this.unwire();
    this.forget();
  }

  /** Takes all eventfds and masks away. */
  unwire(): void {
    for (let vector = 0; vector < this.wired; vector++) this.#replace(vector, -1);
    this.release();
  }

  /** The same, leaving the eventfds open: somebody else has them now. */
  release(): void {
    this.#fds.fill(-1);
    this.#masked.fill(0);
    this.wired = 0;
  }

  forget(): void {
    for (let byte = 0; byte < pendingBytes(this.count); byte++) {
      this.#view.setUint8(this.#at + byte, 0);
    }
  }

  /** The wiring as plain data. */
  wires(): IrqWire[] {
    const { index } = this;
    return Array.from(this.#fds, (trigger, vector) => {
      const masked = this.#masked[vector] !== 0;
      return { index, vector, trigger, unmask: -1, masked };
    }).filter(({ trigger, masked }) => trigger >= 0 || masked);
  }

  rewire({ vector, trigger, masked }: IrqWire): void {
    this.#replace(vector, trigger);
    this.#masked[vector] = Number(masked);
    this.#countWired();
  }
}
