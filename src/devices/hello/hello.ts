/** A device to learn from: a counter, a doorbell, interrupts, and an echo that does DMA. */
import { errno } from "../../base/errno.ts";
import { registers } from "../../base/registers.ts";
import { msi, msix, pciExpress, powerManagement } from "../../device/capabilities.ts";
import { PciModel } from "../../device/pci-model.ts";
import { pending } from "../../memory/transfer.ts";

const Hello = registers("hello", 4096, {
  MAGIC: { at: 0x00, access: "ro", reset: 0x6f6c6568, doc: '"helo"' },
  COUNTER: { at: 0x04, access: "rw", doc: "how often the doorbell rang" },
  DOORBELL: { at: 0x08, access: "hook", doc: "any write rings" },
  CAUSE: { at: 0x0c, access: "w1c", bits: { doorbell: 0, echo: 1 }, doc: "why it interrupts" },
  ECHO_SOURCE: { at: 0x10, size: 8, access: "rw", doc: "guest address to read from" },
  ECHO_TARGET: { at: 0x18, size: 8, access: "rw", doc: "guest address to write to" },
  ECHO_LENGTH: { at: 0x20, access: "rw", doc: "bytes, at most 65536" },
  ECHO_STATUS: { at: 0x24, access: "ro", doc: "0 done, 1 busy, 0x80000000 | errno failed" },
  ECHO_START: { at: 0x28, access: "hook", doc: "any write starts an echo" },
  SCRATCH: { at: 0x2c, access: "rw", doc: "the driver's own" },
});
const { doorbell, echo } = Hello.bits.CAUSE.mask;
const EchoStatus = { done: 0, busy: 1, failed: 0x80000000 } as const;
const Stage = { reading: 0, writing: 1 } as const;
const echoBytesMax = 65536;

export class HelloDevice extends PciModel {
  readonly #registers = this.bank(0, Hello, {
    DOORBELL: () => this.#ring(),
    CAUSE: (cause) => this.interrupts.setLine(cause !== 0),
    ECHO_START: () => this.#startEcho(),
  });
  /** How far an echo is and what it has read migrate with the device, which then goes on. */
  readonly #stage = this.section("stage");
  readonly #buffer = this.section("buffer");

  /** May clients map BAR2? Is there MSI-X besides MSI? */
  constructor(mapped: boolean, withMsix: boolean) {
    const inBar4 = { table: { bar: 4, offset: 0 }, pending: { bar: 4, offset: 0x800 } };
    const more = withMsix ? [msix({ vectors: 2, ...inBar4 })] : [];
    super({
      name: "hello",
      version: 1,
      vendor: 0xfe22,
      device: 0x0001,
      revision: 1,
      classCode: 0xff0000,
      interruptPin: 1,
      capabilities: [powerManagement(), pciExpress(), msi({ vectors: 2 }), ...more],
      bars: {
        0: { size: Hello.size, space: "memory32" },
        2: { size: 65536, space: "memory32", mapped },
        4: { size: 4096, space: "memory32" },
      },
      sections: { stage: 1, buffer: echoBytesMax },
    });
  }

  #ring(): void {
    this.#registers.set("COUNTER", this.#registers.get("COUNTER") + 1);
    this.#interrupt(doorbell, 0);
  }

  #interrupt(cause: number, vector: number): void {
    this.#registers.set("CAUSE", this.#registers.get("CAUSE") | cause);
    this.interrupts.setLine(true);
    this.interrupts.raise(vector);
  }

  #startEcho(): void {
    if (this.#echoes) return;
    this.#stage[0] = Stage.reading;
    this.#registers.set("ECHO_STATUS", EchoStatus.busy);
    if (this.#registers.get("ECHO_LENGTH") > echoBytesMax) this.#endEcho(-errno.EINVAL);
  }

  #endEcho(result: number): void {
    this.#registers.set("ECHO_STATUS", result === 0 ? EchoStatus.done : EchoStatus.failed - result);
    this.#interrupt(echo, this.interrupts.vectors > 1 ? 1 : 0);
  }

  get #echoes(): boolean {
    return this.#registers.get("ECHO_STATUS") === EchoStatus.busy;
  }

  protected override get hasWork(): boolean {
    return this.#echoes && !this.dma.waiting;
  }

  protected override slice(): void {
    const reading = this.#stage[0] === Stage.reading;
    const length = Math.min(this.#registers.get("ECHO_LENGTH"), echoBytesMax);
    const result = reading
      ? this.dma.read(this.#registers.get("ECHO_SOURCE"), this.#buffer, 0, length)
      : this.dma.write(this.#registers.get("ECHO_TARGET"), this.#buffer, 0, length);
    if (reading && result === 0) this.#stage[0] = Stage.writing;
    else if (result !== pending) this.#endEcho(result);
  }
}
