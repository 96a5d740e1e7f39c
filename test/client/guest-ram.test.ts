import { describe, expect, it } from "vitest";
import { AssertionError } from "../../src/base/assert.ts";
import { errno } from "../../src/base/errno.ts";
import { GuestRam, guestRamBytesMax } from "../../src/client/guest-ram.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { Direction, Transfer } from "../../src/memory/transfer.ts";
import { F_SEAL_GROW, F_SEAL_SHRINK } from "../../src/sys/constants.ts";
import { fileSize, resizeFile, sealsOf } from "../../src/sys/descriptors.ts";
import { openFds } from "./fake-server.ts";

/** As much of a device as guest memory needs: it maps and unmaps, and reaches what is mapped. */
function deviceWith(memory: GuestMemory): VfioDevice {
  const part: Pick<VfioDevice, "mapDma" | "unmapDma"> = {
    mapDma: (mapping) => memory.map(mapping),
    unmapDma: (iova, size) => memory.unmap(iova, size),
  };
  return part as VfioDevice;
}

const page = 4096;

describe("guest memory", () => {
  it("is a file that can neither shrink nor grow, and its view shows the file", () => {
    const before = openFds();
    const ram = new GuestRam(4 * page);
    expect(fileSize(ram.fd)).toBe(4 * page);
    const sealed = F_SEAL_SHRINK | F_SEAL_GROW;
    expect(sealsOf(ram.fd) & sealed).toBe(sealed);
    expect(resizeFile(ram.fd, page)).toBe(-errno.EPERM);
    const memory = new GuestMemory();
    expect(ram.map(deviceWith(memory), 0x10_0000)).toBe(0);
    ram.bytes.set([1, 2, 3], page - 1);
    const seen = new Uint8Array(3);
    expect(memory.read(0x10_0000 + page - 1, seen, 0, 3)).toBe(0);
    expect(Array.from(seen)).toEqual([1, 2, 3]);
    expect(memory.write(0x10_0000, Uint8Array.of(9), 0, 1)).toBe(0);
    expect(ram.view.getUint8(0)).toBe(9);
    memory.unmapAll();
    ram.close();
    expect(openFds()).toBe(before);
  });

  it("is mapped in parts with the rights that are given", () => {
    const ram = new GuestRam(4 * page);
    const memory = new GuestMemory();
    const device = deviceWith(memory);
    expect(ram.map(device, 0, page, page, { writable: false })).toBe(0);
    expect(ram.map(device, page, 0, page, { readable: false, mayMap: false })).toBe(0);
    ram.bytes.set([5], page);
    const byte = new Uint8Array(1);
    expect(memory.read(0, byte, 0, 1)).toBe(0);
    expect(byte[0]).toBe(5);
    expect(memory.write(0, byte, 0, 1)).toBe(-errno.EACCES);
    expect(memory.read(page, byte, 0, 1)).toBe(-errno.EACCES);
    expect(memory.write(page, byte, 0, 1)).toBe(0);
    expect(ram.bytes[0]).toBe(5);
    memory.unmapAll();
    ram.close();
  });

  it("carries the DMA of a device that has no file, as far as it was mapped", () => {
    const before = openFds();
    const ram = new GuestRam(2 * page);
    const memory = new GuestMemory();
    const device = deviceWith(memory);
    expect(ram.map(device, 0x8000, page, page, { shared: false })).toBe(0);
    const transfer = new Transfer();
    const data = Uint8Array.of(0, 7, 8, 0);
    expect(ram.submit(transfer.set(Direction.write, 0x8010, data, 1, 2))).toBe(0);
    expect(transfer.status).toBe(0);
    expect(Array.from(ram.bytes.subarray(page + 0x10, page + 0x13))).toEqual([7, 8, 0]);
    expect(ram.submit(transfer.set(Direction.read, 0x8011, data, 0, 1))).toBe(0);
    expect(data[0]).toBe(8);
    expect(ram.submit(transfer.set(Direction.read, 0x8000 + page - 1, data, 0, 2))).toBe(
      -errno.EFAULT,
    );
    expect(ram.submit(transfer.set(Direction.read, 0x7fff, data, 0, 1))).toBe(-errno.EFAULT);
    expect(ram.unmap(device, 0x8000, page)).toBe(0);
    expect(ram.submit(transfer.set(Direction.read, 0x8010, data, 0, 1))).toBe(-errno.EFAULT);
    expect(ram.unmap(device, 0x8000, page)).toBe(-errno.ENOENT);
    ram.close();
    expect(openFds()).toBe(before);
  });

  it("keeps its file when a device refuses the mapping", () => {
    const ram = new GuestRam(page);
    const before = openFds();
    const memory = new GuestMemory();
    const device = deviceWith(memory);
    expect(ram.map(device, 0)).toBe(0);
    expect(ram.map(device, 0)).toBe(-errno.EEXIST);
    memory.unmapAll();
    expect(openFds()).toBe(before);
    ram.close();
  });

  it("is made of whole pages, and not of more than a test needs", () => {
    for (const size of [0, 100, page + 1, guestRamBytesMax + page]) {
      expect(() => new GuestRam(size)).toThrow(AssertionError);
    }
  });
});
