/**
 * A served process given to another one: devices at rest, with sockets and every descriptor that
 * hangs on them, over a unix socket between two processes of the same operator.
 */
import { errno, errnoName } from "../base/errno.ts";
import { FerryError, messageOf } from "../base/errors.ts";
import type { DmaMapping, IoEventfd, IrqWire, Wiring } from "../device/vfio-device.ts";
import type { ConnectionState } from "../server/connection-state.ts";
import type { LaneState } from "../server/lane.ts";
import { Arena } from "../sys/arena.ts";
import { Channel } from "../sys/channel.ts";
import { closeFd } from "../sys/descriptors.ts";
import { WholeSender } from "../sys/whole-sender.ts";
import type { DeviceSpec, ParkedDevice } from "./mail.ts";

/** One device on its way to another process. */
export interface Cargo {
  readonly spec: DeviceSpec;
  readonly socketPath: string | null;
  /** The listening socket; -1 when there is none. */
  readonly listenFd: number;
  readonly parked: ParkedDevice;
}

/** The longest handover: many devices with their buffers. */
export const handoverBytesMax = 256 * 1_048_576;
/** State of all devices of one handover; base64 makes a third more of it, and some is left. */
const stateBytesMax = 128 * 1_048_576;
/** Descriptors that one handover carries at most. */
export const handoverFdsMax = 100_000;
const headBytes = 16;
const magic = 0x59_52_52_46;

type FdMap = (fd: number) => number;

const mapLane = (lane: LaneState, map: FdMap): LaneState => ({
  ...lane,
  fd: map(lane.fd),
  pendingFds: lane.pendingFds.map(({ distance, fds }) => ({ distance, fds: fds.map(map) })),
  unsent: {
    ...lane.unsent,
    parcels: lane.unsent.parcels.map((parcel) => ({
      ...parcel,
      fds: parcel.fds.map(map),
      owned: true,
    })),
  },
});

const mapConnection = (connection: ConnectionState, map: FdMap): ConnectionState => ({
  ...connection,
  main: mapLane(connection.main, map),
  twin: connection.twin === null ? null : mapLane(connection.twin, map),
});

const mapWiring = (wiring: Wiring, map: FdMap): Wiring => ({
  ...wiring,
  mappings: wiring.mappings.map((each): DmaMapping => ({ ...each, fd: map(each.fd) })),
  irqs: wiring.irqs.map(
    (each): IrqWire => ({ ...each, trigger: map(each.trigger), unmask: map(each.unmask) }),
  ),
  ioEventfds: wiring.ioEventfds.map((each): IoEventfd & { region: number } => ({
    ...each,
    fd: map(each.fd),
  })),
  files: wiring.files.map((each) => ({ ...each, fd: map(each.fd) })),
});

/** The cargo with every descriptor replaced by what `map` says; -1 stays -1. */
export function mapDescriptors(cargo: Cargo, map: FdMap): Cargo {
  const present: FdMap = (fd) => (fd < 0 ? -1 : map(fd));
  const { connection, wiring, state } = cargo.parked;
  return {
    ...cargo,
    listenFd: present(cargo.listenFd),
    parked: {
      connection: connection === null ? null : mapConnection(connection, present),
      wiring: wiring === null ? null : mapWiring(wiring, present),
      state,
    },
  };
}

const isBlob = (value: unknown): value is { $bytes: string } =>
  typeof value === "object" && value !== null && "$bytes" in value;
const isBig = (value: unknown): value is { $big: string } =>
  typeof value === "object" && value !== null && "$big" in value;

/** JSON with bytes in base64 and 64-bit values as text. */
export function formatCargo(cargo: readonly Cargo[]): Uint8Array {
  const text = JSON.stringify(cargo, (_, value: unknown) => {
    if (value instanceof Uint8Array) {
      const { buffer, byteOffset, byteLength } = value;
      return { $bytes: Buffer.from(buffer, byteOffset, byteLength).toString("base64") };
    }
    return typeof value === "bigint" ? { $big: value.toString() } : value;
  });
  return new TextEncoder().encode(text);
}

/** The reverse; throws a FerryError on what is no cargo. */
export function parseCargo(bytes: Uint8Array): Cargo[] {
  try {
    return JSON.parse(new TextDecoder().decode(bytes), (_, value: unknown) => {
      if (isBlob(value)) return new Uint8Array(Buffer.from(value.$bytes, "base64"));
      return isBig(value) ? BigInt(value.$big) : value;
    }) as Cargo[];
  } catch (thrown) {
    throw new FerryError(
      "handover-failed",
      `what was handed over is damaged: ${messageOf(thrown)}`,
    );
  }
}

function broken(what: string, result: number): FerryError {
  const why = result === 0 ? "the other side has gone" : errnoName(result);
  return new FerryError("handover-failed", `the handover broke while ${what}: ${why}.`);
}

/**
 * Sends everything, until a moment of the performance clock at most: a successor that does not read
 * must not keep clients waiting. The descriptors stay open here until this process ends.
 */
export async function sendCargo(
  socket: number,
  cargo: readonly Cargo[],
  untilMs: number,
): Promise<void> {
  const fds: number[] = [];
  const collected = cargo.map((each) => mapDescriptors(each, (fd) => fds.push(fd) - 1));
  const stateBytes = cargo.reduce((sum, { parked }) => sum + parked.state.length, 0);
  if (stateBytes > stateBytesMax) {
    const size = `${Math.ceil(stateBytes / 1_048_576)} MiB of state`;
    const most = `${stateBytesMax / 1_048_576} MiB`;
    throw new FerryError("too-large", `${size} are not handed over, ${most} are at most.`);
  }
  const text = formatCargo(collected);
  const arena = new Arena(headBytes + text.length + 1);
  const channel = new Channel(socket);
  const sender = new WholeSender(channel);
  const expectSent = (result: number): void => {
    if (result < 0) throw broken("it was sent", result);
  };
  try {
    arena.view.setUint32(0, magic, true);
    arena.view.setUint32(4, fds.length, true);
    arena.view.setUint32(8, text.length, true);
    arena.bytes.set(text, headBytes);
    expectSent(await sender.send(arena.address, headBytes, untilMs));
    expectSent(await sender.sendFds(arena.address, fds, untilMs));
    expectSent(await sender.send(arena.address + headBytes, text.length, untilMs));
  } finally {
    for (const each of [sender, channel, arena]) each.free();
  }
}

/** Receives what `sendCargo` sent, blocking. The descriptors are this process's now. */
export function receiveCargo(socket: number): Cargo[] {
  const channel = new Channel(socket);
  const head = new Arena(headBytes);
  const fds: number[] = [];
  let body: Arena | null = null;
  try {
    receiveAll(channel, head.address, headBytes);
    const [found, count, length] = [0, 4, 8].map((at) => head.view.getUint32(at, true));
    if (found !== magic || (count ?? 0) > handoverFdsMax || (length ?? 0) > handoverBytesMax) {
      throw new FerryError("handover-failed", "the other process sent no handover.");
    }
    while (fds.length < (count ?? 0)) fds.push(...receiveFds(channel, head.address));
    body = new Arena((length ?? 0) + 1);
    receiveAll(channel, body.address, length ?? 0);
    const cargo = parseCargo(body.bytes.subarray(0, length));
    return cargo.map((each) => mapDescriptors(each, (place) => fds[place] ?? -1));
  } catch (thrown) {
    for (const fd of fds) closeFd(fd);
    throw thrown;
  } finally {
    channel.free();
    head.free();
    body?.free();
  }
}

function receiveFds(channel: Channel, address: number): number[] {
  const received = channel.receive(address, 1);
  if (received === -errno.EINTR) return [];
  if (received !== 1 || channel.receivedFdCount === 0) throw broken("descriptors came", received);
  return Array.from(channel.receivedFds.subarray(0, channel.receivedFdCount));
}

function receiveAll(channel: Channel, address: number, length: number): void {
  for (let done = 0; done < length; ) {
    const received = channel.receive(address + done, length - done);
    if (received === -errno.EINTR) continue;
    if (received <= 0) throw broken("state came", received);
    done += received;
  }
}
