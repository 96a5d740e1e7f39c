import { littleEndian, regionWrite } from "../../client/raw-requests.ts";
import {
  BarBits,
  BarMemoryType,
  barFlagMask,
  CapabilityId,
  ConfigHeader,
  conventionalConfigBytes,
  firstCapability,
  RomBits,
} from "../../spec/pci.ts";
import { capabilityHeadBytes, Msix, PciExpress } from "../../spec/pci-capabilities.ts";
import { PciRegion } from "../../spec/vfio.ts";
import { read32, readBytes, registerOf, write32 } from "../actions.ts";
import { casesOf, Mismatch } from "../case.ts";
import { expectBytes, expectEqual, expectThat } from "../expect.ts";
import { config, known, type Offer } from "../offer.ts";
import type { Peer } from "../peer.ts";

const space = PciRegion.config;
const header = ConfigHeader.at;
const bars = 6;
const barBytes = 4;
const capabilitiesMax = 48;
const twoTo32 = 2 ** 32;

interface Capability {
  readonly id: number;
  readonly at: number;
}

const read16 = (peer: Peer, at: number): number => {
  const bytes = readBytes(peer, space, at, 2);
  return (bytes[0] ?? 0) | ((bytes[1] ?? 0) << 8);
};

/** Writes configuration space; a server may refuse what a function would only not take. */
const write = (peer: Peer, at: number, value: number, size: number): void => {
  peer.ask(regionWrite(space, at, littleEndian(value, size)));
};

/** The capability list, whose links are checked. */
function capabilities(peer: Peer): Capability[] {
  const whole = readBytes(peer, space, 0, conventionalConfigBytes);
  const found: Capability[] = [];
  let at = whole[header.CAPABILITIES] ?? 0;
  while (at !== 0) {
    const inside = at >= firstCapability && at <= conventionalConfigBytes - capabilityHeadBytes;
    if (!inside || at % 4 !== 0 || found.length === capabilitiesMax) {
      throw new Mismatch("a capability list that ends", `a capability at ${at}`);
    }
    found.push({ id: whole[at] ?? 0, at });
    at = whole[at + 1] ?? 0;
  }
  return found;
}

const find = (peer: Peer, id: number): Capability | undefined =>
  capabilities(peer).find((capability) => capability.id === id);

/** Writes all ones to a base address register, reads it, and puts back what was there. */
function probeBar(peer: Peer, at: number): number {
  const before = read32(peer, space, at);
  write32(peer, space, at, 0xffff_ffff);
  const came = read32(peer, space, at);
  write32(peer, space, at, before);
  expectEqual(`register at ${at} put back`, read32(peer, space, at), before);
  return came;
}

/** The size of each base address register, by its region; 0 for one that is not there. */
function barSizes(peer: Peer): Map<number, number> {
  const sizes = new Map<number, number>();
  for (let bar = 0; bar < bars; bar++) {
    const at = header.BAR0 + bar * barBytes;
    const low = probeBar(peer, at);
    const { io, memoryType } = BarBits.unpack(low);
    if (!io && memoryType === BarMemoryType.bits64 && low !== 0) {
      const high = probeBar(peer, at + barBytes);
      const mask = high * twoTo32 + ((low & ~barFlagMask.memory) >>> 0);
      sizes.set(bar, 2 ** 64 - mask);
      sizes.set(++bar, 0);
      continue;
    }
    const mask = (low & ~(io ? barFlagMask.io : barFlagMask.memory)) >>> 0;
    sizes.set(bar, mask === 0 ? 0 : twoTo32 - mask);
  }
  return sizes;
}

/** Registers that no write changes, with their bytes. */
const readOnly = [
  [header.VENDOR_ID, 4],
  [header.REVISION_ID, 4],
  [header.HEADER_TYPE, 1],
  [header.SUBSYSTEM_VENDOR_ID, 4],
  [header.CAPABILITIES, 1],
  [header.INTERRUPT_PIN, 1],
] as const;

const isExpress = (offer: Offer): string | null =>
  (offer.regions[space]?.size ?? 0) > conventionalConfigBytes ? null : "it is not PCI Express";

export const cases = casesOf(
  "pci-config",
  "VFIO_USER_REGION_WRITE",
  [config],
  [
    {
      id: "header",
      title: "a function names its vendor, has a plain header and says that it has capabilities",
      run(context) {
        const peer = context.open();
        const vendor = read16(peer, header.VENDOR_ID);
        expectThat(vendor !== 0 && vendor !== 0xffff, "a vendor id", vendor);
        const [type = 0] = readBytes(peer, space, header.HEADER_TYPE, 1);
        expectEqual("header type", type & 0x7f, 0);
        const lists = ConfigHeader.bits.STATUS.unpack(read16(peer, header.STATUS)).capabilitiesList;
        expectEqual("capabilities list in STATUS", lists, capabilities(peer).length > 0);
      },
    },
    {
      id: "bar-sizes",
      title: "base address registers give the sizes of their regions",
      run(context) {
        const peer = context.open();
        for (const [bar, size] of barSizes(peer)) {
          expectEqual(`size of BAR ${bar}`, size, context.offer.regions[bar]?.size ?? 0);
        }
      },
    },
    {
      id: "rom-size",
      title: "the expansion ROM's register gives the size of its region",
      run(context) {
        const peer = context.open();
        const came = probeBar(peer, header.EXPANSION_ROM);
        const mask = (came & RomBits.mask.address) >>> 0;
        const size = mask === 0 ? 0 : twoTo32 - mask;
        expectEqual("size of the ROM", size, context.offer.regions[PciRegion.rom]?.size ?? 0);
      },
    },
    {
      id: "bar-address",
      title: "a base address register keeps an address, byte by byte too",
      run(context) {
        const peer = context.open();
        const bar = context.offer.regions.slice(0, bars).find(({ size }) => size > 0);
        if (bar === undefined) return;
        const at = header.BAR0 + bar.index * barBytes;
        const before = read32(peer, space, at);
        write32(peer, space, at, 0xfe00_0000);
        expectEqual("address", (read32(peer, space, at) & ~0xf) >>> 0, 0xfe00_0000);
        write(peer, at + 3, 0xfc, 1);
        expectEqual("address", (read32(peer, space, at) & ~0xf) >>> 0, 0xfc00_0000);
        expectEqual("kind", read32(peer, space, at) & 0xf, before & 0xf);
        write32(peer, space, at, before);
      },
    },
    {
      id: "command",
      title: "memory and bus master enables are kept",
      run(context) {
        const peer = context.open();
        const before = read16(peer, header.COMMAND);
        for (const value of [0x0006, 0x0000, 0x0002, before]) {
          write(peer, header.COMMAND, value, 2);
          expectEqual("COMMAND", read16(peer, header.COMMAND) & 0x6, value & 0x6);
        }
      },
    },
    {
      id: "read-only",
      title: "what identifies a function does not change, whatever is written",
      run(context) {
        const peer = context.open();
        for (const [at, size] of readOnly) {
          const before = readBytes(peer, space, at, size);
          for (const value of [0, 0xffff_ffff]) {
            write(peer, at, value, size);
            expectBytes(`register at ${at}`, readBytes(peer, space, at, size), before);
          }
        }
      },
    },
    {
      id: "capability-heads",
      title: "the heads of capabilities do not change, whatever is written",
      run(context) {
        const peer = context.open();
        const before = capabilities(peer);
        for (const { at } of before) {
          for (const value of [0, 0xffff]) write(peer, at, value, 2);
        }
        expectEqual("list", JSON.stringify(capabilities(peer)), JSON.stringify(before));
      },
    },
    {
      id: "capabilities-once",
      title: "no capability of one kind is there twice",
      run(context) {
        const ids = capabilities(context.open())
          .map(({ id }) => id)
          .filter((id) => id !== CapabilityId.vendorSpecific);
        expectEqual("different capabilities", new Set(ids).size, ids.length);
      },
    },
    {
      id: "msix",
      title: "MSI-X keeps its enable and mask bits, and its tables lie in a region",
      run(context) {
        const peer = context.open();
        const found = find(peer, CapabilityId.msix);
        if (found === undefined) return;
        const controlAt = found.at + Msix.at.MESSAGE_CONTROL;
        const before = read16(peer, controlAt);
        for (const value of [0xc000, 0x8000, 0x4000, 0]) {
          write(peer, controlAt, value, 2);
          expectEqual("enables", read16(peer, controlAt) & 0xc000, value);
          expectEqual("last vector", read16(peer, controlAt) & 0x7ff, before & 0x7ff);
        }
        write(peer, controlAt + 1, 0x80, 1);
        expectEqual("enable by its own byte", read16(peer, controlAt) & 0xc000, 0x8000);
        write(peer, controlAt, before, 2);
        for (const at of [Msix.at.TABLE, Msix.at.PENDING]) {
          const where = read32(peer, space, found.at + at);
          const region = context.offer.regions[where & 7];
          expectThat((region?.size ?? 0) > (where & ~7) >>> 0, "a table in a region", where);
        }
      },
    },
    {
      id: "flr",
      title: "a function level reset by DEVICE CONTROL resets the registers",
      needs: [known, isExpress],
      run(context) {
        const peer = context.open();
        const found = find(peer, CapabilityId.pciExpress);
        if (found === undefined) return;
        const { region, offset } = registerOf(context.offer);
        write32(peer, region, offset, 0x55);
        const controlAt = found.at + PciExpress.at.DEVICE_CONTROL;
        const before = read16(peer, controlAt);
        write(peer, controlAt, before | 0x8000, 2);
        expectEqual("FLR bit as read", read16(peer, controlAt) & 0x8000, 0);
        expectEqual("register after the reset", read32(peer, region, offset), 0);
      },
    },
  ],
);
