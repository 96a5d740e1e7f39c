import { errno } from "../base/errno.ts";
import { writeU53 } from "../base/struct.ts";
import { Direction, type MessageDma, pending, Touches, type Transfer } from "../memory/transfer.ts";
import { Command, DmaAccess, Header, HeaderFlags, MessageType } from "../spec/vfio-user.ts";
import { closeFd } from "../sys/descriptors.ts";
import { Frame } from "../wire/framer.ts";
import type { Lane } from "./lane.ts";
import { dataXferBytesMax, dmaInFlightMax, dmaReplyTimeoutMs, transfersMax } from "./limits.ts";

/** A DMA command that was sent and not answered. Slots are made once and reused. */
interface InFlight {
  id: number;
  command: number;
  /** Null for a slot that is free, and for a command whose transfer was given up. */
  transfer: Transfer | null;
  used: boolean;
  /** Where in the transfer the piece lies. */
  offset: number;
  count: number;
  deadlineMs: number;
}

const headBytes = Header.size + DmaAccess.size;

/**
 * DMA by messages: cuts transfers into DMA_READ and DMA_WRITE commands, sends them on the lane that
 * it is given, and puts the answers together. It never waits: the session calls `pump` when the
 * lane has room, `answer` when a reply came, `expire` when time has passed.
 */
export class DmaPump implements MessageDma {
  readonly #lane: () => Lane;
  readonly #now: () => number;
  #peerXferBytes = dataXferBytesMax;
  #transfers: Transfer[] = [];
  #nextId = 1;
  readonly #slots: InFlight[] = Array.from({ length: dmaInFlightMax }, () => ({
    id: 0,
    command: 0,
    transfer: null,
    used: false,
    offset: 0,
    count: 0,
    deadlineMs: 0,
  }));
  #inFlight = 0;

  constructor(lane: () => Lane, now: () => number) {
    this.#lane = lane;
    this.#now = now;
  }

  /** Commands that wait for an answer, given up or not. */
  get inFlight(): number {
    return this.#inFlight;
  }

  /** True while something is to be sent or awaited. */
  get active(): boolean {
    return this.#transfers.length > 0 || this.#inFlight > 0;
  }

  /** Ids that the peer may still answer. */
  get outstandingIds(): number[] {
    return this.#slots.filter(({ used }) => used).map(({ id }) => id);
  }

  /**
   * Begins anew with a peer that takes at most `peerXferBytes` a message; `abandoned` ids may still
   * be answered.
   */
  start(peerXferBytes: number, abandoned: readonly number[]): void {
    this.#peerXferBytes = Math.min(peerXferBytes, dataXferBytesMax);
    this.#transfers = [];
    this.#inFlight = 0;
    for (const [i, slot] of this.#slots.entries()) {
      slot.transfer = null;
      slot.used = i < abandoned.length;
      slot.id = abandoned[i] ?? 0;
      slot.deadlineMs = this.#now() + dmaReplyTimeoutMs;
      if (slot.used) this.#inFlight += 1;
    }
  }

  submit(transfer: Transfer): number {
    if (this.#transfers.length >= transfersMax) return -errno.EBUSY;
    transfer.status = pending;
    transfer.asked = 0;
    transfer.done = 0;
    if (transfer.length === 0) transfer.status = 0;
    else this.#transfers.push(transfer);
    return 0;
  }

  cancel(iova: number, size: number): void {
    for (const transfer of [...this.#transfers]) {
      const within = transfer.iova < iova + size && iova < transfer.iova + transfer.length;
      const touches = within || transfer instanceof Touches;
      if (touches) this.#end(transfer, -errno.ECANCELED);
    }
  }

  /** Gives every transfer up; answers that still come are dropped. */
  cancelAll(): void {
    for (const transfer of [...this.#transfers]) this.#end(transfer, -errno.ECANCELED);
  }

  #end(transfer: Transfer, status: number): void {
    const at = this.#transfers.indexOf(transfer);
    if (at >= 0) this.#transfers.splice(at, 1);
    for (const slot of this.#slots) if (slot.transfer === transfer) slot.transfer = null;
    transfer.status = status;
  }

  /** Writes as many commands as the lane and the in-flight limit allow. */
  pump(): void {
    const lane = this.#lane();
    for (let i = 0; i < this.#transfers.length; i++) {
      const transfer = this.#transfers[i] as Transfer;
      if (transfer instanceof Touches) this.#postMost(lane, transfer);
      while (transfer.asked < transfer.length) {
        const slot = lane.outbox.open ? this.#freeSlot() : undefined;
        if (slot === undefined) return;
        this.#ask(lane, slot, transfer);
      }
    }
  }

  /** All but the last byte of it, to which nobody answers: the last answer stands for all. */
  #postMost(lane: Lane, transfer: Touches): void {
    while (transfer.asked < transfer.length - 1 && lane.outbox.open) {
      const { noReply } = HeaderFlags.mask;
      this.#command(lane, this.#freshId(), MessageType.command | noReply, transfer, 1);
      transfer.done += 1;
    }
  }

  #freeSlot(): InFlight | undefined {
    if (this.#inFlight === dmaInFlightMax) return undefined;
    for (const slot of this.#slots) if (!slot.used) return slot;
    return undefined;
  }

  #freshId(): number {
    do this.#nextId = (this.#nextId + 1) & 0xffff;
    while (this.#slots.some(({ used, id }) => used && id === this.#nextId));
    return this.#nextId;
  }

  #ask(lane: Lane, slot: InFlight, transfer: Transfer): void {
    const count = Math.min(transfer.length - transfer.asked, this.#peerXferBytes);
    const write = transfer.direction === Direction.write;
    slot.used = true;
    slot.id = this.#freshId();
    slot.command = write ? Command.dmaWrite : Command.dmaRead;
    slot.transfer = transfer;
    slot.offset = transfer.asked;
    slot.count = count;
    slot.deadlineMs = this.#now() + dmaReplyTimeoutMs;
    this.#inFlight += 1;
    this.#command(lane, slot.id, MessageType.command, transfer, count);
  }

  /** Writes a command for the next `count` bytes of a transfer. */
  #command(lane: Lane, id: number, flags: number, transfer: Transfer, count: number): void {
    const write = transfer.direction === Direction.write;
    const { asked } = transfer;
    const place = transfer instanceof Touches ? transfer.places[asked] : transfer.iova + asked;
    const { outbox } = lane;
    const { at, view } = outbox;
    const size = headBytes + (write ? count : 0);
    view.setUint16(at + Header.offset.messageId, id, true);
    view.setUint16(at + Header.offset.command, write ? Command.dmaWrite : Command.dmaRead, true);
    view.setUint32(at + Header.offset.messageSize, size, true);
    view.setUint32(at + Header.offset.flags, flags, true);
    view.setUint32(at + Header.offset.error, 0, true);
    writeU53(view, at + Header.size + DmaAccess.offset.address, place as number);
    writeU53(view, at + Header.size + DmaAccess.offset.count, count);
    if (write) {
      const from = transfer.at + asked;
      outbox.bytes.set(transfer.bytes.subarray(from, from + count), at + headBytes);
    }
    outbox.commit(size);
    transfer.asked += count;
  }

  /**
   * Takes a reply at `at` of the lane's bytes. An answer to nothing, or to something given up, is
   * dropped.
   */
  answer(bytes: Uint8Array, view: DataView, at: number, size: number): void {
    const id = view.getUint16(at + Header.offset.messageId, true);
    const command = view.getUint16(at + Header.offset.command, true);
    const slot = this.#slots.find((each) => each.used && each.id === id);
    if (slot === undefined) return;
    slot.used = false;
    this.#inFlight -= 1;
    const { transfer } = slot;
    slot.transfer = null;
    if (transfer === null) return;
    const status = answerStatus(view, at, size, slot, command);
    if (status !== 0) {
      this.#end(transfer, status);
      return;
    }
    if (slot.command === Command.dmaRead) {
      const data = bytes.subarray(at + headBytes, at + headBytes + slot.count);
      transfer.bytes.set(data, transfer.at + slot.offset);
    }
    transfer.done += slot.count;
    if (transfer.done === transfer.length) this.#end(transfer, 0);
  }

  /** Takes what a lane has received that carries answers to our commands and nothing else. */
  answerFrom({ framer, bytes, view }: Lane): void {
    while (framer.next() === Frame.message) {
      const { at, size } = framer;
      for (const fd of framer.takeFds()) closeFd(fd);
      this.answer(bytes, view, at, size);
    }
  }

  /** Milliseconds until the next answer is overdue; -1 when none is awaited. */
  patienceMs(): number {
    if (this.#inFlight === 0) return -1;
    let next = Number.POSITIVE_INFINITY;
    for (const { used, deadlineMs } of this.#slots) if (used) next = Math.min(next, deadlineMs);
    return Math.max(0, Math.ceil(next - this.#now()));
  }

  /** Fails the transfers whose answer is overdue; their slots are free again. */
  expire(): void {
    const now = this.#now();
    for (const slot of this.#slots) {
      if (!slot.used || slot.deadlineMs > now) continue;
      slot.used = false;
      this.#inFlight -= 1;
      if (slot.transfer !== null) this.#end(slot.transfer, -errno.ETIMEDOUT);
    }
  }
}

/** 0, or why a reply does not answer its command. */
function answerStatus(
  view: DataView,
  at: number,
  size: number,
  slot: InFlight,
  command: number,
): number {
  if (command !== slot.command) return -errno.EPROTO;
  const flags = view.getUint32(at + Header.offset.flags, true);
  if ((flags & HeaderFlags.mask.error) !== 0) {
    const error = view.getUint32(at + Header.offset.error, true);
    return error === 0 || error > 4095 ? -errno.EIO : -error;
  }
  const expected = headBytes + (slot.command === Command.dmaRead ? slot.count : 0);
  return size === expected ? 0 : -errno.EPROTO;
}
