/** Where a function of a VM is: on its bus, and in physical memory. */
import * as s from "../migration/hosts/shapes.ts";

/** Bridges behind bridges that are looked behind. */
export const bridgesMax = 16;
const devicesMax = 1024;

/** A function as a VMM's `query-pci` lists it. */
export interface PciFunction {
  readonly bus: number;
  readonly slot: number;
  readonly fn: number;
  readonly vendor: number;
  readonly device: number;
  /** Of each base address register that asks for memory: where it is; -1 for nowhere. */
  readonly bars: readonly Bar[];
}

interface Bar {
  readonly bar: number;
  readonly address: number;
}

const whole16 = s.whole(0xffff);
/** An address, or -1 for one that is not set. */
const address: s.Reader<number> = (value) =>
  Number.isInteger(value) && (value as number) >= -1 ? (value as number) : undefined;

const functionShape = s.object({
  qdev_id: s.text(256),
  bus: s.whole(255),
  slot: s.whole(31),
  function: s.whole(7),
  id: s.object({ vendor: whole16, device: whole16 }),
  regions: s.list(s.object({ bar: s.whole(6), address }), 7),
});
const listShape = s.list<unknown>((value) => value, devicesMax);
const busShape = s.object({ devices: listShape });
const bridgeShape = s.object({ pci_bridge: busShape });

/** The function with this id in the answer to `query-pci`, wherever it is. */
export function findFunction(answer: unknown, id: string): PciFunction | undefined {
  for (const bus of listShape(answer) ?? []) {
    const found = findBehind(bus, id, bridgesMax);
    if (found !== undefined) return found;
  }
  return undefined;
}

function findBehind(bus: unknown, id: string, bridges: number): PciFunction | undefined {
  for (const each of busShape(bus)?.devices ?? []) {
    const read = functionShape(each);
    if (read?.qdev_id === id) return functionOf(read);
    const bridge = bridges === 0 ? undefined : bridgeShape(each)?.pci_bridge;
    const found = bridge === undefined ? undefined : findBehind(bridge, id, bridges - 1);
    if (found !== undefined) return found;
  }
  return undefined;
}

function functionOf(read: s.Read<typeof functionShape>): PciFunction {
  const { bus, slot, function: fn, id, regions: bars } = read;
  return { bus, slot, fn, vendor: id.vendor, device: id.device, bars };
}

/** Where an offset into a BAR is in physical memory; -1 where the guest has given it no address. */
export function barAddress({ bars }: PciFunction, bar: number, offset: number): number {
  const address = bars.find((each) => each.bar === bar)?.address ?? -1;
  return address < 0 ? address : address + offset;
}

/** For people: `01:00.0`. */
export const placeText = ({ bus, slot, fn }: PciFunction): string =>
  `${bus.toString(16).padStart(2, "0")}:${slotText((slot << 3) | fn)}`;

/** A function of its bus, by the five bits and the three that it is addressed by: `00.0`. */
export const slotText = (devfn: number): string =>
  `${(devfn >> 3).toString(16).padStart(2, "0")}.${devfn & 7}`;

/** Where PCI Express has configuration space in memory, in the text of `info mtree -f`. */
export function ecamBase(tree: string): number | undefined {
  const [, start] =
    /^\s*([0-9a-f]{16})-[0-9a-f]{16} \(prio .*\): pcie-mmcfg-mmio$/m.exec(tree) ?? [];
  const base = start === undefined ? Number.NaN : Number.parseInt(start, 16);
  return Number.isSafeInteger(base) ? base : undefined;
}

/** Whether the text of `info mtree -f` has pending bits of MSI-X of a VMM's own at an address. */
export const showsPending = (tree: string, address: number): boolean =>
  new RegExp(`^ *${address.toString(16).padStart(16, "0")}-.*: msix-pba\\s*$`, "m").test(tree);

/** The physical address of a register of a function. */
export const configAddress = (base: number, { bus, slot, fn }: PciFunction, offset = 0): number =>
  base + (((bus << 8) | (slot << 3) | fn) << 12) + offset;
