/** Transfers, by copy and by messages, as a device starts them. */
import { beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { Direction, type MessageDma, pending, Transfer } from "../../src/memory/transfer.ts";
import { byMessages, ClientMemory, pattern } from "./client-memory.ts";

const page = 4096;

/** A session that keeps what it is given until the test answers. */
class Session implements MessageDma {
  readonly carried: Transfer[] = [];
  readonly cancelled: Array<readonly [iova: number, size: number]> = [];
  answer = 0;
  onCancel: (() => void) | null = null;

  submit(transfer: Transfer): number {
    if (this.answer === 0) this.carried.push(transfer);
    return this.answer;
  }

  cancel(iova: number, size: number): void {
    this.cancelled.push([iova, size]);
    this.onCancel?.();
    for (const transfer of this.carried) {
      const touches = transfer.iova < iova + size && iova < transfer.iova + transfer.length;
      if (transfer.status === pending && touches) transfer.status = -errno.ECANCELED;
    }
  }
}

describe("a transfer", () => {
  let guest: GuestMemory;
  let session: Session;
  const transfer = new Transfer();
  const buffer = pattern(2 * page);

  beforeEach(() => {
    guest = new GuestMemory();
    session = new Session();
    guest.messages = session;
  });

  it("ends at once where there is a file", () => {
    const client = ClientMemory.create(page);
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.start(transfer.set(Direction.write, 16, buffer, 3, 64))).toBe(0);
    expect(transfer.status).toBe(0);
    expect(client.read(16, 64)).toEqual(buffer.subarray(3, 67));
    client.write(100, Uint8Array.of(1, 2, 3));
    const read = new Uint8Array(4);
    expect(guest.start(transfer.set(Direction.read, 100, read, 1, 3))).toBe(0);
    expect(read).toEqual(Uint8Array.of(0, 1, 2, 3));
    expect(session.carried).toEqual([]);
    guest.unmapAll();
    client.close();
  });

  it("stays pending where only messages reach, until the session has ended it", () => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.read(0, buffer, 0, 8)).toBe(-errno.EINPROGRESS);
    expect(guest.write(0, buffer, 0, 8)).toBe(-errno.EINPROGRESS);
    expect(guest.resolve(0, 8, false)).toBeNull();
    expect(guest.start(transfer.set(Direction.read, 0, buffer, 0, 8))).toBe(pending);
    expect(transfer.status).toBe(pending);
    expect(session.carried).toEqual([transfer]);
  });

  it("goes by messages as a whole when a part of it has to", () => {
    const client = ClientMemory.create(page);
    expect(guest.map(client.mapping(0, page))).toBe(0);
    expect(guest.map(byMessages(page, page))).toBe(0);
    expect(guest.start(transfer.set(Direction.write, page - 8, buffer, 0, 16))).toBe(pending);
    expect(session.carried).toEqual([transfer]);
    expect(client.read(page - 8, 8)).toEqual(new Uint8Array(8));
    guest.unmapAll();
    client.close();
  });

  it.each([
    ["the second half is not mapped", page - 8, 16, -errno.EFAULT],
    ["nothing is mapped", 5 * page, 16, -errno.EFAULT],
    ["a part may not be written", 3 * page - 8, 16, -errno.EACCES],
  ])("asks nobody when %s", (_, iova, length, answer) => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.map(byMessages(2 * page, page))).toBe(0);
    expect(guest.map(byMessages(3 * page, page, { writable: false }))).toBe(0);
    expect(guest.start(transfer.set(Direction.write, iova, buffer, 0, length))).toBe(answer);
    expect(transfer.status).toBe(answer);
    expect(session.carried).toEqual([]);
  });

  it("ends with ENOTCONN when nobody carries messages", () => {
    guest.messages = null;
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.start(transfer.set(Direction.read, 0, buffer, 0, 8))).toBe(-errno.ENOTCONN);
    expect(transfer.status).toBe(-errno.ENOTCONN);
    expect(guest.unmap(0, page)).toBe(0);
  });

  it("ends with what the session answers when it takes no more", () => {
    session.answer = -errno.EBUSY;
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.start(transfer.set(Direction.write, 0, buffer, 0, 8))).toBe(-errno.EBUSY);
    expect(transfer.status).toBe(-errno.EBUSY);
  });

  it("is ended before the mapping that it touches goes away", () => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.map(byMessages(page, page))).toBe(0);
    const other = new Transfer().set(Direction.read, 0, buffer, 0, 8);
    expect(guest.start(other)).toBe(pending);
    expect(guest.start(transfer.set(Direction.read, page, buffer, 0, 8))).toBe(pending);
    const mapped: number[] = [];
    session.onCancel = () => mapped.push(guest.mapCount);
    expect(guest.unmap(page, page)).toBe(0);
    expect(transfer.status).toBe(-errno.ECANCELED);
    expect(other.status).toBe(pending);
    expect(session.cancelled).toEqual([[page, page]]);
    expect(guest.unmapAll()).toBe(0);
    expect(other.status).toBe(-errno.ECANCELED);
    expect(mapped).toEqual([2, 1]);
  });

  it("is not ended by an unmap that is refused", () => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.start(transfer.set(Direction.read, 0, buffer, 0, 8))).toBe(pending);
    expect(guest.unmap(0, 8)).toBe(-errno.ENOENT);
    expect(transfer.status).toBe(pending);
    expect(session.cancelled).toEqual([]);
  });

  it("counts as a write when it is started, and again after each report", () => {
    const dirty = (iova: number): number => {
      const bitmap = new Uint8Array(8);
      expect(guest.loggingReport(iova, page, page, bitmap, 0)).toBe(0);
      return bitmap[0] as number;
    };
    expect(guest.map(byMessages(0, 4 * page))).toBe(0);
    const early = new Transfer().set(Direction.write, 3 * page, buffer, 0, 8);
    expect(guest.start(early)).toBe(pending);
    expect(guest.loggingStart(page, [])).toBe(0);
    expect(guest.start(transfer.set(Direction.write, 0, buffer, 0, 8))).toBe(pending);
    const read = new Transfer().set(Direction.read, page, new Uint8Array(8), 0, 8);
    expect(guest.start(read)).toBe(pending);
    expect([dirty(0), dirty(0), dirty(page), dirty(3 * page)]).toEqual([1, 1, 0, 1]);
    transfer.status = 0;
    expect([dirty(0), dirty(0), dirty(3 * page)]).toEqual([1, 0, 1]);
    early.status = -errno.EIO;
    expect([dirty(3 * page), dirty(3 * page)]).toEqual([1, 0]);
  });

  it.each([
    ["all", 64, 64],
    ["the last", 65, 1],
  ])("is remembered for a while after its end: %s of %i", (_, count, remembered) => {
    expect(guest.map(byMessages(0, 128 * page))).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    const writes = Array.from({ length: count }, (_, i) =>
      new Transfer().set(Direction.write, i * page, buffer, 0, 8),
    );
    for (const write of writes) {
      expect(guest.start(write)).toBe(pending);
      write.status = 0;
    }
    // Nobody does this; but which ones are looked at shows by it.
    for (const write of writes) write.status = pending;
    const bitmap = new Uint8Array(16);
    for (let i = 0; i < 2; i++) {
      bitmap.fill(0);
      expect(guest.loggingReport(0, 128 * page, page, bitmap, 0)).toBe(0);
    }
    const marked = writes.filter((_, i) => ((bitmap[i >> 3] as number) & (1 << (i & 7))) !== 0);
    expect(marked).toHaveLength(remembered);
  });

  it("that was refused by the session was no write", () => {
    session.answer = -errno.EBUSY;
    expect(guest.map(byMessages(0, page))).toBe(0);
    expect(guest.loggingStart(page, [])).toBe(0);
    guest.start(transfer.set(Direction.write, 0, buffer, 0, 8));
    const bitmap = new Uint8Array(8);
    expect(guest.loggingReport(0, page, page, bitmap, 0)).toBe(0);
    expect(bitmap[0]).toBe(0);
  });
});
