import type { WriteWatch } from "../memory/guest-memory.ts";
import type { Compatibility } from "../migration/driver.ts";
import type { MigrationPort, MigrationStatus, MoveReport, Stillness } from "../migration/port.ts";
import type { MigState } from "../spec/vfio.ts";
import type { DeviceWorker } from "./device-worker.ts";

/** The migration of a device in a worker, from the main thread. */
export class WorkerPort implements MigrationPort {
  readonly #worker: DeviceWorker;
  /** The move that is under way; it never rejects. */
  #moving: Promise<unknown> = Promise.resolve();

  constructor(worker: DeviceWorker) {
    this.#worker = worker;
  }

  get name(): string {
    return this.#worker.spec.name;
  }

  compatibility(): Promise<Compatibility> {
    return this.#worker.ask("compatibility", null);
  }

  judge(theirs: Compatibility): Promise<string | null> {
    return this.#worker.ask("judge", theirs);
  }

  status(): Promise<MigrationStatus> {
    return this.#worker.ask("status", null);
  }

  async claim(): Promise<void> {
    await this.#worker.ask("claim", null);
  }

  async release(): Promise<void> {
    await this.#worker.ask("release", null);
  }

  async still(how: Stillness): Promise<void> {
    await this.#worker.ask("still", { how });
  }

  move(to: MigState): Promise<MoveReport> {
    return this.#follow(this.#worker.ask("move", { to }));
  }

  setGoing(resets: number | null): Promise<MoveReport> {
    return this.#follow(this.#worker.ask("setGoing", { resets }));
  }

  #follow(move: Promise<MoveReport>): Promise<MoveReport> {
    this.#moving = move.catch(() => {});
    return move;
  }

  /** Waits for a move that is under way: it has a budget. */
  async abort(): Promise<void> {
    await this.#moving;
    await this.#worker.ask("abort", null);
  }

  async watchWrites(how: WriteWatch): Promise<void> {
    await this.#worker.ask("watchWrites", { how });
  }

  showWrites(): Promise<number> {
    return this.#worker.ask("showWrites", null);
  }

  async reset(): Promise<void> {
    await this.#worker.ask("reset", null);
  }

  async seal(on: boolean, resets: number): Promise<boolean> {
    if (on) return this.#worker.seal(resets);
    await this.#worker.ask("unseal", null);
    return true;
  }

  read(room: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#worker.ask("read", { room }, [room.buffer]);
  }

  write(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>> {
    return this.#worker.ask("write", { bytes }, [bytes.buffer]);
  }
}
