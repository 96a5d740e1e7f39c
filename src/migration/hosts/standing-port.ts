import type { WriteWatch } from "../../memory/guest-memory.ts";
import { MigState } from "../../spec/vfio.ts";
import type { Compatibility } from "../driver.ts";
import type { MigrationPort, MigrationStatus, MoveReport } from "../port.ts";
import { defaultPolicy } from "./precopy.ts";

/** How such a device goes: nothing of it changes, and nobody waits for it. */
export const standing = {
  policy: { ...defaultPolicy, precopy: false },
  vcpusStopped: true,
} as const;

/**
 * A device that has come to a host and was never set going there, on its way to another one. Its
 * source finds what it finds of any device, but nothing sets this one going: it stands still from
 * the first to the last, and stands as before where it stays after all.
 */
export class StandingPort implements MigrationPort {
  readonly name: string;
  readonly #inner: MigrationPort;
  readonly #left: () => void;
  #hasLeft = false;

  /** `left` is told when the device is not this host's any more. */
  constructor(inner: MigrationPort, left: () => void) {
    this.name = inner.name;
    this.#inner = inner;
    this.#left = left;
  }

  /** It is claimed since it came. */
  async claim(): Promise<void> {}

  async release(): Promise<void> {
    if (this.#hasLeft) await this.#inner.release();
  }

  async status(): Promise<MigrationStatus> {
    const status = await this.#inner.status();
    if (this.#hasLeft || status.state !== MigState.stop) return status;
    return { ...status, state: MigState.running, master: "none" };
  }

  async still(): Promise<void> {
    await this.#inner.still("drop");
  }

  move(to: MigState): Promise<MoveReport> {
    return this.#inner.move(to);
  }

  /** A device that a stream has reached would be reset on its way to RUNNING. */
  async abort(): Promise<void> {
    const { state } = await this.#inner.status();
    if (state !== MigState.stop) await this.#inner.move(MigState.stop);
  }

  /** It is sealed since it came, and until it has left. */
  async seal(on: boolean, resets: number): Promise<boolean> {
    return on || this.#hasLeft ? await this.#inner.seal(on, resets) : true;
  }

  async reset(): Promise<void> {
    this.#hasLeft = true;
    this.#left();
    await this.#inner.reset();
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

  watchWrites(how: WriteWatch): Promise<void> {
    return this.#inner.watchWrites(how);
  }

  showWrites(): Promise<number> {
    return this.#inner.showWrites();
  }

  read(room: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#inner.read(room);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#inner.write(bytes);
  }
}
