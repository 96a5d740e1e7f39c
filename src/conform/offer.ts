/** What a server offers, asked once, so that cases can adapt to it or be left out. */
import { errno } from "../base/errno.ts";
import {
  deviceFeature,
  deviceGetInfo,
  irqInfo,
  regionInfo,
  regionIoFds,
  regionRead,
} from "../client/raw-requests.ts";
import {
  DeviceFlags,
  DeviceInfo,
  Feature,
  FeatureFlags,
  FeatureMigration,
  IrqInfo,
  PciIrq,
  PciRegion,
  RegionCap,
  RegionFlags,
  RegionInfo,
  SparseMmapArea,
  SparseMmapCap,
} from "../spec/vfio.ts";
import { HeaderFlags, RegionAccess, RegionIoFds } from "../spec/vfio-user.ts";
import type { Limits } from "../wire/negotiate.ts";
import type { Need } from "./case.ts";
import { type Peer, viewOf } from "./peer.ts";

export interface OfferedRegion {
  readonly index: number;
  readonly flags: number;
  readonly size: number;
  /** Bytes of the full reply, capabilities included. */
  readonly argsz: number;
  readonly areas: ReadonlyArray<{ readonly offset: number; readonly size: number }>;
  /** How many ioeventfds it has. */
  readonly ioFds: number;
}

export interface OfferedIrq {
  readonly index: number;
  readonly flags: number;
  readonly count: number;
}

export interface Offer {
  readonly limits: Limits;
  readonly deviceFlags: number;
  readonly regions: readonly OfferedRegion[];
  readonly irqs: readonly OfferedIrq[];
  readonly vendorId: number;
  readonly deviceId: number;
  /** FEATURE_MIGRATION's word, or null for a device that does not migrate. */
  readonly migration: number | null;
  readonly logsDma: boolean;
  /** The device is on another host: a file reaches a relay, and messages reach the device. */
  readonly relayed: boolean;
}

/** More regions or interrupts than any device has are not asked for. */
const indicesMax = 100;
const argszMax = 65_536;

function surveyRegion(peer: Peer, index: number): OfferedRegion {
  const reply = peer.done(regionInfo(index, argszMax));
  const view = viewOf(reply);
  const { argsz, flags, size, capOffset } = RegionInfo.get(view, 0);
  const areas: Array<{ offset: number; size: number }> = [];
  const hasCaps = (flags & RegionFlags.mask.caps) !== 0;
  if (hasCaps && capOffset + SparseMmapCap.size <= view.byteLength) {
    const { id, nrAreas } = SparseMmapCap.get(view, capOffset);
    let at = capOffset + SparseMmapCap.size;
    for (let i = 0; id === RegionCap.sparseMmap && i < nrAreas; i++, at += SparseMmapArea.size) {
      if (at + SparseMmapArea.size <= view.byteLength) areas.push(SparseMmapArea.get(view, at));
    }
  }
  const ioFds = size === 0 ? 0 : surveyIoFds(peer, index);
  return { index, flags, size, argsz, areas, ioFds };
}

function surveyIoFds(peer: Peer, index: number): number {
  const reply = peer.ask(regionIoFds({ index }));
  const failed = (reply.flags & HeaderFlags.mask.error) !== 0;
  if (failed || reply.payload.length < RegionIoFds.size) return 0;
  return RegionIoFds.get(viewOf(reply), 0).count;
}

function surveyIrq(peer: Peer, index: number): OfferedIrq {
  const view = viewOf(peer.done(irqInfo(index), IrqInfo.size));
  const { flags, count } = IrqInfo.get(view, 0);
  return { index, flags, count };
}

function surveyMigration(peer: Peer): number | null {
  const flags = FeatureFlags.mask.get | Feature.migration;
  const reply = peer.ask(deviceFeature(flags, new Uint8Array(0), 8 + FeatureMigration.size));
  if ((reply.flags & HeaderFlags.mask.error) !== 0) return null;
  return reply.payload.length < 16 ? null : FeatureMigration.get(viewOf(reply), 8).flags;
}

function probes(peer: Peer, flags: number): boolean {
  const reply = peer.ask(deviceFeature(FeatureFlags.mask.probe | flags));
  return (reply.flags & HeaderFlags.mask.error) === 0;
}

/** Asks a server what it has. */
export function survey(peer: Peer): Offer {
  const info = DeviceInfo.get(viewOf(peer.done(deviceGetInfo(), DeviceInfo.size)), 0);
  const upTo = (count: number) => Array.from({ length: Math.min(count, indicesMax) }, (_, i) => i);
  const regions = upTo(info.numRegions).map((index) => surveyRegion(peer, index));
  const irqs = upTo(info.numIrqs).map((index) => surveyIrq(peer, index));
  const hasConfig = (regions[PciRegion.config]?.size ?? 0) >= 4;
  const config = hasConfig ? viewOf(peer.done(regionRead(PciRegion.config, 0, 4))) : null;
  return {
    limits: peer.server.limits,
    deviceFlags: info.flags,
    regions,
    irqs,
    vendorId: config?.getUint16(RegionAccess.size, true) ?? 0,
    deviceId: config?.getUint16(RegionAccess.size + 2, true) ?? 0,
    migration: surveyMigration(peer),
    logsDma: probes(peer, FeatureFlags.mask.set | Feature.dmaLoggingStart),
    relayed: false,
  };
}

const pci = (offer: Offer): boolean => (offer.deviceFlags & DeviceFlags.mask.pci) !== 0;

/** The vendor id of the project's own devices, whose registers the suite knows. */
const ownVendor = 0xfe22;
const helloId = 0x0001;
const benchId = 0x0002;

export const isHello = (offer: Offer): boolean =>
  offer.vendorId === ownVendor && offer.deviceId === helloId;
export const isBench = (offer: Offer): boolean =>
  offer.vendorId === ownVendor && offer.deviceId === benchId;

export const hello: Need = (offer) => (isHello(offer) ? null : "only for the hello device");
export const bench: Need = (offer) => (isBench(offer) ? null : "only for the bench device");

/** A device with plain memory and actions that the suite knows. */
export const known: Need = (offer) =>
  isHello(offer) || isBench(offer) ? null : "only for the hello and bench devices";

export const config: Need = (offer) =>
  pci(offer) && (offer.regions[PciRegion.config]?.size ?? 0) >= 256
    ? null
    : "the device has no PCI configuration space";

export const resets: Need = (offer) =>
  (offer.deviceFlags & DeviceFlags.mask.reset) !== 0 ? null : "the device cannot be reset";

export const migrates: Need = (offer) =>
  offer.migration === null ? "the device does not migrate" : null;

export const preCopies: Need = (offer) =>
  ((offer.migration ?? 0) & 4) !== 0 ? null : "the device has no PRE_COPY";

export const logs: Need = (offer) => (offer.logsDma ? null : "the device logs no DMA");

export const writesMany: Need = (offer) =>
  offer.limits.writeMultiple ? null : "the server does not offer write_multiple";

export const sparse: Need = (offer) =>
  offer.regions.some(({ areas }) => areas.length > 0) ? null : "no region has a sparse mmap";

export const ioFds: Need = (offer) =>
  offer.regions.some(({ ioFds: count }) => count > 0) ? null : "no region has ioeventfds";

/** At least `count` vectors of one index that eventfds can be given for. */
export const vectors =
  (count: number): Need =>
  (offer) =>
    vectorsOf(offer).count >= count ? null : `no interrupt index has ${count} vectors`;

/** The index with the most vectors: MSI-X, MSI or INTx. */
export function vectorsOf(offer: Offer): OfferedIrq {
  const choices = [PciIrq.msix, PciIrq.msi, PciIrq.intx];
  const found = choices.map((index) => offer.irqs[index]).filter((irq) => irq !== undefined);
  return found.find(({ count }) => count > 0) ?? { index: PciIrq.intx, flags: 0, count: 0 };
}

/** A server whose largest transfer is small enough to try what lies above. */
export const limited: Need = (offer) =>
  offer.limits.maxDataXferSize <= 16 * 1024 * 1024
    ? null
    : "the server takes transfers of more than 16 MiB";

/** Errors that say "no such feature". */
export const unsupported = [errno.ENOTTY, errno.EINVAL, errno.EOPNOTSUPP] as const;
