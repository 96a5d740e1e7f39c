/** A device to measure servers with: registers, interrupts, DMA of both kinds, a large state. */
import { errno } from "../../base/errno.ts";
import { registers } from "../../base/registers.ts";
import { msix, pciExpress, powerManagement } from "../../device/capabilities.ts";
import { PciModel } from "../../device/pci-model.ts";
import { Direction, pending, Transfer } from "../../memory/transfer.ts";
import { Arena } from "../../sys/arena.ts";

const Bench = registers("bench", 4096, {
  DOORBELL: { at: 0x080, access: "hook", doc: "raises the vector whose number is written" },
  DMA_ADDRESS: { at: 0x100, size: 8, access: "rw", doc: "guest address" },
  DMA_LENGTH: { at: 0x108, access: "rw", doc: "bytes, at most 16 MiB" },
  DMA_REPEAT: { at: 0x10c, access: "rw", doc: "how often" },
  DMA_COMMAND: {
    at: 0x110,
    access: "hook",
    doc: "1 read, 2 fill; 3, 4 the same by messages",
  },
  DMA_STATUS: { at: 0x114, access: "ro", doc: "0 or an errno; EINPROGRESS while it runs" },
  DMA_ELAPSED: { at: 0x118, size: 8, access: "ro", doc: "nanoseconds that it took" },
  DMA_FIRST: { at: 0x120, size: 8, access: "ro", doc: "first byte that was read" },
  DMA_LEFT: { at: 0x128, access: "ro", doc: "how often still" },
});

const Command = { mappedRead: 1, mappedFill: 2, messageRead: 3, messageWrite: 4 } as const;
const vectors = 32;
const lengthMax = 16 << 20;
/** A slice of mapped DMA ends after so many bytes, or so many operations. */
const sliceBytesMax = 4 << 20;
const sliceOperationsMax = 1024;
/** A client that asks for the status lends its time to mapped DMA, so many slices and bytes. */
const pollSlicesMax = 1024;
const pollBytesMax = 2 ** 32;
/** What a fill fills with. */
const pattern = 0x5a;
const mappedAreas = [{ offset: 0x1000, size: 0x4000 }];
const scratchBytes = 1 << 20;
const mib = 1 << 20;

/** The `bench` device; its registers are the table above. */
export class BenchDevice extends PciModel {
  readonly #registers = this.bank(0, Bench, {
    DOORBELL: (vector) => this.interrupts.raise(vector),
    DMA_COMMAND: (command) => this.#start(command),
    DMA_STATUS: { read: () => this.#poll() },
  });
  /**
   * Whole pages, as a guest's are: some processors copy between addresses of which one is a few
   * bytes further into its page than the other at a twentieth of their speed.
   */
  readonly #buffer = new Arena(lengthMax).bytes;
  /** So many bytes of the buffer are known to be the pattern. */
  #patternBytes = 0;
  readonly #transfer = new Transfer();
  /** When the time that is not yet counted began; 0 while nothing is counted. */
  #since = 0n;

  /** `stateMib` is how much more state than a small device it has, in MiB. */
  constructor(stateMib: number, mapped: boolean) {
    super({
      name: "bench",
      version: 1,
      vendor: 0xfe22,
      device: 0x0002,
      revision: 1,
      classCode: 0xff0000,
      interruptPin: 1,
      capabilities: [
        powerManagement(),
        pciExpress(),
        msix({ vectors, table: { bar: 1, offset: 0x8000 }, pending: { bar: 1, offset: 0xc000 } }),
      ],
      bars: {
        0: { size: scratchBytes, space: "memory32" },
        1: { size: 65536, space: "memory32", mapped: mapped && mappedAreas },
      },
      ioEventfds: [0n, 1n, 2n, 3n].map((datamatch) => ({
        bar: 0,
        offset: 0x080,
        size: 4,
        datamatch,
      })),
      sections: { ballast: stateMib * mib },
    });
    const ballast = this.section("ballast");
    for (let at = 0; at < ballast.length; at += 4096) ballast.fill(at >>> 12, at, at + 4096);
  }

  #start(command: number): void {
    if (this.#running) return;
    const known = command >= Command.mappedRead && command <= Command.messageWrite;
    const fits = this.#registers.get("DMA_LENGTH") <= lengthMax;
    this.#registers.set("DMA_ELAPSED", 0);
    this.#registers.set("DMA_COMMAND", command);
    this.#registers.set("DMA_STATUS", errno.EINPROGRESS);
    this.#registers.set("DMA_LEFT", this.#registers.get("DMA_REPEAT"));
    if (!known || !fits) this.#finish(-errno.EINVAL);
    else if (this.#registers.get("DMA_REPEAT") === 0) this.#finish(0);
  }

  #finish(result: number): void {
    this.#since = 0n;
    this.#registers.set("DMA_STATUS", -result);
    this.#registers.set("DMA_FIRST", this.#buffer[0] as number);
  }

  get #running(): boolean {
    return this.#registers.get("DMA_STATUS") === errno.EINPROGRESS;
  }

  get #byMessages(): boolean {
    return this.#registers.get("DMA_COMMAND") >= Command.messageRead;
  }

  #poll(): number {
    let bytes = 0;
    for (let slices = 0; slices < pollSlicesMax && bytes < pollBytesMax; slices++) {
      if (!this.busy || this.#byMessages) break;
      bytes += this.#mappedSlice();
    }
    return this.#registers.get("DMA_STATUS");
  }

  /** Nobody writes to the ballast, and it may be much. */
  protected override onReset(): void {}

  protected override get hasWork(): boolean {
    return this.#running && !(this.#since !== 0n && this.#transfer.status === pending);
  }

  protected override slice(): void {
    if (this.#byMessages) this.#messageSlice();
    else this.#mappedSlice();
  }

  /** The buffer to move: for a fill made of the pattern, for a read no longer. */
  #prepare(fill: boolean, length: number): void {
    if (fill && this.#patternBytes < length) this.#buffer.fill(pattern, 0, length);
    this.#patternBytes = fill ? Math.max(this.#patternBytes, length) : 0;
  }

  #count(now: bigint, operations: number): void {
    const elapsed = Number(now - this.#since);
    this.#registers.set("DMA_ELAPSED", this.#registers.get("DMA_ELAPSED") + elapsed);
    this.#registers.set("DMA_LEFT", this.#registers.get("DMA_LEFT") - operations);
  }

  /** Many operations at once; only the time in here counts. Returns the bytes that were moved. */
  #mappedSlice(): number {
    const address = this.#registers.get("DMA_ADDRESS");
    const length = Math.min(this.#registers.get("DMA_LENGTH"), lengthMax);
    const left = this.#registers.get("DMA_LEFT");
    const most = Math.min(left, sliceOperationsMax, Math.ceil(sliceBytesMax / Math.max(length, 1)));
    const fill = this.#registers.get("DMA_COMMAND") === Command.mappedFill;
    this.#since = process.hrtime.bigint();
    this.#prepare(fill, length);
    let result = 0;
    let done = 0;
    for (; done < most && result === 0; done++) {
      result = fill
        ? this.memory.write(address, this.#buffer, 0, length)
        : this.memory.read(address, this.#buffer, 0, length);
    }
    this.#count(process.hrtime.bigint(), done);
    this.#since = 0n;
    // Memory that only messages reach is, for a mapped command, not there.
    if (result < 0) this.#finish(result === -errno.EINPROGRESS ? -errno.EFAULT : result);
    else if (left === done) this.#finish(0);
    return done * length;
  }

  /** One operation at a time; the time until its answer counts. */
  #messageSlice(): void {
    const now = process.hrtime.bigint();
    const answered = this.#since !== 0n;
    if (answered) this.#count(now, 1);
    this.#since = now;
    if (answered && this.#transfer.status < 0) this.#finish(this.#transfer.status);
    else if (this.#registers.get("DMA_LEFT") === 0) this.#finish(0);
    else this.#submit();
  }

  /** By messages, though there may be a file; never to where the client has mapped nothing. */
  #submitMessages(write: boolean): number {
    const { iova, length } = this.#transfer;
    const refused = this.memory.check(iova, length, write);
    if (length === 0) return -errno.EINVAL;
    if (refused < 0 && refused !== -errno.EINPROGRESS) return refused;
    // Without a file messages are every device's way, and a dirty log hears of them.
    if (refused < 0) return Math.min(0, this.memory.start(this.#transfer));
    return this.memory.messages?.submit(this.#transfer) ?? -errno.ENOTCONN;
  }

  #submit(): void {
    const write = this.#registers.get("DMA_COMMAND") === Command.messageWrite;
    const length = Math.min(this.#registers.get("DMA_LENGTH"), lengthMax);
    const direction = write ? Direction.write : Direction.read;
    this.#prepare(write, length);
    this.#transfer.set(direction, this.#registers.get("DMA_ADDRESS"), this.#buffer, 0, length);
    this.#transfer.status = pending;
    const result = this.#submitMessages(write);
    if (result < 0) this.#finish(result);
  }

  protected override onAbort(): void {
    this.#since = 0n;
  }
}
