import type { IrqRequest, VfioDevice } from "../device/vfio-device.ts";
import { Wrapper } from "../device/wrapper.ts";
import type { MessageDma } from "../memory/transfer.ts";
import { IrqSetFlags } from "../spec/vfio.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";

const { dataEventfd, actionTrigger } = IrqSetFlags.mask;

/**
 * A device that a driver keeps while it moves to another host: the driver's calls go to where it is
 * at the moment. A VMM's wiring is not a part of a device's state, so it is done again at the new
 * place, as a VMM there would do it.
 */
export class MovableDevice extends Wrapper {
  /** What was wired last, by interrupt index, with eventfds of our own. */
  readonly #wired = new Map<number, IrqRequest>();
  #messages: MessageDma | null = null;

  override attach(messages: MessageDma | null): void {
    this.#messages = messages;
    this.inner.attach(messages);
  }

  override setIrqs(request: IrqRequest): number {
    const wires = (request.data & dataEventfd) !== 0 && (request.action & actionTrigger) !== 0;
    const kept = wires ? { ...request, fds: request.fds.map(duplicate) } : null;
    const result = this.inner.setIrqs(request);
    if (result >= 0 && kept !== null) this.#keep(kept);
    else for (const fd of kept?.fds ?? []) closeFd(fd);
    return result;
  }

  #keep(request: IrqRequest): void {
    for (const fd of this.#wired.get(request.index)?.fds ?? []) closeFd(fd);
    this.#wired.set(request.index, request);
  }

  /** Wires a device of another host as this one is: 0 or a negated errno. */
  wireThere(device: VfioDevice): number {
    device.attach(this.#messages);
    for (const request of this.#wired.values()) {
      const result = device.setIrqs({ ...request, fds: request.fds.map(duplicate) });
      if (result < 0) return result;
    }
    return 0;
  }

  /** From here on calls go there; gives back the device that was here. */
  moveTo(device: VfioDevice): VfioDevice {
    const before = this.inner;
    this.inner = device;
    return before;
  }

  /** Closes what was kept of the wiring. */
  forget(): void {
    for (const { fds } of this.#wired.values()) for (const fd of fds) closeFd(fd);
    this.#wired.clear();
  }
}
