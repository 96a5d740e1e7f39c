/** What a device has written to memory that its VMM does not watch. */
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { Touches } from "../../src/memory/transfer.ts";
import { byMessages, ClientMemory } from "./client-memory.ts";

const page = 4096;
const mebibyte = 2 ** 20;
const gibibyte = 2 ** 30;

describe("the writes that a VMM is shown", () => {
  let guest: GuestMemory;
  let client: ClientMemory;
  const bytes = new Uint8Array(16 * page).fill(7);

  beforeEach(() => {
    guest = new GuestMemory();
    client = ClientMemory.create(16 * mebibyte);
    expect(guest.map(client.mapping(gibibyte, 8 * mebibyte))).toBe(0);
  });

  afterEach(() => {
    guest.unmapAll();
    client.close();
  });

  const places = (): number[] => {
    const touches = guest.touches();
    if (!(touches instanceof Touches)) throw new Error(`errno ${touches}`);
    return touches.places.toSorted((a, b) => a - b);
  };

  it("are one byte of each page that was written, with what is in it now", () => {
    guest.write(gibibyte, bytes, 0, 1);
    guest.watchWrites("kept");
    guest.write(gibibyte + 2 * page - 1, bytes, 0, 2);
    guest.resolve(gibibyte + mebibyte, 8, true);
    guest.read(gibibyte + 5 * page, new Uint8Array(1), 0, 1);
    client.write(page, Uint8Array.of(9));
    const touches = guest.touches() as Touches;
    expect(places()).toEqual([1, 2, 256].map((at) => gibibyte + at * page));
    expect(touches.bytes[touches.places.indexOf(gibibyte + page)]).toBe(9);
    expect(touches.length).toBe(3);
  });

  it("are of 4 GiB at most", () => {
    const pieceBytes = 8 * mebibyte;
    const pieces = Array.from({ length: 512 }, (_, i) => 16 * gibibyte + i * pieceBytes);
    for (const at of pieces) expect(guest.map(client.mapping(at, pieceBytes))).toBe(0);
    guest.watchWrites("kept");
    for (const at of pieces) expect(guest.resolve(at, pieceBytes, true)).not.toBeNull();
    expect((guest.touches() as Touches).length).toBe(1_048_576);
    guest.write(gibibyte, bytes, 0, 1);
    expect(guest.touches()).toBe(-errno.E2BIG);
  }, 60_000);

  it("are not those that went to the VMM as messages", () => {
    expect(guest.map(byMessages(0, page))).toBe(0);
    guest.watchWrites("kept");
    expect(guest.write(0, bytes, 0, 8)).toBe(-errno.EINPROGRESS);
    expect(places()).toEqual([]);
  });

  it("leave the VMM's own log as it is", () => {
    const bitmap = new Uint8Array(8);
    expect(guest.loggingStart(page, [])).toBe(0);
    guest.watchWrites("kept");
    guest.write(gibibyte, bytes, 0, 1);
    guest.watchWrites("off");
    guest.write(gibibyte + page, bytes, 0, 1);
    expect(guest.loggingReport(gibibyte, 64 * page, page, bitmap, 0)).toBe(0);
    expect(bitmap[0]).toBe(0b11);
    expect(guest.touches()).toBe(-errno.ENODATA);
  });

  it("are refused when a page that was written has been unmapped since", () => {
    expect(guest.map(client.mapping(2 * gibibyte, mebibyte))).toBe(0);
    guest.watchWrites("kept");
    expect(guest.unmap(2 * gibibyte, mebibyte)).toBe(0);
    expect(places()).toEqual([]);
    guest.write(gibibyte, bytes, 0, 1);
    expect(guest.unmap(gibibyte, 8 * mebibyte)).toBe(0);
    expect(guest.touches()).toBe(-errno.EFAULT);
    guest.watchWrites("kept");
    expect(places()).toEqual([]);
  });

  it("are none when all is sent, by whichever way it is written, until that ends", () => {
    const { generation } = guest;
    expect(guest.wasMapped).toBe(true);
    expect(guest.resolve(gibibyte, 8, true)).not.toBeNull();
    guest.watchWrites("sent");
    expect(guest.generation).not.toBe(generation);
    expect(guest.write(gibibyte, bytes, 0, 8)).toBe(-errno.EINPROGRESS);
    expect(guest.check(gibibyte, 8, true)).toBe(-errno.EINPROGRESS);
    expect(guest.resolve(gibibyte, 8, true)).toBeNull();
    expect(guest.check(gibibyte, 8, false)).toBe(0);
    expect(guest.resolve(gibibyte, 8, false)).not.toBeNull();
    expect(guest.unmap(gibibyte, 8 * mebibyte)).toBe(0);
    expect(places()).toEqual([]);
    expect(guest.map(client.mapping(gibibyte, 8 * mebibyte))).toBe(0);
    guest.watchWrites("off");
    expect(guest.write(gibibyte, bytes, 0, 8)).toBe(0);
  });

  it("are not counted before they are watched, nor after", () => {
    expect(guest.touches()).toBe(-errno.ENODATA);
    guest.watchWrites("kept");
    expect(places()).toEqual([]);
    guest.write(gibibyte, bytes, 0, 16 * page);
    expect(places()).toHaveLength(16);
    guest.watchWrites("off");
    expect(guest.touches()).toBe(-errno.ENODATA);
  });
});
