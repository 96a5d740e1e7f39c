/** A bulk device with its driver, as the wrapper runs it, and what the guest and an operator do. */
import { errno } from "../../../src/base/errno.ts";
import { planes } from "../../../src/devices/bulk/index.ts";
import type { DriverKind, MigrationDriver } from "../../../src/migration/driver.ts";
import { Migratable } from "../../../src/migration/migratable.ts";
import { MigState } from "../../../src/spec/vfio.ts";
import { CopySink } from "../../device/vmm.ts";
import { BulkGuest, mib } from "../../devices/bulk-driver.ts";
import { move, TestClock } from "../operator.ts";

/** Loaded as `--driver` loads it: nothing of it is known here but its `kind`. */
const path = "../../../examples/bulk-driver/index.mjs";
export const { kind } = (await import(path)) as { kind: DriverKind };

export class Side {
  readonly both: ReturnType<typeof planes>;
  readonly driver: MigrationDriver;
  readonly device: Migratable;
  readonly guest: BulkGuest;
  readonly #clock = new TestClock();

  constructor(options: Record<string, string> = { memoryMiB: "4" }) {
    this.both = planes(options);
    this.driver = kind.create(this.both);
    this.device = new Migratable(this.both, this.driver, this.#clock.now);
    this.device.claim();
    this.guest = new BulkGuest(this.device);
  }

  go(to: MigState): number {
    return move(this.device, to, () => {
      this.#clock.ms += 1;
    }).result;
  }

  /** What there is to be read at the moment. */
  read(): Buffer {
    const sink = new CopySink(mib);
    const parts: Buffer[] = [];
    for (;;) {
      const count = this.device.readStream(sink, mib);
      if (count < 0) throw new Error(`the stream cannot be read: ${count}`);
      parts.push(sink.take(count));
      if (count < mib) return Buffer.concat(parts);
    }
  }

  /** Takes a stream; the sentence it is refused with, or null. */
  write(stream: Uint8Array): string | null {
    const { device } = this;
    const result = device.writeStream(stream, 0, stream.length);
    return result === -errno.EINVAL ? device.refusal : null;
  }

  /** Becomes what a source has sent. */
  become(stream: Uint8Array): void {
    const results = [this.go(MigState.resuming), this.write(stream), this.go(MigState.running)];
    if (results.join() !== "0,,0") throw new Error(`not loaded: ${results.join()}`);
  }
}
