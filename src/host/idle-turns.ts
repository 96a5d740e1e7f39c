import type { VfioDevice } from "../device/vfio-device.ts";
import { POLLIN } from "../sys/constants.ts";
import { PollSet } from "../sys/poll.ts";

const watchesMax = 1024;

/**
 * Gives a device its turns while it has no client. Only a change of its migration state needs some
 * then: what is left of a guest's work waits, with the guest's memory, for the next client.
 */
export class IdleTurns {
  readonly #device: VfioDevice;
  readonly #poll = new PollSet(watchesMax);

  constructor(device: VfioDevice) {
    this.#device = device;
  }

  /** One turn; false when the device needs none. */
  turn(): boolean {
    const device = this.#device;
    if (device.moving !== true) return false;
    device.work();
    const { watches } = device;
    const watched = Math.min(watches.length, watchesMax);
    this.#poll.clear();
    for (let i = 0; i < watched; i++) this.#poll.add(watches[i]?.fd ?? -1, POLLIN);
    if (watched > 0 && this.#poll.wait(0) > 0) {
      for (let i = 0; i < watched; i++) if (this.#poll.ready(i) !== 0) watches[i]?.ready();
    }
    return true;
  }
}
