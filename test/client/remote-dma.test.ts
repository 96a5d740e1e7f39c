/** Mappings of a remote device, and the DMA that goes through them by messages. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { RemoteDevice } from "../../src/client/remote-device.ts";
import { type MessageDma, pending, type Transfer } from "../../src/memory/transfer.ts";
import { Command, DmaMapFlags, DmaUnmapFlags } from "../../src/spec/vfio-user.ts";
import { closeFd, createMemfd } from "../../src/sys/descriptors.ts";
import { joined, openFds, words } from "./fake-server.ts";
import { simpleDevice } from "./simple-device.ts";

const none: Uint8Array = new Uint8Array(0);

describe("mappings", () => {
  const mapping = (fd: number) => ({
    iova: 0x4000,
    size: 8192,
    readable: true,
    writable: false,
    fd,
    offset: 4096,
    mayMap: true,
  });

  it("go with their file, and go away again", () => {
    const before = openFds();
    const [server, device] = simpleDevice();
    server.reply(5, Command.dmaMap);
    server.reply(6, Command.dmaUnmap, joined(words(4, 24, 0), words(8, 0x4000, 8192)));
    expect(device.mapDma(mapping(createMemfd("ram", 16_384)))).toBe(0);
    expect(device.unmapDma(0x4000, 8192)).toBe(0);
    const [map, unmap] = server.heard();
    expect(map?.payload).toEqual(
      joined(words(4, 32, DmaMapFlags.mask.read), words(8, 4096, 0x4000, 8192)),
    );
    expect(map?.fds).toHaveLength(1);
    for (const fd of map?.fds ?? []) closeFd(fd);
    expect(unmap?.payload).toEqual(joined(words(4, 24, 0), words(8, 0x4000, 8192)));
    device.close();
    server.close();
    expect(openFds()).toBe(before);
  });

  it("that may not be mapped say so", () => {
    const [server, device] = simpleDevice();
    server.reply(5, Command.dmaMap);
    expect(device.mapDma({ ...mapping(createMemfd("ram", 16_384)), mayMap: false })).toBe(0);
    const [map] = server.heard();
    const { fileIo, read: reads } = DmaMapFlags.mask;
    expect(new DataView((map?.payload ?? none).buffer).getUint32(4, true)).toBe(fileIo | reads);
    for (const fd of map?.fds ?? []) closeFd(fd);
    device.close();
    server.close();
  });

  it("that the server refuses leave the file with the caller", () => {
    const [server, device] = simpleDevice();
    server.fail(5, Command.dmaMap, errno.EINVAL);
    const fd = createMemfd("ram", 16_384);
    const before = openFds();
    expect(device.mapDma(mapping(fd))).toBe(-errno.EINVAL);
    expect(openFds()).toBe(before);
    closeFd(fd);
    for (const said of server.heard()) for (const each of said.fds) closeFd(each);
    device.close();
    server.close();
  });

  it("that the memory here cannot hold are taken back from the server", () => {
    const [server, device] = simpleDevice();
    for (const id of [5, 6]) server.reply(id, Command.dmaMap);
    server.reply(7, Command.dmaUnmap);
    expect(device.mapDma(mapping(-1))).toBe(0);
    expect(device.mapDma({ ...mapping(-1), iova: 0x5000 })).toBe(-errno.EEXIST);
    expect(server.heard().at(-1)).toMatchObject({ command: Command.dmaUnmap });
    device.close();
    server.close();
  });

  it("all go with one message, or one by one where the server does not know it", () => {
    const [server, device] = simpleDevice();
    for (const id of [5, 6]) server.reply(id, Command.dmaMap);
    server.fail(7, Command.dmaUnmap, errno.EINVAL);
    for (const id of [8, 9]) server.reply(id, Command.dmaUnmap);
    server.reply(10, Command.dmaUnmap);
    expect(device.mapDma(mapping(-1))).toBe(0);
    expect(device.mapDma({ ...mapping(-1), iova: 0x10_0000 })).toBe(0);
    server.heard();
    expect(device.unmapAllDma()).toBe(0);
    const { all } = DmaUnmapFlags.mask;
    const flags = server
      .heard()
      .map(({ payload }) => new DataView(payload.buffer).getUint32(4, true));
    expect(flags).toEqual([all, 0, 0]);
    expect(device.unmapAllDma()).toBe(0);
    device.close();
    server.close();
  });
});

/** Never ends a transfer by itself, as a VMM that is busy. */
class Busy implements MessageDma {
  readonly transfers: Transfer[] = [];
  submit(transfer: Transfer): number {
    this.transfers.push(transfer);
    return 0;
  }
  cancel(iova: number, size: number): void {
    for (const transfer of this.transfers) {
      const touches = transfer.iova < iova + size && iova < transfer.iova + transfer.length;
      if (touches && transfer.status === pending) transfer.status = -errno.ECANCELED;
    }
  }
}

describe("DMA that was carried on to somebody else", () => {
  const page = { size: 4096, readable: true, writable: true, fd: -1, offset: 0, mayMap: true };
  const ends: ReadonlyArray<[what: string, end: (device: RemoteDevice) => number, left: number]> = [
    ["unmapping its memory", (device) => device.unmapDma(0, 4096), 1],
    ["unmapping everything", (device) => device.unmapAllDma(), 0],
    ["a reset", (device) => device.reset(), 0],
  ];
  for (const [what, end, left] of ends) {
    it(`is answered before ${what} is asked for, because the server may wait for it`, () => {
      const [server, device] = simpleDevice();
      const busy = new Busy();
      device.attach(busy);
      for (const id of [5, 6]) server.reply(id, Command.dmaMap);
      expect(device.mapDma({ ...page, iova: 0 })).toBe(0);
      expect(device.mapDma({ ...page, iova: 0x8000 })).toBe(0);
      server.command(1, Command.dmaRead, words(8, 0x100, 16));
      server.command(2, Command.dmaRead, words(8, 0x8000, 16));
      expect(device.connection.poll()).toBe(0);
      server.heard();
      server.reply(7, Command.dmaUnmap);
      server.reply(7, Command.deviceReset);
      end(device);
      const said = server.heard();
      expect(said[0]).toMatchObject({ id: 1, error: errno.ECANCELED });
      expect(said.at(-1)).toMatchObject({ id: 7 });
      const waiting = busy.transfers.filter(({ status }) => status === pending);
      expect(waiting).toHaveLength(left);
      device.close();
      server.close();
    });
  }

  it("is answered by the device's work when it has ended", () => {
    const [server, device] = simpleDevice();
    const busy = new Busy();
    device.attach(busy);
    server.reply(5, Command.dmaMap);
    device.mapDma({ ...page, iova: 0 });
    server.command(1, Command.dmaRead, words(8, 0, 2));
    for (const watch of device.watches) watch.ready();
    server.heard();
    device.work();
    expect(device.busy).toBe(false);
    expect(server.heard()).toEqual([]);
    const [transfer] = busy.transfers as [Transfer];
    transfer.bytes.set([8, 9], transfer.at);
    transfer.status = 0;
    expect(device.busy).toBe(true);
    device.work();
    expect(server.heard()[0]?.payload).toEqual(joined(words(8, 0, 2), Uint8Array.of(8, 9)));
    expect(device.busy).toBe(false);
    device.close();
    server.close();
  });
});
