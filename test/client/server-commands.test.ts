/** What a server may ask of its client: DMA messages, at any time, on either socket. */
import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import type { Connection } from "../../src/client/connection.ts";
import { deferredMax } from "../../src/client/deferred-dma.ts";
import { MemoryPort } from "../../src/client/memory-port.ts";
import type { DmaMapping } from "../../src/device/vfio-device.ts";
import { Direction, type MessageDma, pending, type Transfer } from "../../src/memory/transfer.ts";
import { Command, HeaderFlags, MessageType } from "../../src/spec/vfio-user.ts";
import { closeFd, createEventfd, createMemfd } from "../../src/sys/descriptors.ts";
import { FakeServer, joined, openFds, type Puppet, type Said, words } from "./fake-server.ts";

const { deviceReset, dmaRead, dmaWrite } = Command;
const page = 4096;
const iova = 0x10_0000;
const errorReply = MessageType.reply | HeaderFlags.mask.error;

/** A whole exchange of the client's, in which it serves what the server had said before. */
function reset(connection: Connection): number {
  const prepared = connection.prepare(0);
  return prepared < 0 ? prepared : connection.call(deviceReset, 0, 0);
}

const range = (address: number, count: number): Uint8Array => words(8, address, count);

const mapping = (change: Partial<DmaMapping> = {}): DmaMapping => ({
  iova,
  size: 4 * page,
  readable: true,
  writable: true,
  fd: createMemfd("test", 4 * page),
  offset: 0,
  mayMap: true,
  ...change,
});

/** A connection whose memory has four pages at `iova`. */
function withMemory(change: Partial<DmaMapping> = {}): [FakeServer, Connection, MemoryPort] {
  const [server, connection] = FakeServer.connected();
  const port = new MemoryPort();
  expect(port.memory.map(mapping(change))).toBe(0);
  connection.dma = port;
  return [server, connection, port];
}

/** The answers to the server's commands, without the client's own request. */
const answersOf = (puppet: Puppet): Said[] =>
  puppet.heard().filter(({ flags }) => (flags & HeaderFlags.mask.type) === MessageType.reply);

describe("DMA_READ and DMA_WRITE while the client waits for a reply", () => {
  it("reach the memory that was mapped", () => {
    const [server, connection, port] = withMemory();
    server.command(70, dmaWrite, joined(range(iova + page, 5), Uint8Array.of(1, 2, 3, 4, 5)));
    server.command(71, dmaRead, range(iova + page - 1, 7));
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    const [write, read] = answersOf(server);
    expect(write).toMatchObject({ id: 70, command: dmaWrite, flags: MessageType.reply });
    expect(write?.payload).toEqual(range(iova + page, 5));
    expect(read).toMatchObject({ id: 71, command: dmaRead, flags: MessageType.reply });
    expect(read?.payload).toEqual(
      joined(range(iova + page - 1, 7), Uint8Array.of(0, 1, 2, 3, 4, 5, 0)),
    );
    const check = new Uint8Array(5);
    expect(port.memory.read(iova + page, check, 0, 5)).toBe(0);
    expect(Array.from(check)).toEqual([1, 2, 3, 4, 5]);
    expect(connection.commandsServed).toBe(2);
    connection.close();
    server.close();
  });

  it("that come right behind the reply are answered before anybody asks again", () => {
    const [server, connection] = withMemory();
    server.reply(2, deviceReset);
    server.command(7, dmaRead, range(iova, 1));
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: 7 }]);
    connection.close();
    server.close();
  });

  it("come on the twin socket when there is one, and are answered there", () => {
    const [server, connection, twin] = FakeServer.twins();
    const port = new MemoryPort();
    port.memory.map(mapping());
    connection.dma = port;
    twin.command(1, dmaRead, range(iova, 2));
    expect(connection.poll()).toBe(0);
    expect(answersOf(twin)).toMatchObject([{ id: 1, command: dmaRead }]);
    twin.command(2, dmaRead, range(iova, 2));
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(twin)).toMatchObject([{ id: 2, command: dmaRead }]);
    expect(answersOf(server)).toEqual([]);
    connection.close();
    twin.close();
    server.close();
  });

  it("a twin socket that is hung up ends the connection", () => {
    const [server, connection, twin] = FakeServer.twins();
    twin.close();
    expect(reset(connection)).toBe(-errno.ENOTCONN);
    connection.close();
    server.close();
  });
});

describe("what a server must not ask", () => {
  const much = 1_048_577;
  const big = 2 ** 40;
  const cases: ReadonlyArray<[what: string, command: number, payload: Uint8Array, error: number]> =
    [
      ["an address below", dmaRead, range(iova - 1, 2), errno.EFAULT],
      ["a range past the end", dmaRead, range(iova + 4 * page - 1, 2), errno.EFAULT],
      ["an address nowhere", dmaWrite, joined(range(big, 1), Uint8Array.of(9)), errno.EFAULT],
      ["an address beyond 2^53", dmaRead, words(4, 0xffff_ffff, 0xffff_ffff, 1, 0), errno.EFAULT],
      ["more than a message", dmaRead, range(iova, much), errno.E2BIG],
      ["more than there is", dmaRead, words(4, iova, 0, 0xffff_ffff, 0xffff_ffff), errno.E2BIG],
      ["a read with data", dmaRead, joined(range(iova, 4), words(4, 0)), errno.EINVAL],
      ["a write without data", dmaWrite, range(iova, 4), errno.EINVAL],
      ["a write with too much", dmaWrite, joined(range(iova, 4), words(8, 0)), errno.EINVAL],
      ["no payload", dmaRead, new Uint8Array(0), errno.EINVAL],
      ["half a payload", dmaWrite, words(8, iova), errno.EINVAL],
      ["a client's command", Command.regionRead, words(4, 0, 0, 0, 4), errno.ENOSYS],
      ["a command of no document", 99, words(4, 1), errno.ENOSYS],
    ];

  for (const [what, command, payload, error] of cases) {
    it(`${what} is an error reply without payload`, () => {
      const [server, connection] = withMemory();
      server.command(300, command, payload);
      server.reply(2, deviceReset);
      expect(reset(connection)).toBe(0);
      const answers = answersOf(server);
      expect(answers).toMatchObject([{ id: 300, command, flags: errorReply, error }]);
      expect(answers[0]?.payload).toHaveLength(0);
      connection.close();
      server.close();
    });
  }

  it("reading what is write-only, and writing what is read-only, is EACCES", () => {
    for (const [command, payload, change] of [
      [dmaRead, range(iova, 4), { readable: false }],
      [dmaWrite, joined(range(iova, 4), words(4, 5)), { writable: false }],
    ] as const) {
      const [server, connection] = withMemory(change);
      server.command(1, command, payload);
      server.reply(2, deviceReset);
      expect(reset(connection)).toBe(0);
      expect(answersOf(server)).toMatchObject([{ flags: errorReply, error: errno.EACCES }]);
      connection.close();
      server.close();
    }
  });

  it("sending descriptors is EINVAL, and they are closed", () => {
    const [server, connection, port] = withMemory();
    const eventfd = createEventfd();
    const before = openFds();
    const data = joined(range(iova, 1), Uint8Array.of(77));
    server.command(1, dmaWrite, data, [eventfd, eventfd]);
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: 1, flags: errorReply, error: errno.EINVAL }]);
    expect(openFds()).toBe(before);
    const check = new Uint8Array(1);
    port.memory.read(iova, check, 0, 1);
    expect(check[0]).toBe(0);
    closeFd(eventfd);
    connection.close();
    server.close();
  });

  it("is not answered when the server wants no reply", () => {
    const [server, connection] = withMemory();
    const { noReply } = HeaderFlags.mask;
    server.say({ id: 1, command: 99, isCommand: true, flags: noReply });
    const payload = range(iova, 4);
    server.say({ id: 2, command: dmaRead, payload, isCommand: true, flags: noReply });
    server.command(3, dmaRead, range(iova, 4));
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: 3 }]);
    connection.close();
    server.close();
  });

  it("a message that is neither command nor reply is EINVAL", () => {
    const [server, connection] = withMemory();
    server.say({ id: 5, command: dmaRead, payload: range(iova, 1), flags: 6, isCommand: true });
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: 5, flags: errorReply, error: errno.EINVAL }]);
    connection.close();
    server.close();
  });

  it("without any memory everything is EFAULT", () => {
    const [server, connection] = FakeServer.connected();
    server.command(1, dmaRead, range(0, 1));
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toMatchObject([{ error: errno.EFAULT }]);
    connection.close();
    server.close();
  });
});

/** Carries transfers when it is told to, as a VMM answers in its own time. */
class Patient implements MessageDma {
  readonly transfers: Transfer[] = [];
  submit(transfer: Transfer): number {
    this.transfers.push(transfer);
    return 0;
  }
  cancel(): void {
    for (const transfer of this.transfers) transfer.status = -errno.ECANCELED;
  }
}

describe("memory without a file", () => {
  it("is carried on, and answered when that has ended", () => {
    const [server, connection, port] = withMemory({ fd: -1 });
    const patient = new Patient();
    port.attach(patient);
    server.command(8, dmaRead, range(iova, 3));
    server.command(9, dmaWrite, joined(range(iova, 2), Uint8Array.of(6, 7)));
    server.reply(2, deviceReset);
    expect(reset(connection)).toBe(0);
    expect(answersOf(server)).toEqual([]);
    expect(port.settled).toBe(false);
    const [read, write] = patient.transfers as [Transfer, Transfer];
    expect(read).toMatchObject({ direction: Direction.read, iova, length: 3, status: pending });
    expect(write).toMatchObject({ direction: Direction.write, iova, length: 2 });
    expect(Array.from(write.bytes.subarray(0, 2))).toEqual([6, 7]);
    read.bytes.set([1, 2, 3], read.at);
    read.status = 0;
    write.status = -errno.EIO;
    expect(port.settled).toBe(true);
    port.settle();
    expect(connection.poll()).toBe(0);
    const [first, second] = answersOf(server);
    expect(first?.payload).toEqual(joined(range(iova, 3), Uint8Array.of(1, 2, 3)));
    expect(second).toMatchObject({ id: 9, flags: errorReply, error: errno.EIO });
    expect(port.settled).toBe(false);
    connection.close();
    server.close();
  });

  it("is EFAULT when nobody carries it on, and EBUSY when too much waits", () => {
    const [server, connection, port] = withMemory({ fd: -1 });
    server.command(1, dmaRead, range(iova, 3));
    expect(connection.poll()).toBe(0);
    expect(answersOf(server)).toMatchObject([{ error: errno.EFAULT }]);
    port.attach(new Patient());
    for (let id = 0; id <= deferredMax; id++) server.command(id, dmaRead, range(iova, 3));
    expect(connection.poll()).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: deferredMax, error: errno.EBUSY }]);
    connection.close();
    server.close();
  });

  it("that is unmapped ends what was carried on", () => {
    const [server, connection, port] = withMemory({ fd: -1 });
    port.attach(new Patient());
    server.command(1, dmaRead, range(iova, 3));
    expect(connection.poll()).toBe(0);
    expect(port.memory.unmap(iova, 4 * page)).toBe(0);
    port.settle();
    expect(connection.poll()).toBe(0);
    expect(answersOf(server)).toMatchObject([{ id: 1, error: errno.ECANCELED }]);
    connection.close();
    server.close();
  });
});
