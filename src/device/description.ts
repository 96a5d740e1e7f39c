/** A device in words, for people and scripts: what `ferry probe` tells. */
import { errno } from "../base/errno.ts";
import { extendedConfigBytes } from "../spec/pci.ts";
import {
  DeviceFlags,
  Feature,
  FeatureFlags,
  FeatureMigration,
  FeatureMigState,
  IrqFlags,
  MigrationFlags,
  migStateName,
  PciIrq,
  PciRegion,
} from "../spec/vfio.ts";
import { type ConfigDescription, describeConfig } from "./config-description.ts";
import type { IoEventfd, MmapArea, Region, VfioDevice } from "./vfio-device.ts";

/** A region that is there. */
export interface RegionDescription {
  readonly index: number;
  /** `bar0` to `bar5`, `rom`, `config`, `vga`, or `region 9`. */
  readonly name: string;
  /** Bytes. */
  readonly size: number;
  /** Of `read`, `write`, `mmap`. */
  readonly flags: readonly string[];
  /** What may be mapped, in bytes from the region's start; empty for nothing. */
  readonly mmapAreas: readonly MmapArea[];
}

/** An interrupt index that is there. */
export interface IrqDescription {
  readonly index: number;
  /** `intx`, `msi`, `msix`, `err`, `req`, or `irq 5`. */
  readonly name: string;
  /** Vectors. */
  readonly count: number;
  /** Names of `IrqFlags`. */
  readonly flags: readonly string[];
}

/** What the device offers to migration. */
export interface MigrationDescription {
  /** Names of `MigrationFlags`. */
  readonly flags: readonly string[];
  /** `RUNNING`; null when the device does not tell. */
  readonly state: string | null;
}

/** An ioeventfd: a place that can be written without a message. */
export interface IoEventfdDescription {
  readonly region: string;
  readonly offset: number;
  readonly size: number;
  /** In hexadecimal; null for any value. */
  readonly datamatch: string | null;
}

/** The shape of `ferry probe --json`, and of a control socket's answer to `probe`. */
export interface DeviceDescription {
  readonly name: string;
  /** Names of `DeviceFlags`. */
  readonly flags: readonly string[];
  readonly regions: readonly RegionDescription[];
  readonly irqs: readonly IrqDescription[];
  /** Null when the device has no configuration space that can be read. */
  readonly config: ConfigDescription | null;
  /** Null when the device cannot be migrated. */
  readonly migration: MigrationDescription | null;
  /** Null when they were not asked for: asking makes the device watch them. */
  readonly ioEventfds: readonly IoEventfdDescription[] | null;
}

const hex = (value: number | bigint): string => `0x${value.toString(16)}`;

const setBits = (unpacked: Readonly<Record<string, number | boolean>>): string[] =>
  Object.entries(unpacked)
    .filter(([, value]) => value !== false && value !== 0)
    .map(([name]) => name);

function nameIn(names: Readonly<Record<string, number>>, index: number, kind: string): string {
  return Object.entries(names).find(([, each]) => each === index)?.[0] ?? `${kind} ${index}`;
}

/** The name of a region index. */
export const regionName = (index: number): string => nameIn(PciRegion, index, "region");
/** The name of an interrupt index. */
export const irqName = (index: number): string => nameIn(PciIrq, index, "irq");

function describeRegion(region: Region, index: number): RegionDescription {
  const { size, readable, writable, mmap } = region;
  const flags = [readable && "read", writable && "write", mmap !== null && "mmap"];
  return {
    index,
    name: regionName(index),
    size,
    flags: flags.filter((flag) => flag !== false),
    mmapAreas: mmap === null ? [] : (mmap.areas ?? [{ offset: 0, size }]),
  };
}

/** Reads the whole configuration space in one access, as far as a PCI device can have one. */
function readConfig(device: VfioDevice): ConfigDescription | null {
  const region = device.regions[PciRegion.config];
  const isPci = (device.flags & DeviceFlags.mask.pci) !== 0;
  if (!isPci || region === undefined || region.size === 0 || !region.readable) return null;
  const bytes = new Uint8Array(Math.min(region.size, extendedConfigBytes));
  const result = device.read(PciRegion.config, 0, bytes, 0, bytes.length);
  return result < 0 ? null : describeConfig(bytes);
}

/** Reads a feature's fixed data; null when the device does not have it. */
function readFeature(device: VfioDevice, feature: number, size: number): DataView | null {
  const bytes = new Uint8Array(size);
  const result = device.feature(FeatureFlags.mask.get | feature, bytes, 0, 0, size);
  return result < size ? null : new DataView(bytes.buffer);
}

function readMigration(device: VfioDevice): MigrationDescription | null {
  const view = readFeature(device, Feature.migration, FeatureMigration.size);
  if (view === null) return null;
  const flags = setBits(MigrationFlags.unpack(view.getUint32(0, true)));
  const state = readFeature(device, Feature.migDeviceState, FeatureMigState.size);
  return { flags, state: state === null ? null : migStateName(state.getUint32(0, true)) };
}

function readIoEventfds(
  device: VfioDevice,
  release: (entry: IoEventfd) => void,
): IoEventfdDescription[] {
  return device.regions.flatMap(({ size }, index) => {
    if (size === 0) return [];
    return device.ioEventfds(index).map((entry) => {
      release(entry);
      const { offset, datamatch } = entry;
      return {
        region: regionName(index),
        offset,
        size: entry.size,
        datamatch: datamatch === null ? null : hex(datamatch),
      };
    });
  });
}

/**
 * Describes any device, without changing it. Ioeventfds are asked for only with `releaseIoEventfd`,
 * which is handed every one of them.
 */
export function describeDevice(
  device: VfioDevice,
  releaseIoEventfd?: (entry: IoEventfd) => void,
): DeviceDescription {
  return {
    name: device.name,
    flags: setBits(DeviceFlags.unpack(device.flags)),
    regions: device.regions.map(describeRegion).filter(({ size }) => size > 0),
    irqs: device.irqs
      .map(({ count, flags }, index) => ({
        index,
        name: irqName(index),
        count,
        flags: setBits(IrqFlags.unpack(flags)),
      }))
      .filter(({ count }) => count > 0),
    config: readConfig(device),
    migration: readMigration(device),
    ioEventfds: releaseIoEventfd === undefined ? null : readIoEventfds(device, releaseIoEventfd),
  };
}

/**
 * The region that a person calls `bar0`, `config` or `7`; ENOENT when there is none of that name.
 */
export function regionByName(device: VfioDevice, name: string): number {
  const known = (PciRegion as Readonly<Record<string, number>>)[name.toLowerCase()];
  const index = known ?? (/^\d+$/.test(name) ? Number(name) : -1);
  return (device.regions[index]?.size ?? 0) > 0 ? index : -errno.ENOENT;
}
