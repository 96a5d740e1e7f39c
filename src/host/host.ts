import { chmodSync, rmSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { FerryError } from "../base/errors.ts";
import { installWake } from "../sys/signal.ts";
import { listenUnix } from "../sys/unix.ts";
import { Acceptor } from "./acceptor.ts";
import { DeviceWorker } from "./device-worker.ts";
import { Fatal } from "./fatal.ts";
import type { DeviceSpec } from "./mail.ts";
import { ServedDevice } from "./served-device.ts";

/** Connections that the kernel queues before they are accepted. */
const backlog = 16;

/** Where a device is to be found: a path to listen on, or sockets that somebody has made. */
export interface Place {
  /** Listen here; a stale socket file is replaced, the file goes when the host stops. */
  readonly socketPath?: string;
  /** A listening socket that was inherited. */
  readonly listenFd?: number;
  /** A connected socket that was inherited: its client gets the device. */
  readonly connectedFd?: number;
}

/** What a host tells while it runs. */
export interface HostEvents {
  claimed(device: string): void;
  released(device: string): void;
  fatal(message: string, error: unknown): void;
}

/** A device that is served, with where its clients come from. */
export interface Berth {
  readonly device: ServedDevice;
  readonly listenFd: number;
  readonly socketPath: string | null;
}

/** The device behind a socket, or the only one when none is named (undefined). */
export function findBerth(berths: readonly Berth[], socketPath: unknown): Berth {
  const [only, ...more] = berths;
  if (socketPath === undefined && only !== undefined && more.length === 0) return only;
  const found = berths.find((berth) => berth.socketPath === socketPath);
  if (found !== undefined) return found;
  const known = berths.map((berth) => berth.socketPath ?? "an inherited socket");
  throw new FerryError("no-device", `name the device by its socket: ${known.join(", ")}.`);
}

/**
 * A process that serves devices: one worker a device, one acceptor for all. By default one device;
 * with many, a fatal error in one ends all of them.
 */
export class Host {
  readonly #events: HostEvents;
  readonly #fatal: Fatal;
  readonly #acceptor = new Acceptor(() => performance.now());
  readonly #berths: Berth[] = [];
  /** Every device that was made, served or not. */
  readonly #devices: ServedDevice[] = [];
  #accepting: Promise<void> | null = null;

  constructor(events: HostEvents) {
    this.#events = events;
    const sockets = () => this.#berths.map(({ device }) => device.socket).filter((fd) => fd >= 0);
    this.#fatal = new Fatal((message, error) => events.fatal(message, error), sockets);
    installWake();
  }

  get berths(): readonly Berth[] {
    return this.#berths;
  }

  /** From here on an uncaught error ends the process (invariant 10). */
  installFatal(): void {
    this.#fatal.install();
  }

  /**
   * Makes a device and serves it. Its place is taken first, so that nobody else has it; clients
   * wait until `before` is done.
   */
  async add(
    spec: DeviceSpec,
    place: Place,
    before: (berth: Berth) => Promise<void> = async () => {},
  ): Promise<ServedDevice> {
    const device = await this.make(spec);
    const { socketPath = null, connectedFd } = place;
    let { listenFd = -1 } = place;
    if (socketPath !== null) {
      listenFd = listenUnix(socketPath, backlog);
      chmodSync(socketPath, 0o600);
    }
    const berth = { device, listenFd, socketPath };
    await before(berth);
    this.moor(berth);
    if (connectedFd !== undefined) this.greet(connectedFd, device);
    return device;
  }

  /** A connection of another host's client for a device, as if it had come to its socket. */
  greet(fd: number, device: ServedDevice): void {
    this.#acceptor.greet(fd, device);
  }

  /** Makes a device that nobody can reach yet. */
  async make(spec: DeviceSpec): Promise<ServedDevice> {
    const worker = await DeviceWorker.start(spec, this.#fatal.end);
    const events = {
      claimed: () => this.#events.claimed(spec.name),
      released: () => this.#events.released(spec.name),
    };
    const device = new ServedDevice(worker, events, () => this.#acceptor.nudge());
    this.#devices.push(device);
    return device;
  }

  /** Accepts clients for a device from a listening socket. */
  moor(berth: Berth): void {
    this.#berths.push(berth);
    if (berth.listenFd >= 0) this.#acceptor.listen(berth.listenFd, berth.device);
    this.#accepting ??= this.#acceptor.run().catch(this.#fatal.end);
  }

  /** Accepts nobody any more, sends every client away, and ends the workers. */
  async stop(): Promise<void> {
    await this.stopAccepting();
    await Promise.all(this.#devices.map((device) => device.stop()));
    for (const { socketPath } of this.#berths) {
      if (socketPath !== null) rmSync(socketPath, { force: true });
    }
  }

  /** Accepts nobody any more; those who have a device keep it. */
  async stopAccepting(): Promise<void> {
    this.#acceptor.stop();
    await this.#accepting;
  }
}
