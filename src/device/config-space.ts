import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import type { Hooks, RegisterBank, RegisterValue } from "../base/register-bank.ts";
import { type Register, type Registers, type RegisterTable, registers } from "../base/registers.ts";
import {
  BarBits,
  BarMemoryType,
  barFlagMask,
  barLeastBytes,
  CapabilityId,
  ConfigHeader,
  conventionalConfigBytes,
  extendedConfigBytes,
  RomBits,
} from "../spec/pci.ts";
import { Msi64, Msix, PciExpress } from "../spec/pci-capabilities.ts";
import { type Capability, chain, type PlacedCapability } from "./capabilities.ts";

/** What a base address register asks for. */
export interface BarShape {
  /** Bytes, a power of two. */
  readonly size: number;
  readonly space: "memory32" | "memory64" | "io";
  readonly prefetchable?: boolean;
}

/** Who a function is and what it has. */
export interface FunctionDescription {
  readonly vendor: number;
  readonly device: number;
  readonly revision: number;
  /** Base class, sub-class and programming interface, 24 bits. */
  readonly classCode: number;
  /** Unless told, the vendor's and the device's. */
  readonly subsystemVendor?: number;
  readonly subsystem?: number;
  /** One of `InterruptPin`. */
  readonly interruptPin: number;
  /** By number of the base address register; a 64-bit one takes the next number too. */
  readonly bars: Readonly<Partial<Record<number, BarShape>>>;
  /** Bytes of the expansion ROM, a power of two; 0 for none. */
  readonly romBytes: number;
  /** In the order of the chain. */
  readonly capabilities: readonly Capability[];
}

/** Told of writes that the rest of the device must know about. */
export interface ConfigEvents {
  /** An enable or a mask of interrupts was written. */
  interruptsChanged(): void;
  /** Pending vectors of MSI, as a word of bits. */
  msiPending(): number;
  functionLevelReset(): void;
}

const twoTo32 = 2 ** 32;
const bars = 6;
const command = ConfigHeader.bits.COMMAND.mask;
const { interruptStatus } = ConfigHeader.bits.STATUS.mask;
const msiControl = Msi64.bits.MESSAGE_CONTROL.mask;
const msixControl = Msix.bits.MESSAGE_CONTROL.mask;

/** The address bits that a register for `size` bytes has, low word and high word. */
const addressBits = (size: number): readonly [low: number, high: number] =>
  size >= twoTo32 ? [0, twoTo32 - size / twoTo32] : [twoTo32 - size, twoTo32 - 1];

function checkSize(what: string, size: number, least: number): void {
  assert(Number.isInteger(Math.log2(size)) && size >= least, `${what}: ${size} bytes`);
}

function barRegisters(shapes: FunctionDescription["bars"]): Record<string, Partial<Register>> {
  const values: Record<string, Partial<Register>> = {};
  for (let bar = 0; bar < bars; bar++) values[`BAR${bar}`] ??= { access: "ro" };
  for (const [number, shape] of Object.entries(shapes)) {
    if (shape === undefined) continue;
    const bar = Number(number);
    const wide = shape.space === "memory64";
    const kind = shape.space === "io" ? "io" : "memory";
    checkSize(`BAR${bar}`, shape.size, barLeastBytes[kind]);
    assert(bar + Number(wide) < bars, `BAR${bar}: there are ${bars}`);
    assert(wide || shape.size < twoTo32, `BAR${bar}: too large for 32 bits`);
    const [low, high] = addressBits(shape.size);
    const reset = BarBits.pack({
      io: kind === "io",
      memoryType: wide ? BarMemoryType.bits64 : BarMemoryType.bits32,
      prefetchable: shape.prefetchable ?? false,
    });
    values[`BAR${bar}`] = { access: "rw", reset, writable: (low & ~barFlagMask[kind]) >>> 0 };
    if (!wide) continue;
    assert(shapes[bar + 1] === undefined, `BAR${bar + 1}: is the high word of BAR${bar}`);
    values[`BAR${bar + 1}`] = { access: "rw", writable: high };
  }
  return values;
}

function romRegister(size: number): Partial<Register> {
  if (size === 0) return { access: "ro" };
  checkSize("expansion ROM", size, barLeastBytes.rom);
  const [low] = addressBits(size);
  return { writable: ((low & ~barFlagMask.rom) | RomBits.mask.enable) >>> 0 };
}

function headerRegisters(description: FunctionDescription, firstCapability: number): Registers {
  const { vendor, device, classCode } = description;
  const values: Record<string, Partial<Register>> = {
    VENDOR_ID: { reset: vendor },
    DEVICE_ID: { reset: device },
    STATUS: { reset: firstCapability === 0 ? 0 : ConfigHeader.bits.STATUS.mask.capabilitiesList },
    REVISION_ID: { reset: description.revision },
    PROGRAMMING_INTERFACE: { reset: classCode & 0xff },
    SUB_CLASS: { reset: (classCode >>> 8) & 0xff },
    BASE_CLASS: { reset: classCode >>> 16 },
    SUBSYSTEM_VENDOR_ID: { reset: description.subsystemVendor ?? vendor },
    SUBSYSTEM_ID: { reset: description.subsystem ?? device },
    CAPABILITIES: { reset: firstCapability },
    INTERRUPT_PIN: { reset: description.interruptPin },
    EXPANSION_ROM: romRegister(description.romBytes),
    ...barRegisters(description.bars),
  };
  return Object.fromEntries(
    Object.entries<Register>(ConfigHeader.registers).map(([name, register]) => [
      name,
      { ...register, ...values[name] },
    ]),
  );
}

/** Marks the bytes that no write may name alone: heads of capabilities, and read-only ones. */
function sealedBytes(size: number, capabilities: readonly PlacedCapability[]): Uint8Array {
  const sealed = new Uint8Array(size);
  for (const { at, size: bytes, headBytes, readOnly } of capabilities) {
    sealed.fill(1, at, at + (readOnly ? bytes : headBytes));
  }
  return sealed;
}

/** Bytes of the region that an expansion ROM with these contents needs. */
export const romSize = (rom: Uint8Array | undefined): number =>
  rom === undefined ? 0 : Math.max(barLeastBytes.rom, 2 ** Math.ceil(Math.log2(rom.length)));

/** Bytes of a function's configuration space: with PCI Express or extended capabilities, 4096. */
export const configBytes = (capabilities: readonly Capability[]): number =>
  capabilities.some(({ id, version }) => version !== null || id === CapabilityId.pciExpress)
    ? extendedConfigBytes
    : conventionalConfigBytes;

/**
 * Configuration space, type 0: one register bank of the header and of all capabilities, over a
 * slice of the device's state. A write of all ones to a base address register reads back as its
 * size because only its address bits are writable.
 */
export class ConfigSpace {
  /** Bytes. */
  readonly size: number;
  readonly capabilities: readonly PlacedCapability[];
  readonly #bank: RegisterBank<Registers>;
  readonly #table: RegisterTable<Registers>;
  readonly #sealed: Uint8Array;
  readonly #view: DataView;
  readonly #at: number;
  /** Places in the view of what is asked for at every interrupt; -1 for what is not there. */
  readonly #msiControlAt: number;
  readonly #msiMaskAt: number;
  readonly #msixControlAt: number;

  /** The caller has left `configBytes(description.capabilities)` bytes from `at` of `view`. */
  constructor(description: FunctionDescription, view: DataView, at: number, events: ConfigEvents) {
    const { capabilities, first, registers: chained } = chain(description.capabilities);
    this.size = configBytes(description.capabilities);
    this.capabilities = capabilities;
    this.#view = view;
    this.#at = at;
    this.#sealed = sealedBytes(this.size, capabilities);
    const header = headerRegisters(description, first);
    this.#table = registers("configuration space", this.size, { ...header, ...chained });
    const place = (name: string) => {
      const register = this.#table.registers[name];
      return register === undefined ? -1 : at + register.at;
    };
    this.#msiControlAt = place("msi.MESSAGE_CONTROL");
    this.#msiMaskAt = place("msi.MASK");
    this.#msixControlAt = place("msix.MESSAGE_CONTROL");
    this.#bank = this.#table.bank(view, at, this.#hooks(events));
  }

  #hooks(events: ConfigEvents): Hooks<Registers> {
    const { initiateFunctionLevelReset: flr } = PciExpress.bits.DEVICE_CONTROL.mask;
    const interruptsChanged = () => events.interruptsChanged();
    const hooks: Hooks<Registers> = {
      COMMAND: interruptsChanged,
      "msi.MESSAGE_CONTROL": interruptsChanged,
      "msi.MASK": interruptsChanged,
      "msi.PENDING": { read: () => events.msiPending() },
      "msix.MESSAGE_CONTROL": interruptsChanged,
      "pcie.DEVICE_CONTROL": (value) => {
        if ((value & flr) === 0) return;
        this.#bank.set("pcie.DEVICE_CONTROL", value & ~flr);
        events.functionLevelReset();
      },
    };
    const has = ([name]: [string, unknown]) => name in this.#table.registers;
    return Object.fromEntries(Object.entries(hooks).filter(has));
  }

  /** The capability of this name. */
  find(name: string): PlacedCapability | undefined {
    return this.capabilities.find((each) => each.name === name);
  }

  /** Reads `count` bytes at `offset` into `bytes` from `at`; EINVAL outside. */
  read(offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (offset + count > this.size) return -errno.EINVAL;
    this.#bank.read(offset, bytes, at, count);
    return 0;
  }

  /**
   * Writes, likewise. EPERM when all of it falls on a capability's head or on a read-only
   * capability, EINVAL when MSI would get more vectors than the function has.
   */
  write(offset: number, bytes: Uint8Array, at: number, count: number): number {
    if (offset + count > this.size) return -errno.EINVAL;
    if (this.#allSealed(offset, count)) return -errno.EPERM;
    if (this.#tooManyMessages(offset, bytes, at, count)) return -errno.EINVAL;
    this.#bank.write(offset, bytes, at, count);
    return 0;
  }

  #allSealed(offset: number, count: number): boolean {
    for (let i = 0; i < count; i++) if (this.#sealed[offset + i] === 0) return false;
    return count > 0;
  }

  /** Multiple Message Enable lies in the low byte of the message control. */
  #tooManyMessages(offset: number, bytes: Uint8Array, at: number, count: number): boolean {
    const control = this.#msiControlAt - this.#at;
    if (control < offset || control >= offset + count) return false;
    const { multipleMessageEnable, multipleMessageCapable } = msiControl;
    const written = bytes[at + control - offset] as number;
    const capable = this.#view.getUint16(this.#msiControlAt, true) & multipleMessageCapable;
    return (written & multipleMessageEnable) >>> 4 > capable >>> 1;
  }

  /** The bits of `mask` that are set in the 16 bits at a place that may not be there. */
  #bits(at: number, mask: number): number {
    return at < 0 ? 0 : this.#view.getUint16(at, true) & mask;
  }

  get busMaster(): boolean {
    return this.#bits(this.#at + ConfigHeader.at.COMMAND, command.busMaster) !== 0;
  }

  get interruptDisabled(): boolean {
    return this.#bits(this.#at + ConfigHeader.at.COMMAND, command.interruptDisable) !== 0;
  }

  get msiEnabled(): boolean {
    return this.#bits(this.#msiControlAt, msiControl.enable) !== 0;
  }

  /** Is the vector kept back by the mask bits of the capability? */
  msiMasked(vector: number): boolean {
    if (this.#msiMaskAt < 0) return false;
    return (this.#view.getUint32(this.#msiMaskAt, true) & (1 << vector)) !== 0;
  }

  get msixEnabled(): boolean {
    return this.#bits(this.#msixControlAt, msixControl.enable) !== 0;
  }

  /** Are all vectors kept back? The masks of single ones are in the table, which is the VMM's. */
  get msixMasked(): boolean {
    return this.#bits(this.#msixControlAt, msixControl.functionMask) !== 0;
  }

  /** Says in the status register whether the function asserts its INTx line. */
  setInterruptStatus(asserted: boolean): void {
    const at = this.#at + ConfigHeader.at.STATUS;
    const others = this.#view.getUint16(at, true) & ~interruptStatus;
    this.#view.setUint16(at, asserted ? others | interruptStatus : others, true);
  }

  reset(): void {
    this.#bank.reset();
  }

  /** After the bytes were replaced from outside: what no write can have changed is put back. */
  restored(): void {
    const { writable, clearable, reset } = this.#table.rules;
    const initial = new DataView(reset.buffer);
    for (let word = 0; word < writable.length; word++) {
      const at = this.#at + 4 * word;
      const changeable = (writable[word] as number) | (clearable[word] as number);
      const kept = this.#view.getInt32(at, true) & changeable;
      this.#view.setInt32(at, kept | (initial.getInt32(4 * word, true) & ~changeable), true);
    }
  }

  describe(): RegisterValue[] {
    return this.#bank.describe();
  }
}
