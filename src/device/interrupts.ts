import { errno } from "../base/errno.ts";
import { InterruptPin } from "../spec/pci.ts";
import { Msi64, Msix } from "../spec/pci-capabilities.ts";
import { IrqFlags, PciIrq } from "../spec/vfio.ts";
import { adoptEventfd } from "../sys/descriptors.ts";
import type { ConfigSpace, FunctionDescription } from "./config-space.ts";
import { IntxLine } from "./intx-line.ts";
import { closeAll } from "./irq-request.ts";
import { IrqVectors, pendingBytes } from "./irq-vectors.ts";
import type { Irq, IrqRequest, IrqWire, Watch } from "./vfio-device.ts";

/** Vectors that a function has. */
export interface InterruptCounts {
  /** 0 or 1. */
  readonly intx: number;
  readonly msi: number;
  readonly msix: number;
}

const { eventfd, maskable, automasked } = IrqFlags.mask;
/** Trouble (ERR) and the wish to have the device back (REQ): one vector each. */
const noticeVectors = 1;
const levelBytes = 4;

/** What a function has by its interrupt pin and its capabilities. */
export function interruptCounts(
  description: Pick<FunctionDescription, "interruptPin" | "capabilities">,
): InterruptCounts {
  const control = (name: string): number | undefined =>
    description.capabilities.find((each) => each.name === name)?.registers["MESSAGE_CONTROL"]
      ?.reset;
  const msi = control("msi");
  const msix = control("msix");
  const capable = Msi64.bits.MESSAGE_CONTROL.unpack(msi ?? 0).multipleMessageCapable;
  const last = Msix.bits.MESSAGE_CONTROL.unpack(msix ?? 0).lastVector;
  return {
    intx: description.interruptPin === InterruptPin.none ? 0 : 1,
    msi: msi === undefined ? 0 : 2 ** capable,
    msix: msix === undefined ? 0 : last + 1,
  };
}

/** Bytes of state that interrupts take: the INTx level, then the pending bits index by index. */
export const interruptBytes = ({ msi, msix }: InterruptCounts): number =>
  levelBytes + pendingBytes(msi) + pendingBytes(msix) + 2 * pendingBytes(noticeVectors);

/**
 * All interrupts of a function. A device says what is: the level of its line, and that the cause of
 * a vector occurred. What the guest gets of it depends on the mechanism that is enabled, by its
 * capability or by an eventfd of the client's: MSI-X before MSI before INTx.
 */
export class Interrupts {
  /** As DEVICE_GET_IRQ_INFO tells them. */
  readonly irqs: readonly Irq[];
  readonly #config: ConfigSpace;
  readonly #intx: IntxLine;
  readonly #msi: IrqVectors;
  readonly #msix: IrqVectors;
  readonly #all: readonly (IntxLine | IrqVectors)[];
  #stopped = false;
  #lineHeld = false;

  /** `interruptBytes(counts)` bytes of `view` from `at` are the state. */
  constructor(counts: InterruptCounts, config: ConfigSpace, view: DataView, at: number) {
    this.#config = config;
    const messages = { flags: eventfd };
    this.irqs = [
      { count: counts.intx, flags: eventfd | maskable | automasked },
      { count: counts.msi, ...messages },
      { count: counts.msix, ...messages },
      { count: noticeVectors, ...messages },
      { count: noticeVectors, ...messages },
    ];
    const stopped = () => this.#stopped;
    const msiAt = at + levelBytes;
    const msixAt = msiAt + pendingBytes(counts.msi);
    const errAt = msixAt + pendingBytes(counts.msix);
    const reqAt = errAt + pendingBytes(noticeVectors);
    const holdsLine = () =>
      this.#stopped || this.#lineHeld || config.interruptDisabled || this.#messages !== null;
    const holdsMsi = (vector: number) => this.#stopped || config.msiMasked(vector);
    const holdsMsix = () => this.#stopped || config.msixMasked;
    this.#intx = new IntxLine(view, at, holdsLine);
    this.#msi = new IrqVectors(PciIrq.msi, counts.msi, view, msiAt, holdsMsi);
    this.#msix = new IrqVectors(PciIrq.msix, counts.msix, view, msixAt, holdsMsix);
    const err = new IrqVectors(PciIrq.err, noticeVectors, view, errAt, stopped);
    const req = new IrqVectors(PciIrq.req, noticeVectors, view, reqAt, stopped);
    this.#all = [this.#intx, this.#msi, this.#msix, err, req];
  }

  /** The vectors that send messages at the moment; null when the line does, or nothing. */
  get #messages(): IrqVectors | null {
    if (this.#msix.wired > 0 || this.#config.msixEnabled) return this.#msix;
    return this.#msi.wired > 0 || this.#config.msiEnabled ? this.#msi : null;
  }

  /** Vectors that the client takes messages of; 0 while there is only the line. */
  get vectors(): number {
    return this.#messages?.wired ?? 0;
  }

  /** The cause of a vector occurred. Without messages it is for the line to say. */
  raise(vector: number): void {
    this.#messages?.raise(vector);
  }

  /** Says whether the device has a cause for INTx that was not acknowledged. */
  setLine(asserted: boolean): void {
    this.#config.setInterruptStatus(asserted);
    this.#intx.setLevel(asserted);
  }

  /** Is INTx asserted, whether or not the guest gets to know? */
  get line(): boolean {
    return this.#intx.asserted;
  }

  /** Keeps the line from being signalled, or lets it be; tells whether it is up for the client. */
  holdLine(held: boolean): boolean {
    this.#lineHeld = held;
    this.#intx.deliver();
    return this.#intx.isUp;
  }

  /** While the device is stopped for migration nothing is sent; what is raised stays pending. */
  stop(): void {
    this.#stopped = true;
  }

  /** Sends what became pending while the device was stopped. */
  start(): void {
    this.#stopped = false;
    this.update();
  }

  /** The function's own masks or enables changed: what was held back by them is sent. */
  update(): void {
    for (const each of this.#all) each.deliver();
  }

  /** Raises the only vector of `PciIrq.err` or `PciIrq.req`. */
  notify(index: typeof PciIrq.err | typeof PciIrq.req): void {
    (this.#all[index] as IrqVectors).raise(0);
  }

  /** Pending bits of MSI, as its capability shows them. */
  get msiPending(): number {
    return this.#msi.count === 0 ? 0 : this.#msi.pendingWord(0);
  }

  setIrqs(request: IrqRequest): number {
    const irq = this.irqs[request.index];
    const fits = irq !== undefined && request.start + request.count <= irq.count;
    if (!fits || !request.fds.every(adoptEventfd)) {
      closeAll(request);
      return -errno.EINVAL;
    }
    const result = (this.#all[request.index] as IntxLine | IrqVectors).set(request);
    // Without messages it is the line's turn again.
    this.#intx.deliver();
    return result;
  }

  get watches(): readonly Watch[] {
    return this.#intx.watches;
  }

  /** The state was replaced from outside: what it says is pending is sent when it can be. */
  restored(): void {
    this.setLine(this.#intx.asserted);
    this.update();
  }

  /** Power-on: nothing is asserted or pending; the wiring stays. */
  reset(): void {
    this.setLine(false);
    for (const each of this.#all) if (each instanceof IrqVectors) each.forget();
  }

  /** The client is gone: closes its eventfds. */
  unwire(): void {
    for (const each of this.#all) each.unwire();
  }

  /** The same, leaving the eventfds open: somebody else has them now. */
  release(): void {
    for (const each of this.#all) each.release();
  }

  /** The wiring as plain data. */
  wires(): IrqWire[] {
    return this.#all.flatMap((each) => each.wires());
  }

  /** Takes wiring over; EINVAL for what does not fit, and then nothing was taken. */
  rewire(wires: readonly IrqWire[]): number {
    const fits = ({ index, vector }: IrqWire) => vector < (this.irqs[index]?.count ?? 0);
    if (!wires.every(fits)) return -errno.EINVAL;
    for (const { trigger, unmask } of wires) {
      adoptEventfd(trigger);
      adoptEventfd(unmask);
    }
    for (const wire of wires) this.#all[wire.index]?.rewire(wire);
    this.update();
    return 0;
  }
}
