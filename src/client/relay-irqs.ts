import { errno } from "../base/errno.ts";
import { closeAll, names } from "../device/irq-request.ts";
import type { Irq, IrqRequest, IrqWire, LineState, Watch } from "../device/vfio-device.ts";
import { IrqSet, IrqSetFlags, PciIrq } from "../spec/vfio.ts";
import { Command } from "../spec/vfio-user.ts";
import { addEventfd, adoptEventfd, closeFd, drainEventfd } from "../sys/descriptors.ts";
import type { Connection } from "./connection.ts";
import type { IrqPort } from "./server-interrupts.ts";

const { mask: flag } = IrqSetFlags;
const none = -1;
const noWatches: readonly Watch[] = [];
const noBytes: readonly number[] = [];

/** What a client has connected to a vector, and whether it is masked. */
interface Wire {
  trigger: number;
  unmask: number;
  masked: boolean;
}

/**
 * The client's eventfds of a device on another host. They stay here; the server there is told which
 * vectors have one, and says how often each was raised.
 */
export class RelayIrqs implements IrqPort {
  /** The unmask eventfds to poll; a new array whenever they change. */
  watches: readonly Watch[] = noWatches;
  readonly #connection: Connection;
  readonly #irqs: readonly Irq[];
  /** The line is kept from being signalled, and it would have been so often. */
  #lineHeld = false;
  #lineWaits = 0;
  readonly #wires = new Map<number, Map<number, Wire>>();

  constructor(connection: Connection, irqs: readonly Irq[]) {
    this.#connection = connection;
    this.#irqs = irqs;
  }

  #vectors(index: number): Map<number, Wire> {
    const vectors = this.#wires.get(index) ?? new Map<number, Wire>();
    this.#wires.set(index, vectors);
    return vectors;
  }

  #wire(index: number, vector: number): Wire {
    const vectors = this.#vectors(index);
    const wire = vectors.get(vector) ?? { trigger: none, unmask: none, masked: false };
    vectors.set(vector, wire);
    return wire;
  }

  raised(index: number, vector: number, count: number): boolean {
    if (vector >= (this.#irqs[index]?.count ?? 0) || count === 0) return false;
    const wire = this.#wires.get(index)?.get(vector);
    if (wire === undefined) return true;
    if (index === PciIrq.intx && this.#lineHeld) {
      this.#lineWaits = count;
      return true;
    }
    if (index === PciIrq.intx) wire.masked = true;
    if (wire.trigger >= 0) addEventfd(wire.trigger, count);
    return true;
  }

  /** As `VfioDevice.holdLine` has it; what is behind the device's registers is not known here. */
  holdLine(held: boolean): LineState {
    this.#lineHeld = held;
    const waits = held ? 0 : this.#lineWaits;
    if (waits > 0) {
      this.#lineWaits = 0;
      this.raised(PciIrq.intx, 0, waits);
    }
    const wire = this.#wires.get(PciIrq.intx)?.get(0);
    return { up: wire?.masked === true && wire.trigger >= 0, quiet: null };
  }

  /** Raises a vector here: the server there cannot any more. */
  notify(index: number): void {
    this.raised(index, 0, 1);
  }

  set(request: IrqRequest): number {
    if (!request.fds.every(adoptEventfd)) {
      closeAll(request);
      return -errno.EINVAL;
    }
    if (request.data === flag.dataEventfd) {
      if (request.action === flag.actionTrigger) return this.#setTriggers(request);
      if (request.action === flag.actionUnmask && request.index === PciIrq.intx) {
        return this.#setUnmask(request);
      }
      closeAll(request);
      return -errno.EINVAL;
    }
    const bools = request.data === flag.dataBool ? request.count : 0;
    const given = request.bytes.subarray(request.boolsAt, request.boolsAt + bools);
    // What is unmasked may be raised before the answer is there, and is masked again then.
    if (request.action === flag.actionUnmask) this.#mask(request, false);
    const result = this.#send(request, given);
    if (result < 0) return result;
    if (request.action === flag.actionMask) this.#mask(request, true);
    if (request.count === 0) this.#drop(request.index);
    return 0;
  }

  #mask(request: IrqRequest, masked: boolean): void {
    for (let vector = request.start; vector < request.start + request.count; vector++) {
      if (names(request, vector)) this.#wire(request.index, vector).masked = masked;
    }
  }

  /** The new ones are there before the server is told, for it may raise at once. */
  #setTriggers(request: IrqRequest): number {
    const { index, start, count, fds } = request;
    const wires = Array.from({ length: count }, (_, i) => this.#wire(index, start + i));
    const before = wires.map(({ trigger, masked }) => ({ trigger, masked }));
    for (const [i, wire] of wires.entries()) {
      wire.trigger = fds[i] ?? none;
      if (index === PciIrq.intx) wire.masked = false;
    }
    const result = this.#send(request, fds.length === 0 ? noBytes : fds.map(() => 1));
    for (const [i, wire] of wires.entries()) {
      const old = before[i] as { trigger: number; masked: boolean };
      closeFd(result < 0 ? wire.trigger : old.trigger);
      if (result < 0) Object.assign(wire, old);
    }
    return result;
  }

  #setUnmask({ index, fds }: IrqRequest): number {
    const wire = this.#wire(index, 0);
    closeFd(wire.unmask);
    wire.unmask = fds[0] ?? none;
    this.#watch();
    return 0;
  }

  #watch(): void {
    this.watches = [...this.#wires].flatMap(([index, vectors]) =>
      [...vectors]
        .filter(([, { unmask }]) => unmask >= 0)
        .map(([vector, { unmask }]) => ({
          fd: unmask,
          ready: () => {
            if (drainEventfd(unmask) > 0) this.#order(index, vector, flag.actionUnmask);
          },
        })),
    );
  }

  /** Masks or unmasks one vector. */
  #order(index: number, vector: number, action: number): number {
    const request = { index, start: vector, count: 1, data: flag.dataNone, action };
    return this.set({ ...request, bytes: new Uint8Array(0), boolsAt: 0, fds: [] });
  }

  #send(request: IrqRequest, bytes: Uint8Array | readonly number[]): number {
    const { index, start, count, data, action } = request;
    const connection = this.#connection;
    const length = IrqSet.size + bytes.length;
    const prepared = connection.prepare(length);
    if (prepared < 0) return prepared;
    const { requestView: view, requestAt: at } = connection;
    IrqSet.set(view, at, { argsz: length, flags: data | action, index, start, count });
    connection.requestBytes.set(bytes, at + IrqSet.size);
    return Math.min(0, connection.call(Command.deviceSetIrqs, length, IrqSet.size));
  }

  /** The wiring as plain data. */
  wires(): IrqWire[] {
    return [...this.#wires].flatMap(([index, vectors]) =>
      [...vectors]
        .map(([vector, wire]) => ({ index, vector, ...wire }))
        .filter(({ trigger, unmask, masked }) => trigger >= 0 || unmask >= 0 || masked),
    );
  }

  /** Takes wiring, its eventfds too whatever it answers: 0 or a negated errno. */
  rewire(wires: readonly IrqWire[]): number {
    let result = 0;
    for (const wire of wires) result = this.#rewire(wire, result);
    this.#watch();
    return result;
  }

  #rewire({ index, vector, trigger, unmask, masked }: IrqWire, before: number): number {
    const fits = before === 0 && vector < (this.#irqs[index]?.count ?? 0);
    const eventfds = [trigger, unmask].every((fd) => fd < 0 || adoptEventfd(fd));
    if (!fits || !eventfds) {
      closeFd(trigger);
      closeFd(unmask);
      return before || -errno.EINVAL;
    }
    const request = { index, start: vector, count: 1, bytes: new Uint8Array(0), boolsAt: 0 };
    const [data, action] = [flag.dataEventfd, flag.actionTrigger];
    const fds = trigger < 0 ? [] : [trigger];
    this.#wire(index, vector).unmask = unmask;
    const result = this.#setTriggers({ ...request, data, action, fds });
    return result === 0 && masked ? this.#order(index, vector, flag.actionMask) : result;
  }

  /** Every index that a client has touched. */
  get indices(): readonly number[] {
    return [...this.#wires.keys()];
  }

  /** Closes the eventfds of an index. */
  #drop(index: number): void {
    for (const { trigger, unmask } of this.#wires.get(index)?.values() ?? []) {
      closeFd(trigger);
      closeFd(unmask);
    }
    this.#wires.delete(index);
    if (index === PciIrq.intx) this.#lineWaits = 0;
    this.#watch();
  }

  /** The client is gone: takes its eventfds away, there too while somebody is there. */
  unwire(): void {
    for (const index of this.indices) {
      const request = { index, start: 0, count: 0, data: flag.dataNone };
      const whole = { ...request, bytes: new Uint8Array(0), boolsAt: 0, fds: [] };
      this.#send({ ...whole, action: flag.actionTrigger }, noBytes);
      this.#drop(index);
    }
  }
}
