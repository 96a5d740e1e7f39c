/** A device with much memory of its own, which the guest fills and empties by commands. */
import { errno } from "../../base/errno.ts";
import { msix, pciExpress, powerManagement } from "../../device/capabilities.ts";
import { PciModel } from "../../device/pci-model.ts";
import { pending } from "../../memory/transfer.ts";
import { PciRegion } from "../../spec/vfio.ts";
import { Board } from "./board.ts";
import { checkBulkFunction, checkRequest } from "./checks.ts";
import { Bulk, BulkCommand, BulkFunctionState, BulkPause, BulkRequest } from "./registers.ts";

const { done } = Bulk.bits.CAUSE.mask;
const windowBytes = 65_536;
/** What one slice of a command moves: all of it, or nothing. */
const sliceBytesMax = 1 << 20;
/** In the section `interrupts`, behind the level of the line. */
const pendingAt = 4;
const mib = 1 << 20;

/** How far a device has stopped for its migration, by the control function. */
type Pause = (typeof BulkPause)[keyof typeof BulkPause];

/** What the model is; `mapped` lets clients map the memory, and BAR2 is as large then. */
function describe(memoryMib: number, mapped: boolean, prealloc: boolean) {
  const memoryBytes = memoryMib * mib;
  const size = mapped ? memoryBytes : windowBytes;
  return {
    name: "bulk",
    version: 1,
    vendor: 0xfe22,
    device: 0x0003,
    revision: 1,
    classCode: 0xff0000,
    interruptPin: 1,
    capabilities: [
      powerManagement(),
      pciExpress(),
      msix({ vectors: 1, table: { bar: 4, offset: 0 }, pending: { bar: 4, offset: 0x800 } }),
    ],
    bars: {
      0: { size: Bulk.size, space: "memory32" },
      2: { size, space: "memory64", prefetchable: true, section: "board", mapped },
      4: { size: 4096, space: "memory32" },
    },
    sections: { request: BulkRequest.size, board: memoryBytes },
    prealloc,
  } as const;
}

/** The function that the guest is given. */
export class BulkDevice extends PciModel {
  readonly board: Board;
  readonly #registers = this.bank(0, Bulk, {
    COMMAND: (command) => this.#start(command),
    CAUSE: (cause) => this.interrupts.setLine(cause !== 0),
    WINDOW: (window) => this.#turn(window),
  });
  readonly #request = this.section("request");
  readonly #requestView = new DataView(this.#request.buffer, this.#request.byteOffset);
  readonly #interrupts = this.section("interrupts");
  /** What the guest's memory is read into before the board is written. */
  readonly #staging = new Uint8Array(sliceBytesMax);
  #pause: Pause = BulkPause.run;
  #onReset = (): void => {};

  constructor(memoryMib: number, mapped: boolean, prealloc: boolean) {
    super(describe(memoryMib, mapped, prealloc));
    this.board = new Board(this.section("board"), this.shadow(2));
    this.#showSize();
  }

  #showSize(): void {
    this.#registers.set("MEMORY_BYTES", this.board.bytes);
  }

  #turn(window: number): void {
    const offset = window * windowBytes;
    if (this.shadow(2) !== null || !this.board.holds(offset, windowBytes)) return;
    this.#registers.set("WINDOW", window);
    this.turn(2, "board", offset);
  }

  #start(command: number): void {
    if (this.#runs) return;
    const registers = this.#registers;
    const request = {
      command,
      value: registers.get("VALUE") & 0xff,
      sequence: registers.get("SEQUENCE"),
      reserved: 0,
      boardOffset: registers.get("BOARD_OFFSET"),
      length: registers.get("LENGTH"),
      guestAddress: registers.get("GUEST_ADDRESS"),
      done: 0,
    };
    registers.set("DONE", 0);
    registers.set("STATUS", errno.EINPROGRESS);
    const makesSense = command !== 0 && checkRequest(request, this.board.bytes);
    if (makesSense) BulkRequest.set(this.#requestView, 0, request);
    else this.#end(-errno.EINVAL, request.sequence);
  }

  get #runs(): boolean {
    return this.#registers.get("STATUS") === errno.EINPROGRESS;
  }

  #end(result: number, sequence: number): void {
    this.#request.fill(0);
    this.#registers.set("STATUS", -result);
    this.#registers.set("COMPLETED", sequence);
    this.#registers.set("CAUSE", this.#registers.get("CAUSE") | done);
    this.interrupts.setLine(true);
    this.interrupts.raise(0);
  }

  protected override get hasWork(): boolean {
    return this.#pause === BulkPause.run && this.#runs && !this.dma.waiting;
  }

  /** A slice reads all of its input before it changes anything, so it can always run again. */
  protected override slice(): void {
    const request = BulkRequest.get(this.#requestView, 0);
    const length = Math.min(sliceBytesMax, request.length - request.done);
    const result = this.#move(request, length);
    if (result === pending) return;
    if (result < 0) {
      this.#end(result, request.sequence);
      return;
    }
    const moved = request.done + length;
    BulkRequest.set(this.#requestView, 0, { ...request, done: moved });
    this.#registers.set("DONE", moved);
    if (moved === request.length) this.#end(0, request.sequence);
  }

  #move(request: ReturnType<typeof BulkRequest.get>, length: number): number {
    const { command, value, boardOffset, guestAddress, done: moved } = request;
    const at = boardOffset + moved;
    if (command === BulkCommand.toGuest) {
      return this.dma.write(guestAddress + moved, this.board.memory, at, length);
    }
    if (command === BulkCommand.toBoard) {
      const result = this.dma.read(guestAddress + moved, this.#staging, 0, length);
      if (result !== 0) return result;
      this.board.memory.set(this.#staging.subarray(0, length), at);
    } else {
      this.board.memory.fill(value, at, at + length);
    }
    this.board.mark(at, length);
    return 0;
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    const still = this.#pause === BulkPause.standStill && region !== PciRegion.config;
    if (still && offset + count <= (this.regions[region]?.size ?? 0)) return 0;
    const result = super.write(region, offset, bytes, at, count);
    if (region === PciRegion.bar2 && result === 0 && count > 0) {
      this.board.mark(this.#registers.get("WINDOW") * windowBytes + offset, count);
    }
    return result;
  }

  /** For the control function: begins nothing new, or does nothing at all, or goes on. */
  pause(pause: Pause): void {
    this.#pause = pause;
    if (pause === BulkPause.standStill) {
      this.abort();
      this.interrupts.stop();
    } else {
      this.interrupts.start();
    }
  }

  /** Tells the control function when this one is reset. */
  whenReset(tell: () => void): void {
    this.#onReset = tell;
  }

  protected override onReset(): void {
    this.#onReset();
    this.#request.fill(0);
    this.clearBoard();
    this.shadow(2)?.join();
    this.#turn(0);
    this.#showSize();
    this.pause(BulkPause.run);
  }

  /** Makes all of the memory zero; what clients have mapped follows when they may see it. */
  clearBoard(): void {
    const shadow = this.shadow(2);
    if (shadow?.live === true) shadow.clear();
    this.clear("board");
    this.board.cleared();
  }

  protected override onRestored(): number {
    this.board.replaced();
    const state = new Uint8Array(BulkFunctionState.size);
    this.saveFunction(state);
    if (!checkBulkFunction(state, this.board.bytes)) return -errno.EINVAL;
    this.#turn(this.#registers.get("WINDOW"));
    this.#showSize();
    return 0;
  }

  /** Everything of the function that is neither on the board nor in configuration space. */
  saveFunction(state: Uint8Array): void {
    const { offset } = BulkFunctionState;
    const view = new DataView(state.buffer, state.byteOffset, state.byteLength);
    const { registers, request } = BulkFunctionState.fields;
    state.set(this.section("bar0").subarray(0, registers.size), offset.registers);
    state.set(this.#request.subarray(0, request.size), offset.request);
    state.set(this.#interrupts.subarray(pendingAt, pendingAt + 4), offset.pending);
    view.setUint32(offset.reserved, 0, true);
  }

  /** Becomes that state; the device stands still. EINVAL, and no change, when it makes no sense. */
  loadFunction(state: Uint8Array): number {
    if (!checkBulkFunction(state, this.board.bytes)) return -errno.EINVAL;
    const { offset, fields } = BulkFunctionState;
    const registers = state.subarray(offset.registers, offset.registers + fields.registers.size);
    this.section("bar0").set(registers);
    this.#request.set(state.subarray(offset.request, offset.request + fields.request.size));
    this.#interrupts.set(state.subarray(offset.pending, offset.pending + 4), pendingAt);
    this.interrupts.setLine(this.#registers.get("CAUSE") !== 0);
    this.#turn(this.#registers.get("WINDOW"));
    this.#showSize();
    return 0;
  }
}
