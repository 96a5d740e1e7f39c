// The control function: its registers by their names, and the memory that it moves things through.
import { errno, HostMemory } from "vfio-ferry";
import { BulkControl } from "vfio-ferry/devices/bulk";

const bar = 0;
/** What one section is at most, and the room in front of its pages for its head. */
export const slotBytes = 1 << 20;
export const headRoom = 4096;
/** Two, so that what was lent last is still whole while the next section is made. */
const slots = 2;
const hostAddress = 0x10_0000;
/**
 * Turns that a command may take when there is nobody else to give them: a board of 2 GiB is looked
 * through in 32.
 */
const turnsMax = 256;

export class Control {
  #device;
  #memory = new HostMemory(slots * slotBytes);
  #slot = 0;
  #bytes = new Uint8Array(8);
  #view = new DataView(this.#bytes.buffer);

  /** @param {import("vfio-ferry").VfioDevice} device */
  constructor(device) {
    this.#device = device;
    device.mapDma(this.#memory.mapping(hostAddress));
  }

  get(name) {
    const { size = 4 } = BulkControl.registers[name];
    this.#device.read(bar, BulkControl.at[name], this.#bytes, 0, size);
    const low = this.#view.getUint32(0, true);
    return size === 4 ? low : low + this.#view.getUint32(4, true) * 2 ** 32;
  }

  set(name, value) {
    const { size = 4 } = BulkControl.registers[name];
    this.#view.setUint32(0, value % 2 ** 32, true);
    this.#view.setUint32(4, Math.floor(value / 2 ** 32), true);
    this.#device.write(bar, BulkControl.at[name], this.#bytes, 0, size);
  }

  /** Turns to another slot. */
  turn() {
    this.#slot = (this.#slot + 1) % slots;
  }

  /** `length` bytes of the slot: where they can be seen, and where they can be sent from. */
  piece(at, length) {
    const start = this.#slot * slotBytes + at;
    return {
      bytes: this.#memory.bytes.subarray(start, start + length),
      address: this.#memory.address + start,
    };
  }

  /** Begins a command about a part of the board, and the slot's bytes from `headRoom` on. */
  begin(command, offset = 0, length = 0) {
    this.set("BOARD_OFFSET", offset);
    this.set("LENGTH", length);
    this.set("HOST_ADDRESS", hostAddress + this.#slot * slotBytes + headRoom);
    this.set("COMMAND", command);
  }

  /** The result of the command that was begun: 0 or a negated errno; null while there is none. */
  get result() {
    const result = this.get("RESULT");
    if (result === errno.EINPROGRESS) return null;
    return result === 0 ? 0 : -result;
  }

  /** Does a command at once. */
  run(command, offset, length) {
    this.begin(command, offset, length);
    for (let turns = 0; turns < turnsMax; turns++) {
      const { result } = this;
      if (result !== null) return result;
      this.#device.work();
    }
    return -errno.ETIMEDOUT;
  }

  /** Does a command in turns that others give. */
  *command(command, offset, length) {
    this.begin(command, offset, length);
    for (;;) {
      const { result } = this;
      if (result !== null) return result;
      yield;
    }
  }

  /** Makes the device run, begin nothing, or stand still. */
  *pause(level) {
    this.set("PAUSE", level);
    while (this.get("PAUSED") !== level) yield;
    return 0;
  }
}
