import type { Freeze } from "../server/freeze.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import { shutdownSocket } from "../sys/unix.ts";
import { type Claimant, hasHungUp } from "./acceptor.ts";
import type { DeviceWorker } from "./device-worker.ts";
import type { DeviceReport, DeviceSpec, ParkedDevice } from "./mail.ts";

/** What happens to a served device, for whoever logs or counts it. */
export interface DeviceEvents {
  claimed(): void;
  released(): void;
}

/**
 * One device with its worker and, at most, one client. The main thread holds a duplicate of the
 * client's socket, to see it hang up and to shut it down when the process must end.
 */
export class ServedDevice implements Claimant {
  readonly #worker: DeviceWorker;
  readonly #events: DeviceEvents;
  readonly #onFree: () => void;
  #socket = -1;
  #claimed = false;

  constructor(worker: DeviceWorker, events: DeviceEvents, onFree: () => void) {
    this.#worker = worker;
    this.#events = events;
    this.#onFree = onFree;
    worker.onEnded(() => this.#release());
  }

  get spec(): DeviceSpec {
    return this.#worker.spec;
  }

  get claimed(): boolean {
    return this.#claimed;
  }

  /** A client that has gone may have left its worker blocked in one of the client's descriptors. */
  get leaving(): boolean {
    const leaving = this.#claimed && hasHungUp(this.#socket);
    if (leaving) this.#worker.nudge();
    return leaving;
  }

  /** The duplicate of the client's socket; -1 when there is no client. */
  get socket(): number {
    return this.#socket;
  }

  claim(fd: number, unparsed: Uint8Array<ArrayBuffer>): void {
    this.#take(fd);
    void this.#worker.ask("open", { fd, unparsed });
  }

  #take(fd: number): void {
    this.#claimed = true;
    this.#socket = duplicate(fd);
    this.#events.claimed();
  }

  #release(): void {
    closeFd(this.#socket);
    this.#socket = -1;
    this.#claimed = false;
    this.#events.released();
    this.#onFree();
  }

  /** Makes the device stand still or run; done when the worker has done it. */
  async freeze(mode: Freeze): Promise<void> {
    await this.#worker.ask("freeze", { mode });
  }

  report(): Promise<DeviceReport> {
    return this.#worker.ask("report", null);
  }

  /** Lets the device go for a successor; its client waits, its descriptors stay open. */
  async park(): Promise<ParkedDevice> {
    const parked = await this.#worker.ask("park", null);
    if (parked.connection !== null) {
      closeFd(this.#socket);
      this.#socket = -1;
    }
    return parked;
  }

  /** Takes a parked device's wiring and state; its client, if it has one, waits for `resume`. */
  async install({ wiring, state }: ParkedDevice): Promise<void> {
    await this.#worker.ask("install", { wiring, state });
  }

  /** Goes on with the client of the device that was installed. */
  async resume({ connection }: ParkedDevice): Promise<void> {
    if (connection === null) return;
    this.#take(connection.main.fd);
    await this.#worker.ask("resume", connection);
  }

  /** Sends the client away and ends the worker. */
  async stop(): Promise<void> {
    if (this.#socket >= 0) shutdownSocket(this.#socket);
    await this.#worker.stop();
    closeFd(this.#socket);
    this.#socket = -1;
  }
}
