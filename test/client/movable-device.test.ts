import { expect, test } from "vitest";
import { GuestRam } from "../../src/client/guest-ram.ts";
import { MovableDevice } from "../../src/client/movable-device.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { HelloDevice } from "../../src/devices/hello/hello.ts";
import { IrqSetFlags, PciIrq, PciRegion } from "../../src/spec/vfio.ts";
import { closeFd, createEventfd, drainEventfd, duplicate } from "../../src/sys/descriptors.ts";

const iova = 0x10_0000;
const bytes = 65_536;

function write(device: VfioDevice, at: number, value: number): void {
  const word = new Uint8Array(8);
  new DataView(word.buffer).setBigUint64(0, BigInt(value), true);
  device.write(PciRegion.bar0, at, word, 0, at === 0x10 || at === 0x18 ? 8 : 4);
}

/** Has a device copy 4 KiB from the memory's start to its second half. */
function echo(device: VfioDevice): void {
  write(device, 0x10, iova);
  write(device, 0x18, iova + bytes / 2);
  write(device, 0x20, 4096);
  write(device, 0x28, 1);
  while (device.busy) device.work();
}

function enable(device: VfioDevice): void {
  device.write(PciRegion.config, 4, Uint8Array.of(0x06, 0x04), 0, 2);
}

test("a driver goes on with a device of another host, its memory and its interrupts", () => {
  const [a, b] = [new HelloDevice(false, true), new HelloDevice(false, true)];
  const device = new MovableDevice(a);
  const [here, there] = [new GuestRam(bytes), new GuestRam(bytes)];
  const eventfds = [createEventfd(), createEventfd()];
  for (const each of [a, b]) enable(each);
  device.attach(here);
  expect(here.map(device, iova)).toBe(0);
  const request = {
    index: PciIrq.msix,
    start: 0,
    count: 2,
    data: IrqSetFlags.mask.dataEventfd,
    action: IrqSetFlags.mask.actionTrigger,
    bytes: new Uint8Array(0),
    boolsAt: 0,
    fds: eventfds.map(duplicate),
  };
  expect(device.setIrqs(request)).toBe(0);
  here.bytes.fill(7, 0, 4096);
  echo(device);
  expect(here.bytes[bytes / 2]).toBe(7);
  expect(drainEventfd(eventfds[1] as number)).toBe(1);

  expect(here.copyTo(there)).toBe(2);
  expect(here.copyTo(there)).toBe(0);
  here.bytes[bytes - 1] = 1;
  expect(here.copyTo(there)).toBe(1);
  expect(here.mapThere(b, there)).toBe(0);
  expect(device.wireThere(b)).toBe(0);
  expect(device.moveTo(b)).toBe(a);
  const views = here.bytes;
  here.moveTo(there);
  a.detach();

  expect(here.bytes).toBe(views);
  expect(here.bytes[bytes - 1]).toBe(1);
  here.bytes.fill(9, 0, 4096);
  echo(device);
  expect(here.bytes[bytes / 2]).toBe(9);
  expect(drainEventfd(eventfds[1] as number)).toBe(1);
  device.forget();
  device.detach();
  here.close();
  for (const fd of eventfds) closeFd(fd);
});
