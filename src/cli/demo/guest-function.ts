import { errnoName } from "../../base/errno.ts";
import { FerryError } from "../../base/errors.ts";
import { Connection } from "../../client/connection.ts";
import { GuestRam } from "../../client/guest-ram.ts";
import { MovableDevice } from "../../client/movable-device.ts";
import { RemoteDevice } from "../../client/remote-device.ts";
import type { VfioDevice } from "../../device/vfio-device.ts";
import { SteadyLoad } from "../../guest/steady-load.ts";
import type { Workload } from "../../guest/work.ts";
import { sweepAll } from "../../host/garbage.ts";

const timeoutMs = 10_000;

/** A daemon sees a moment later that its last client has gone, and it may be this very guest. */
async function connectWhenFree(socketPath: string): Promise<Connection> {
  const endMs = performance.now() + timeoutMs;
  for (;;) {
    try {
      return Connection.connect(socketPath, { timeoutMs });
    } catch (thrown) {
      const isBusy = thrown instanceof FerryError && thrown.code === "device-busy";
      if (!isBusy || performance.now() > endMs) throw thrown;
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
  }
}

/** The same function on another host, ready to be gone on with. */
interface There {
  readonly device: RemoteDevice;
  readonly ram: GuestRam;
}

/**
 * One accelerator of the guest: its driver at work, and what a VMM does when it moves. The guest's
 * memory on each host is a file of that host's own.
 */
export class GuestFunction {
  readonly name: string;
  readonly load: SteadyLoad;
  readonly #device: MovableDevice;
  readonly #ram: GuestRam;
  #there: There | null = null;
  /** The connection to the host that the guest came from, until it goes on. */
  #left: RemoteDevice | null = null;
  /** Pages copied in all rounds of the last move, and in its last round. */
  pages = { all: 0, last: 0 };

  /** `open` takes the device over with its driver; `depth` requests are always under way. */
  constructor(socketPath: string, depth: number, open: (device: VfioDevice) => Workload) {
    const remote = new RemoteDevice(Connection.connect(socketPath, { timeoutMs }), socketPath);
    this.#device = new MovableDevice(remote);
    const workload = open(this.#device);
    this.name = workload.device;
    this.#ram = workload.qm.memory.ram;
    this.load = new SteadyLoad(workload, depth);
  }

  /** Connects to the other host's device, with memory of that host, and wires it as it is here. */
  async prepare(socketPath: string): Promise<void> {
    this.#leave();
    const device = new RemoteDevice(await connectWhenFree(socketPath), socketPath);
    const ram = new GuestRam(this.#ram.size);
    this.#there = { device, ram };
    const result = this.#ram.mapThere(device, ram) || this.#device.wireThere(device);
    if (result < 0) {
      throw new FerryError("demo-failed", `${socketPath} takes no wiring: ${errnoName(result)}.`);
    }
    this.pages = { all: 0, last: 0 };
    // A VMM has no collector that would stop its guest.
    sweepAll();
  }

  /** One round of copying memory over: what differs there by now. */
  copyMemory(): void {
    if (this.#there === null) return;
    const last = this.#ram.copyTo(this.#there.ram);
    this.pages = { all: this.pages.all + last, last };
  }

  /** Goes on there; the host that the guest leaves has none of its memory any more. */
  arrive(): void {
    if (this.#there === null) return;
    const { device, ram } = this.#there;
    this.load.mark();
    const left = this.#device.moveTo(device) as RemoteDevice;
    this.#ram.moveTo(ram);
    this.#there = null;
    this.#left = left;
    // The guest does not wait for the host that it has left.
    setImmediate(() => void left.unmapAllDma());
  }

  /** Stays here after all. */
  stay(): void {
    this.#there?.device.close();
    this.#there?.ram.close();
    this.#there = null;
  }

  #leave(): void {
    this.#left?.close();
    this.#left = null;
  }

  close(): void {
    this.#leave();
    this.#device.forget();
    (this.#device.inner as RemoteDevice).close();
  }
}
