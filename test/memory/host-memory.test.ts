import { expect, it } from "vitest";
import { GuestMemory } from "../../src/memory/guest-memory.ts";
import { HostMemory } from "../../src/memory/host-memory.ts";
import { viewOf } from "../../src/sys/libc.ts";

it("is reached by a device's DMA, and lies where it says", () => {
  const host = new HostMemory(8192);
  const device = new GuestMemory();
  expect(device.map(host.mapping(0x1000))).toBe(0);
  expect(device.write(0x1000 + 5000, Uint8Array.of(7, 8), 0, 2)).toBe(0);
  expect([host.bytes[5000], host.view.getUint8(5001)]).toEqual([7, 8]);
  expect([...new Uint8Array(viewOf(host.address + 5000, 2))]).toEqual([7, 8]);
  host.bytes[0] = 9;
  const bytes = new Uint8Array(1);
  expect([device.read(0x1000, bytes, 0, 1), bytes[0]]).toEqual([0, 9]);
  expect(() => new HostMemory(100)).toThrow("whole pages");
});
