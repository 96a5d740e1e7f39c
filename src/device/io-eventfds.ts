import { closeFd, createEventfd, drainEventfd } from "../sys/descriptors.ts";
import type { IoEventfd, Watch, Wiring } from "./vfio-device.ts";

/** A place of a BAR that a client may write through an eventfd, as a model declares it. */
export interface IoEventfdDescription {
  readonly bar: number;
  readonly offset: number;
  /** Bytes of the write that the eventfd stands for: 1, 2, 4 or 8. */
  readonly size: number;
  /** The value written; null when any value will do, and zeroes are written. */
  readonly datamatch: bigint | null;
}

/** An eventfd of a parked device with the region that it belongs to. */
type IoWire = Wiring["ioEventfds"][number];

const valueBytesMax = 8;

/**
 * The eventfds that stand for writes to doorbells. They are made when a client asks for them.
 * Signals
 * that come faster than they are looked at count as one write, as doorbells do.
 */
export class IoEventfds {
  /** One for each eventfd that a client has. */
  watches: readonly Watch[] = [];
  readonly #descriptions: readonly IoEventfdDescription[];
  readonly #write: (bar: number, offset: number, value: Uint8Array, size: number) => void;
  #wires: readonly IoWire[] = [];

  constructor(
    descriptions: readonly IoEventfdDescription[],
    write: (bar: number, offset: number, value: Uint8Array, size: number) => void,
  ) {
    this.#descriptions = descriptions;
    this.#write = write;
  }

  /**
   * The eventfds of a region; made now if this is the first time. An eventfd that cannot be made is
   * -1.
   */
  of(region: number): readonly IoEventfd[] {
    const wired = this.#wires.filter((wire) => wire.region === region);
    const described = this.#descriptions.filter(({ bar }) => bar === region);
    if (wired.length > 0 || described.length === 0) return wired;
    const made = described.map(
      ({ bar, ...rest }): IoWire => ({ ...rest, region: bar, fd: createEventfd() }),
    );
    this.rewire([...this.#wires, ...made]);
    return made;
  }

  /** What goes along when the device is parked. */
  get wires(): readonly IoWire[] {
    return this.#wires;
  }

  /** Takes these eventfds in place of those that are there, which are not closed. */
  rewire(wires: readonly IoWire[]): void {
    this.#wires = wires;
    this.watches = wires.filter(({ fd }) => fd >= 0).map((wire) => this.#watch(wire));
  }

  #watch({ region, offset, size, fd, datamatch }: IoWire): Watch {
    const value = new Uint8Array(valueBytesMax);
    new DataView(value.buffer).setBigUint64(0, datamatch ?? 0n, true);
    const ready = (): void => {
      if (drainEventfd(fd) > 0) this.#write(region, offset, value, size);
    };
    return { fd, doorbell: true, ready };
  }

  /** The client is gone, and with it whoever could signal. */
  close(): void {
    for (const { fd } of this.#wires) closeFd(fd);
    this.rewire([]);
  }
}
