import { errno } from "../base/errno.ts";
import { IrqSetFlags, PciIrq } from "../spec/vfio.ts";
import { closeFd, drainEventfd, signalEventfd } from "../sys/descriptors.ts";
import { closeAll, names } from "./irq-request.ts";
import type { IrqRequest, IrqWire, Watch } from "./vfio-device.ts";

const { mask: flag } = IrqSetFlags;

/**
 * The INTx pin. Whether it is asserted is a fact that the device states; each time the client's
 * eventfd is signalled the line is masked (`AUTOMASKED`), and when it is unmasked while it is still
 * asserted, it is signalled again.
 */
export class IntxLine {
  /** The unmask eventfd to poll; a new array whenever it changes. */
  watches: readonly Watch[] = [];
  readonly #view: DataView;
  readonly #at: number;
  readonly #holds: () => boolean;
  #trigger = -1;
  #unmask = -1;
  #masked = false;

  /** The level is 4 bytes of state; `holds` says whether the function itself keeps silent. */
  constructor(view: DataView, at: number, holds: () => boolean) {
    this.#view = view;
    this.#at = at;
    this.#holds = holds;
  }

  get asserted(): boolean {
    return this.#view.getUint32(this.#at, true) !== 0;
  }

  /** Was the client signalled, and has it not unmasked the line since? */
  get isUp(): boolean {
    return this.#trigger >= 0 && this.#masked;
  }

  /** States the level; it is signalled when it is, or stays, asserted and unmasked. */
  setLevel(asserted: boolean): void {
    this.#view.setUint32(this.#at, Number(asserted), true);
    this.deliver();
  }

  /** Signals when the line is asserted and nothing holds it back. */
  deliver(): void {
    if (this.#trigger < 0 || this.#masked || !this.asserted || this.#holds()) return;
    this.#masked = true;
    signalEventfd(this.#trigger);
  }

  set(request: IrqRequest): number {
    const wires = request.data === flag.dataEventfd;
    const named = names(request, 0);
    switch (request.action) {
      case flag.actionTrigger:
        if (wires) this.#wire(request.fds[0] ?? -1);
        else if (request.count === 0) this.unwire();
        else if (named && this.#trigger >= 0) signalEventfd(this.#trigger);
        break;
      case flag.actionMask:
        if (wires) {
          closeAll(request);
          return -errno.EINVAL;
        }
        if (named) this.#masked = true;
        break;
      case flag.actionUnmask:
        if (wires) this.#watch(request.fds[0] ?? -1);
        else if (named) this.#masked = false;
        break;
      default:
        return -errno.EINVAL;
    }
    this.deliver();
    return 0;
  }

  #wire(fd: number): void {
    closeFd(this.#trigger);
    this.#trigger = fd;
    this.#masked = false;
  }

  #watch(fd: number): void {
    closeFd(this.#unmask);
    this.#unmask = fd;
    const ready = () => {
      if (drainEventfd(fd) <= 0) return;
      this.#masked = false;
      this.deliver();
    };
    this.watches = fd < 0 ? [] : [{ fd, ready }];
  }

  /** Takes the eventfds and the mask away; the level stays. */
  unwire(): void {
    this.#wire(-1);
    this.#watch(-1);
  }

  /** The same, leaving the eventfds open: somebody else has them now. */
  release(): void {
    this.#trigger = -1;
    this.#unmask = -1;
    this.unwire();
  }

  /** The wiring as plain data. */
  wires(): IrqWire[] {
    if (this.#trigger < 0 && this.#unmask < 0 && !this.#masked) return [];
    const { intx: index } = PciIrq;
    const trigger = this.#trigger;
    return [{ index, vector: 0, trigger, unmask: this.#unmask, masked: this.#masked }];
  }

  rewire({ trigger, unmask, masked }: IrqWire): void {
    this.#wire(trigger);
    this.#watch(unmask);
    this.#masked = masked;
  }
}
