import { errno } from "../base/errno.ts";
import type { IrqRequest, VfioDevice, Watch } from "../device/vfio-device.ts";
import {
  Header,
  HeaderFlags,
  Interrupt,
  interruptEntriesMax,
  MessageType,
  OwnCommand,
} from "../spec/vfio-user.ts";
import { POLLIN } from "../sys/constants.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../sys/descriptors.ts";
import { PollSet } from "../sys/poll.ts";
import type { Outbox } from "./outbox.ts";

/** A vector whose device signals an eventfd of ours. */
interface Wire {
  readonly index: number;
  readonly vector: number;
  readonly fd: number;
}

/** What is told of an eventfd at a time: nobody counts further between two looks. */
const countMax = 0xffff_ffff;
const noWatches: readonly Watch[] = [];
const noFds: readonly number[] = [];

/**
 * Interrupts as messages, for a client that no eventfd reaches. The device signals eventfds of our
 * own, as it would the client's, and what they have counted goes out as `OwnCommand.interrupt`:
 * before the reply to the access that raised it, else when it is seen. While the client takes no
 * bytes the eventfds go on counting, so nothing is lost and nothing piles up.
 */
export class IrqMessages {
  readonly #outbox: Outbox;
  #agreed = false;
  #wires: readonly Wire[] = [];
  #watches: readonly Watch[] = [];
  #poll: PollSet | null = null;

  constructor(outbox: Outbox) {
    this.#outbox = outbox;
  }

  /** Has the client asked for messages? */
  get agreed(): boolean {
    return this.#agreed;
  }

  /** Begins with another client, or none. */
  restart(agreed: boolean): void {
    this.#keep(() => false, []);
    this.#agreed = agreed;
  }

  /** To be polled while messages can be sent. */
  get watches(): readonly Watch[] {
    return this.#outbox.open ? this.#watches : noWatches;
  }

  /** Keeps some of the wires, closes the others, and adds fresh ones. */
  #keep(keeps: (wire: Wire) => boolean, fresh: readonly Wire[]): void {
    for (const wire of this.#wires) if (!keeps(wire)) closeFd(wire.fd);
    this.#wires = [...this.#wires.filter(keeps), ...fresh];
    const ready = (): void => this.send();
    this.#watches = this.#wires.map(({ fd }) => ({ fd, ready }));
    this.#poll?.free();
    this.#poll = this.#wires.length === 0 ? null : new PollSet(this.#wires.length);
    for (const { fd } of this.#wires) this.#poll?.add(fd, POLLIN);
  }

  /** The client disables an index: its device has closed what it signalled. */
  forget(index: number): void {
    this.#keep((wire) => wire.index !== index, []);
  }

  /**
   * Wires `request.count` vectors as the bytes say, one for each; without bytes all are taken away.
   * 0 or a negated errno, and then a part may be wired.
   */
  wire(device: VfioDevice, request: IrqRequest, bytes: number): number {
    const { start, count } = request;
    const wanted = (vector: number): boolean =>
      bytes > 0 && request.bytes[request.boolsAt + vector - start] !== 0;
    const others = this.#wires.filter(outside(request));
    const more = bytes === 0 ? 0 : count;
    if (others.length + more > interruptEntriesMax) return -errno.ENOSPC;
    this.send();
    const end = start + count;
    for (let from = start; from < end; ) {
      let to = from + 1;
      while (to < end && wanted(to) === wanted(from)) to++;
      const run = { ...request, start: from, count: to - from };
      const result = wanted(from) ? this.#wireRun(device, run) : this.#dropRun(device, run);
      if (result < 0) return result;
      from = to;
    }
    return 0;
  }

  #dropRun(device: VfioDevice, run: IrqRequest): number {
    const result = device.setIrqs({ ...run, fds: noFds });
    this.#keep(outside(run), []);
    return result;
  }

  #wireRun(device: VfioDevice, run: IrqRequest): number {
    const { index, start, count } = run;
    const fresh: Wire[] = Array.from({ length: count }, (_, i) => {
      return { index, vector: start + i, fd: createEventfd() };
    });
    const fds = fresh.map(({ fd }) => (fd < 0 ? fd : duplicate(fd)));
    const failed = fds.find((fd) => fd < 0);
    if (failed !== undefined) {
      for (const fd of [...fds, ...fresh.map((each) => each.fd)]) closeFd(fd);
      return failed;
    }
    // From here on there is something to look at, for the device may raise at once.
    this.#keep(outside(run), fresh);
    const result = device.setIrqs({ ...run, fds });
    if (result < 0) this.#keep(outside(run), []);
    return result;
  }

  /** Sends what was counted since the last look, as far as there is room for it. */
  send(): void {
    if (!this.#outbox.open || !this.#raised) return;
    this.#outbox.commit(this.#write(this.#outbox.at));
  }

  /**
   * The same ahead of a reply that lies at the outbox's place with `length` bytes, and is not
   * committed yet.
   */
  sendAhead(length: number): void {
    const { bytes, at } = this.#outbox;
    if (!this.#raised) return;
    const reply = bytes.slice(at, at + length);
    const size = this.#write(at);
    bytes.set(reply, at + size);
    this.#outbox.commit(size);
  }

  get #raised(): boolean {
    return this.#poll !== null && this.#poll.wait(0) > 0;
  }

  /** Writes the message for every eventfd that was found signalled: how long it is. */
  #write(at: number): number {
    const { view } = this.#outbox;
    let size: number = Header.size;
    for (const [place, { index, vector, fd }] of this.#wires.entries()) {
      if ((this.#poll as PollSet).ready(place) === 0) continue;
      const count = Math.min(drainEventfd(fd), countMax);
      if (count <= 0) continue;
      Interrupt.set(view, at + size, { index, vector, count });
      size += Interrupt.size;
    }
    if (size === Header.size) return 0;
    Header.set(view, at, {
      messageId: 0,
      command: OwnCommand.interrupt,
      messageSize: size,
      flags: MessageType.command | HeaderFlags.mask.noReply,
      error: 0,
    });
    return size;
  }
}

const outside =
  ({ index, start, count }: IrqRequest) =>
  (wire: Wire): boolean =>
    wire.index !== index || wire.vector < start || wire.vector >= start + count;
