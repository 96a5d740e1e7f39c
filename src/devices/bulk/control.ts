/** The function that migration drives: it has DMA of its own and is in no guest's reach. */
import { errno } from "../../base/errno.ts";
import { pciExpress, powerManagement } from "../../device/capabilities.ts";
import { PciModel } from "../../device/pci-model.ts";
import type { BulkDevice } from "./bulk.ts";
import {
  BulkControl,
  BulkFunctionState,
  BulkPause,
  bulkPageBytes,
  bulkZeroBytesMax,
  BulkControlCommand as Command,
} from "./registers.ts";

/** Bytes that one command moves at most. */
const moveBytesMax = 1 << 20;

type Pause = (typeof BulkPause)[keyof typeof BulkPause];

/** Its registers are `BulkControl`; RESULT is 0 or an errno. */
export class BulkControlFunction extends PciModel {
  readonly #device: BulkDevice;
  readonly #registers = this.bank(0, BulkControl, {
    PAUSE: (pause) => this.#pause(pause),
    TRACKING: (on) => this.#track(on !== 0),
    DIRTY_PAGES: { read: () => this.#device.board.dirtyPages },
    COMMAND: (command) => this.#start(command),
  });
  readonly #function = new Uint8Array(BulkFunctionState.size);
  /** Is this the first step of letting go of what clients map, or of showing it to them again? */
  #firstStep = false;

  constructor(device: BulkDevice) {
    super({
      name: "bulk control",
      version: 1,
      vendor: 0xfe22,
      device: 0x0004,
      revision: 1,
      classCode: 0xff0000,
      interruptPin: 0,
      capabilities: [powerManagement(), pciExpress()],
      bars: { 0: { size: BulkControl.size, space: "memory32" } },
    });
    this.#device = device;
    this.#registers.set("MEMORY_BYTES", device.board.bytes);
    device.whenReset(() => this.reset());
  }

  #pause(pause: number): void {
    if (pause > BulkPause.standStill) return;
    this.#registers.set("PAUSE", pause);
    this.#firstStep = true;
    // To do less takes effect at once, but for what clients have mapped; to do more, at the end.
    if (pause >= this.#registers.get("PAUSED")) this.#device.pause(pause as Pause);
  }

  /** Does the device do what PAUSE says without a further step? */
  get #isPaused(): boolean {
    return this.#registers.get("PAUSE") === this.#registers.get("PAUSED");
  }

  #track(on: boolean): void {
    this.#registers.set("TRACKING", Number(on));
    this.#device.board.track(on);
  }

  #start(command: number): void {
    this.#registers.set("COMMAND", command);
    this.#registers.set("RESULT", errno.EINPROGRESS);
  }

  protected override get hasWork(): boolean {
    return !this.#isPaused || this.#registers.get("RESULT") === errno.EINPROGRESS;
  }

  protected override slice(): void {
    if (!this.#isPaused) this.#stepPause();
    else this.#registers.set("RESULT", -this.#obey(this.#registers.get("COMMAND")));
  }

  #stepPause(): void {
    const pause = this.#registers.get("PAUSE") as Pause;
    const { board } = this.#device;
    const first = this.#firstStep;
    this.#firstStep = false;
    const done = pause === BulkPause.standStill ? board.part(first) : board.join(first);
    if (!done) return;
    this.#registers.set("PAUSED", pause);
    this.#device.pause(pause);
  }

  #obey(command: number): number {
    switch (command) {
      case Command.take:
        return this.#take();
      case Command.saveFunction:
        return this.#saveFunction();
      case Command.load:
      case Command.zero:
      case Command.clear:
      case Command.loadFunction:
        return this.#change(command);
      default:
        return -errno.EINVAL;
    }
  }

  get #place(): readonly [offset: number, length: number, host: number] {
    const registers = this.#registers;
    return [registers.get("BOARD_OFFSET"), registers.get("LENGTH"), registers.get("HOST_ADDRESS")];
  }

  #take(): number {
    const [, most, host] = this.#place;
    const pagesMax = Math.floor(Math.min(most, moveBytesMax) / bulkPageBytes);
    if (pagesMax === 0) return -errno.EINVAL;
    const { board } = this.#device;
    const run = board.take(pagesMax);
    if (run === null) return -errno.ENOENT;
    const [offset, length] = [run.page * bulkPageBytes, run.pages * bulkPageBytes];
    this.#registers.set("BOARD_OFFSET", offset);
    this.#registers.set("LENGTH", length);
    this.#registers.set("ZERO", Number(run.zero));
    const result = run.zero ? 0 : this.memory.write(host, board.record, offset, length);
    // What could not be moved has still to be.
    if (result < 0) board.mark(offset, length);
    return result;
  }

  #saveFunction(): number {
    this.#device.saveFunction(this.#function);
    return this.memory.write(this.#place[2], this.#function, 0, this.#function.length);
  }

  #loadFunction(): number {
    const result = this.memory.read(this.#place[2], this.#function, 0, this.#function.length);
    return result < 0 ? result : this.#device.loadFunction(this.#function);
  }

  /** What changes the device, which must stand still. */
  #change(command: number): number {
    if (this.#registers.get("PAUSED") !== BulkPause.standStill) return -errno.EBUSY;
    if (command === Command.loadFunction) return this.#loadFunction();
    if (command === Command.clear) {
      this.#device.clearBoard();
      return 0;
    }
    const [offset, length, host] = this.#place;
    const { board } = this.#device;
    if (!board.holds(offset, length)) return -errno.EINVAL;
    if (command === Command.load) return this.#load(offset, length, host);
    if (length > bulkZeroBytesMax) return -errno.EINVAL;
    board.memory.fill(0, offset, offset + length);
    board.mark(offset, length);
    return 0;
  }

  #load(offset: number, length: number, host: number): number {
    if (length > moveBytesMax) return -errno.EINVAL;
    const { board } = this.#device;
    const result = this.memory.read(host, board.memory, offset, length);
    if (result === 0) board.mark(offset, length);
    return result;
  }

  /** Also when the guest's function is reset: it runs, and nobody notes its changes. */
  protected override onReset(): void {
    this.#device.board.track(false);
    this.#registers.set("MEMORY_BYTES", this.#device.board.bytes);
  }
}
