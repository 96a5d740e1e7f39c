/** What the project's own devices can be told to do through their registers. */
import { errno } from "../base/errno.ts";
import { littleEndian, regionRead, regionWrite } from "../client/raw-requests.ts";
import { PciRegion } from "../spec/vfio.ts";
import { RegionAccess } from "../spec/vfio-user.ts";
import { pause } from "./context.ts";
import { isBench, isHello, type Offer } from "./offer.ts";
import { type Peer, viewOf } from "./peer.ts";

/** A place of a region that keeps what is written, for any access. */
export interface Place {
  readonly region: number;
  readonly offset: number;
  readonly size: number;
}

const benchMemory: Place = { region: PciRegion.bar0, offset: 0x1000, size: (1 << 20) - 0x1000 };
const helloMemory: Place = { region: PciRegion.bar2, offset: 0, size: 65_536 };

/** The plain memory of a known device. */
export const memoryOf = (offer: Offer): Place => (isBench(offer) ? benchMemory : helloMemory);

/** A register of the known devices that a reset sets to 0. */
export const registerOf = (offer: Offer): Place =>
  isBench(offer)
    ? { region: PciRegion.bar0, offset: 0x108, size: 4 }
    : { region: PciRegion.bar0, offset: 0x2c, size: 4 };

export function write32(peer: Peer, region: number, offset: number, value: number): void {
  peer.done(regionWrite(region, offset, littleEndian(value, 4)), RegionAccess.size);
}

export function read32(peer: Peer, region: number, offset: number): number {
  const reply = peer.done(regionRead(region, offset, 4), RegionAccess.size + 4);
  return viewOf(reply).getUint32(RegionAccess.size, true);
}

export function readBytes(peer: Peer, region: number, offset: number, count: number): Uint8Array {
  const reply = peer.done(regionRead(region, offset, count), RegionAccess.size + count);
  return reply.payload.subarray(RegionAccess.size);
}

/** Rings the doorbell that raises `vector`; hello's only rings 0. */
export function ring(peer: Peer, offer: Offer, vector: number): void {
  write32(peer, PciRegion.bar0, isHello(offer) ? 0x08 : 0x80, vector);
}

/** What the bench device can be told to do with guest memory. */
export const BenchDma = { mappedRead: 1, mappedFill: 2, messageRead: 3, messageFill: 4 } as const;
export type BenchDma = (typeof BenchDma)[keyof typeof BenchDma];

/** What reaches the same memory from a device on another host. */
const byMessages: Readonly<Record<BenchDma, BenchDma>> = {
  [BenchDma.mappedRead]: BenchDma.messageRead,
  [BenchDma.mappedFill]: BenchDma.messageFill,
  [BenchDma.messageRead]: BenchDma.messageRead,
  [BenchDma.messageFill]: BenchDma.messageFill,
};

const bench = { iova: 0x100, length: 0x108, repeat: 0x10c, command: 0x110, status: 0x114 } as const;
const firstByte = 0x120;
const polls = 2000;

/** Tells the bench device to move memory and returns at once. */
export function startBenchDma(peer: Peer, command: BenchDma, iova: number, length: number): void {
  peer.done(regionWrite(0, bench.iova, littleEndian(iova, 8)), RegionAccess.size);
  write32(peer, 0, bench.length, length);
  write32(peer, 0, bench.repeat, 1);
  write32(peer, 0, bench.command, peer.relayed ? byMessages[command] : command);
}

/** The status of the bench device's DMA, an errno; EINPROGRESS while it runs. */
export const benchStatus = (peer: Peer): number => read32(peer, 0, bench.status);

/** Waits for the end of the bench device's DMA: 0 or an errno. */
export function benchResult(peer: Peer): number {
  for (let i = 0; i < polls; i++) {
    const status = benchStatus(peer);
    if (status !== errno.EINPROGRESS) return status;
    pause(1);
  }
  return errno.ETIMEDOUT;
}

/** Lets the bench device move memory: 0 or an errno. */
export function benchDma(peer: Peer, command: BenchDma, iova: number, length: number): number {
  startBenchDma(peer, command, iova, length);
  return benchResult(peer);
}

/** The first byte that the bench device's last read brought. */
export const benchFirstByte = (peer: Peer): number => read32(peer, 0, firstByte) & 0xff;

const hello = {
  cause: 0x0c,
  source: 0x10,
  target: 0x18,
  length: 0x20,
  status: 0x24,
  start: 0x28,
} as const;
const busy = 1;
const failed = 0x8000_0000;

export interface Echo {
  readonly source: number;
  readonly target: number;
  readonly length: number;
}

/** Lets the hello device copy memory and returns at once. */
export function startEcho(peer: Peer, { source, target, length }: Echo): void {
  peer.done(regionWrite(0, hello.source, littleEndian(source, 8)), RegionAccess.size);
  peer.done(regionWrite(0, hello.target, littleEndian(target, 8)), RegionAccess.size);
  write32(peer, 0, hello.length, length);
  write32(peer, 0, hello.start, 1);
}

/** Clears the causes of the hello device's interrupt line. */
export const acknowledgeHello = (peer: Peer): void => write32(peer, 0, hello.cause, 0xffff_ffff);

/** Waits for the end of the hello device's echo: 0 or an errno. */
export function echoResult(peer: Peer): number {
  for (let i = 0; i < polls; i++) {
    const status = read32(peer, 0, hello.status);
    if (status !== busy) return status >= failed ? status - failed : status;
    pause(1);
  }
  return errno.ETIMEDOUT;
}

/** Lets the hello device copy memory: 0 or an errno. */
export function echo(peer: Peer, what: Echo): number {
  startEcho(peer, what);
  return echoResult(peer);
}
