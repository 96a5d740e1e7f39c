/** Guests at work whose VMM moves them: every answer of the device is verified. */
import { fileURLToPath } from "node:url";
import { errno, errnoName } from "../../src/base/errno.ts";
import { GuestFunction } from "../../src/cli/demo/guest-function.ts";
import { Connection } from "../../src/client/connection.ts";
import { GuestRam } from "../../src/client/guest-ram.ts";
import { MovableDevice } from "../../src/client/movable-device.ts";
import { RemoteDevice } from "../../src/client/remote-device.ts";
import type { VfioDevice } from "../../src/device/vfio-device.ts";
import { Bulk, BulkCommand } from "../../src/devices/bulk/index.ts";
import { PciFunction } from "../../src/guest/pci-function.ts";
import { sec2Workload } from "../../src/guest/sec2-work.ts";

/** What a guest has done, and what its VMM does when it moves. */
export interface MovingGuest {
  /** Operations that have ended, and those of them that ended wrong. */
  readonly operations: number;
  readonly wrong: number;
  /** Operations under way. */
  readonly pending: number;
  /** Gives the device work and takes what it has done. */
  turn(): void;
  /** Takes what is done and gives no more. */
  collect(): void;
  /** Connects to the other host's device, with memory of that host. */
  prepare(socket: string): void;
  copyMemory(): void;
  /** Goes on there, or stays here after all. */
  arrive(): void;
  stay(): void;
  close(): void;
}

const depth = 8;
const memoryBytes = 16 << 20;

/** A guest with a cipher accelerator. */
export class Sec2Guest extends GuestFunction implements MovingGuest {
  constructor(socket: string) {
    super(socket, depth, (device) => sec2Workload(device, { depth, memoryBytes }));
  }

  get operations(): number {
    return this.load.operations;
  }

  get wrong(): number {
    return this.load.wrong;
  }

  get pending(): number {
    return this.load.pending;
  }

  turn(): void {
    this.load.turn(0);
  }

  collect(): void {
    this.load.collect(1);
  }
}

const timeoutMs = 30_000;
const ramBytes = 1 << 20;
/** A guest address like no other number that a log might have. */
export const ramIova = 0x5a_1234_5000;

/** A guest that has one operation under way and knows what must come of it. */
abstract class RegisterGuest implements MovingGuest {
  operations = 0;
  wrong = 0;
  pending = 0;
  protected readonly pci: PciFunction;
  protected readonly ram = new GuestRam(ramBytes);
  /** Wherever it is. */
  get device(): VfioDevice {
    return this.#device;
  }

  readonly #device: MovableDevice;
  #there: { readonly device: RemoteDevice; readonly ram: GuestRam } | null = null;
  #left: RemoteDevice | null = null;

  constructor(socket: string) {
    this.#device = new MovableDevice(connect(socket));
    this.pci = new PciFunction(this.#device);
    this.ram.map(this.#device, ramIova);
    this.pci.enable();
  }

  /** Begins operation `this.operations`. */
  protected abstract start(): void;
  protected abstract get ended(): boolean;
  protected abstract get correct(): boolean;

  turn(): void {
    this.collect();
    if (this.pending > 0) return;
    this.start();
    this.pending = 1;
  }

  collect(): void {
    if (this.pending === 0 || !this.ended) return;
    if (!this.correct) this.wrong += 1;
    this.operations += 1;
    this.pending = 0;
  }

  /** Bytes of operation `n` that no other one has. */
  protected pattern(length: number): Uint8Array {
    const n = this.operations;
    return Uint8Array.from({ length }, (_, i) => (i * 7 + n * 13 + (n >> 8)) & 0xff);
  }

  prepare(socket: string): void {
    this.leave();
    const [device, ram] = [connect(socket), new GuestRam(ramBytes)];
    this.ram.mapThere(device, ram);
    this.#device.wireThere(device);
    this.#there = { device, ram };
  }

  copyMemory(): void {
    if (this.#there !== null) this.ram.copyTo(this.#there.ram);
  }

  arrive(): void {
    if (this.#there === null) return;
    this.#left = this.#device.moveTo(this.#there.device) as RemoteDevice;
    this.#left.unmapAllDma();
    this.ram.moveTo(this.#there.ram);
    this.#there = null;
  }

  stay(): void {
    this.#there?.device.close();
    this.#there?.ram.close();
    this.#there = null;
  }

  /** A driver starts anew. */
  reset(): void {
    const result = this.#device.reset();
    if (result < 0) throw new Error(`the reset is refused: ${errnoName(result)}`);
    this.pci.enable();
    [this.operations, this.pending] = [0, 0];
  }

  /** The VMM on the host that was left ends. */
  leave(): void {
    this.#left?.close();
    this.#left = null;
  }

  close(): void {
    this.leave();
    this.#there?.device.close();
    this.#device.forget();
    (this.#device.inner as RemoteDevice).close();
  }
}

const halves = (value: number): [low: number, high: number] => [
  value % 2 ** 32,
  Math.floor(value / 2 ** 32),
];

const connect = (socket: string): RemoteDevice =>
  new RemoteDevice(Connection.connect(socket, { timeoutMs }), socket);

/** Rings the hello device's bell and has it echo bytes: its count must be the guest's own. */
export class HelloGuest extends RegisterGuest {
  static readonly #at = { counter: 0x04, bell: 0x08, source: 0x10, target: 0x18 } as const;
  static readonly #echo = {
    length: 0x20,
    status: 0x24,
    start: 0x28,
    bytes: 4096,
    busy: 1,
  } as const;
  #sent: Uint8Array = new Uint8Array(0);

  protected start(): void {
    const { bell, source, target } = HelloGuest.#at;
    const echo = HelloGuest.#echo;
    this.#sent = this.pattern(echo.bytes);
    this.ram.bytes.set(this.#sent, 0);
    this.pci.write(0, bell, 1);
    this.pci.writePair(0, source, ...halves(ramIova));
    this.pci.writePair(0, target, ...halves(ramIova + echo.bytes));
    this.pci.write(0, echo.length, echo.bytes);
    this.pci.write(0, echo.start, 1);
  }

  protected get ended(): boolean {
    return this.pci.read(0, HelloGuest.#echo.status) !== HelloGuest.#echo.busy;
  }

  protected get correct(): boolean {
    const { bytes, status } = HelloGuest.#echo;
    const echoed = this.ram.bytes.subarray(bytes, 2 * bytes);
    return (
      this.pci.read(0, status) === 0 &&
      this.pci.read(0, HelloGuest.#at.counter) === this.operations + 1 &&
      Buffer.compare(echoed, this.#sent) === 0
    );
  }
}

/** Moves bytes onto the bulk device's board and back: both halves of a round are operations. */
export class BulkGuest extends RegisterGuest {
  static readonly #bytes = 65_536;
  static readonly #places = 16;
  #sent: Uint8Array = new Uint8Array(0);

  protected start(): void {
    const bytes = BulkGuest.#bytes;
    const back = this.operations % 2 === 1;
    if (!back) {
      this.#sent = this.pattern(bytes);
      this.ram.bytes.set(this.#sent, 0);
    }
    const round = Math.floor(this.operations / 2);
    this.#set(Bulk.at.BOARD_OFFSET, (round % BulkGuest.#places) * bytes);
    this.#set(Bulk.at.LENGTH, bytes);
    this.#set(Bulk.at.GUEST_ADDRESS, ramIova + (back ? bytes : 0));
    this.pci.write(0, Bulk.at.SEQUENCE, this.operations + 1);
    this.pci.write(0, Bulk.at.COMMAND, back ? BulkCommand.toGuest : BulkCommand.toBoard);
  }

  #set(offset: number, value: number): void {
    this.pci.writePair(0, offset, ...halves(value));
  }

  protected get ended(): boolean {
    return this.pci.read(0, Bulk.at.STATUS) !== errno.EINPROGRESS;
  }

  protected get correct(): boolean {
    const bytes = BulkGuest.#bytes;
    const done = this.pci.read(0, Bulk.at.COMPLETED) === this.operations + 1;
    if (this.pci.read(0, Bulk.at.STATUS) !== 0 || !done) return false;
    if (this.operations % 2 === 0) return true;
    return Buffer.compare(this.ram.bytes.subarray(bytes, 2 * bytes), this.#sent) === 0;
  }
}

const bulkDriver = fileURLToPath(new URL("../../examples/bulk-driver/index.mjs", import.meta.url));

/** Devices by what `ferry serve` is told, each with a guest for it. */
export const movingDevices: ReadonlyArray<{
  readonly device: readonly string[];
  readonly boot: (socket: string) => MovingGuest;
}> = [
  { device: ["hello"], boot: (socket) => new HelloGuest(socket) },
  { device: ["hisi-sec2"], boot: (socket) => new Sec2Guest(socket) },
  {
    device: ["bulk", "--set", "memoryMiB=8", "--driver", bulkDriver],
    boot: (socket) => new BulkGuest(socket),
  },
];
