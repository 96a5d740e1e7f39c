import type { LineState } from "../device/vfio-device.ts";
import type { ConnectionState } from "../server/connection-state.ts";
import type { Freeze } from "../server/freeze.ts";
import { closeFd, duplicate } from "../sys/descriptors.ts";
import { shutdownSocket } from "../sys/unix.ts";
import { type Claimant, hasHungUp } from "./acceptor.ts";
import type { DeviceWorker } from "./device-worker.ts";
import type { DeviceReport, DeviceSpec, Lent, ParkedDevice } from "./mail.ts";
import { WorkerPort } from "./worker-port.ts";

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
  readonly #port: WorkerPort;
  readonly #events: DeviceEvents;
  readonly #onFree: () => void;
  #socket = -1;
  #claimed = false;
  #reserved = false;
  #away = false;

  constructor(worker: DeviceWorker, events: DeviceEvents, onFree: () => void) {
    this.#worker = worker;
    this.#port = new WorkerPort(worker);
    this.#events = events;
    this.#onFree = onFree;
    worker.onEnded(() => this.#release());
  }

  /** The device, for whoever migrates it. */
  get port(): WorkerPort {
    return this.#port;
  }

  get spec(): DeviceSpec {
    return this.#worker.spec;
  }

  get claimed(): boolean {
    return this.#claimed || this.#reserved;
  }

  /** Keeps clients off, for one that comes with another device's state; false when there is one. */
  reserve(): boolean {
    if (this.claimed) return false;
    this.#reserved = true;
    return true;
  }

  /** Whoever was kept off may come. */
  unreserve(): void {
    this.#reserved = false;
    this.#onFree();
  }

  get away(): boolean {
    return this.#away;
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

  /** Requests served since it was made. */
  served(): Promise<number> {
    return this.#worker.ask("served", null);
  }

  /** Keeps its INTx line from being signalled until its migration has come to its end. */
  holdLine(): Promise<LineState | null> {
    return this.#worker.ask("holdLine", null);
  }

  /** Lets the device go for a successor; its client waits, its descriptors stay open. */
  async park(): Promise<ParkedDevice> {
    this.#away = true;
    try {
      const parked = await this.#worker.ask("park", null);
      if (parked.connection !== null) {
        closeFd(this.#socket);
        this.#socket = -1;
      }
      return parked;
    } catch (thrown) {
      this.#comeBack();
      throw thrown;
    }
  }

  #comeBack(): void {
    this.#away = false;
    this.#onFree();
  }

  /** Takes a parked device's wiring and state; its client, if it has one, waits for `resume`. */
  async install({ wiring, state }: ParkedDevice): Promise<void> {
    await this.#worker.ask("install", { wiring, state });
  }

  /** Goes on with the client of the device that was installed. */
  async resume({ connection }: Lent): Promise<void> {
    if (connection !== null) {
      this.#take(connection.main.fd);
      await this.#worker.ask("resume", connection);
    }
    this.#comeBack();
  }

  /** What a client has been told of the device. */
  offer(): Promise<Readonly<Record<string, number | boolean>>> {
    return this.#worker.ask("offer", null);
  }

  /** The client, which waits, with what it has connected; refused after a reset. */
  async lend(resets: number): Promise<Lent> {
    const lent = await this.#worker.ask("lend", { resets });
    if (lent.connection !== null) {
      closeFd(this.#socket);
      this.#socket = -1;
    }
    return lent;
  }

  /** Goes on with the client that was lent. */
  async takeBack({ connection }: Lent): Promise<void> {
    if (connection === null) return;
    this.#socket = duplicate(connection.main.fd);
    await this.#worker.ask("resume", connection);
  }

  /** The client that was lent is another device's: nothing of it stays here. */
  async letGo({ connection }: Lent): Promise<void> {
    await this.#worker.ask("unwire", null);
    if (connection === null) return;
    closeConnection(connection);
    this.#release();
  }

  /** Takes what another device's client has connected; the client itself waits for `resume`. */
  async wire({ wiring }: Lent): Promise<void> {
    if (wiring !== null) await this.#worker.ask("wire", wiring);
  }

  /** Takes nothing over after all. */
  async unwire(): Promise<void> {
    await this.#worker.ask("unwire", null);
  }

  /** Sends the client away and ends the worker. */
  async stop(): Promise<void> {
    if (this.#socket >= 0) shutdownSocket(this.#socket);
    await this.#worker.stop();
    closeFd(this.#socket);
    this.#socket = -1;
  }
}

/** Closes the descriptors of a connection that somebody else goes on with. */
function closeConnection({ main, twin }: ConnectionState): void {
  for (const lane of twin === null ? [main] : [main, twin]) {
    closeFd(lane.fd);
    for (const { fds } of lane.pendingFds) for (const fd of fds) closeFd(fd);
    for (const { fds, owned } of lane.unsent.parcels) if (owned) for (const fd of fds) closeFd(fd);
  }
}
