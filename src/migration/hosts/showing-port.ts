import { handled } from "../../base/handled.ts";
import type { WriteWatch } from "../../memory/guest-memory.ts";
import { MigState } from "../../spec/vfio.ts";
import type { Compatibility } from "../driver.ts";
import type { MigrationPort, MigrationStatus, MoveReport, Stillness } from "../port.ts";

/**
 * A device on its source whose VMM copies guest memory itself and hears nothing of what the device
 * writes to memory that both have mapped: it is kept from the beginning, and shown once the device
 * stands still.
 */
export class ShowingPort implements MigrationPort {
  readonly name: string;
  readonly #inner: MigrationPort;
  readonly #watch: WriteWatch;
  readonly #shown: (pages: number) => void;

  /** `shown` is told how many pages the VMM was shown. */
  constructor(inner: MigrationPort, watch: WriteWatch, shown: (pages: number) => void) {
    this.name = inner.name;
    this.#inner = inner;
    this.#watch = watch;
    this.#shown = shown;
  }

  async claim(): Promise<void> {
    await this.#inner.claim();
    try {
      await this.#inner.watchWrites(this.#watch);
    } catch (thrown) {
      await this.#inner.release();
      throw thrown;
    }
  }

  async release(): Promise<void> {
    await this.#inner.watchWrites("off");
    await this.#inner.release();
  }

  /** Its last writes are made on the way to STOP_COPY; they are asked for with it. */
  async move(to: MigState): Promise<MoveReport> {
    const moving = this.#inner.move(to);
    if (to !== MigState.stopCopy) return await moving;
    const showing = handled(this.#inner.showWrites());
    const report = await moving;
    this.#shown(await showing);
    return report;
  }

  setGoing(resets: number | null): Promise<MoveReport> {
    return this.#inner.setGoing(resets);
  }

  compatibility(): Promise<Compatibility> {
    return this.#inner.compatibility();
  }

  judge(theirs: Compatibility): Promise<string | null> {
    return this.#inner.judge(theirs);
  }

  status(): Promise<MigrationStatus> {
    return this.#inner.status();
  }

  /**
   * A VMM whose migration fails sets its vCPUs going before anybody is told. What they say then is
   * not dropped: it waits until the device is back. Orders are obeyed in turn: both
   * are given at once.
   */
  async still(how: Stillness): Promise<void> {
    const orders = how === "drop" ? [how, "hold" as const] : [how];
    await Promise.all(orders.map((order) => this.#inner.still(order)));
  }

  abort(): Promise<void> {
    return this.#inner.abort();
  }

  watchWrites(how: WriteWatch): Promise<void> {
    return this.#inner.watchWrites(how);
  }

  showWrites(): Promise<number> {
    return this.#inner.showWrites();
  }

  reset(): Promise<void> {
    return this.#inner.reset();
  }

  seal(on: boolean, resets: number): Promise<boolean> {
    return this.#inner.seal(on, resets);
  }

  read(room: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#inner.read(room);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#inner.write(bytes);
  }
}
