import { errno } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { closeWiring, mappingsOf, takeMappings } from "../device/model-wiring.ts";
import type {
  DmaMapping,
  IoEventfd,
  IrqRequest,
  LineState,
  MigrationSink,
  VfioDevice,
  Watch,
  Wiring,
} from "../device/vfio-device.ts";
import { Wrapper } from "../device/wrapper.ts";
import { addressEnd } from "../memory/dma-map.ts";
import type { GuestMemory } from "../memory/guest-memory.ts";
import type { Compatibility } from "../migration/driver.ts";
import { compatibility } from "../migration/hosts/link-messages.ts";
import { parseJson } from "../migration/hosts/shapes.ts";
import { msixMostVectors } from "../spec/pci-capabilities.ts";
import { Feature, FeatureFlags, PciIrq } from "../spec/vfio.ts";
import { Command, DmaUnmap, DmaUnmapFlags, OwnFeature } from "../spec/vfio-user.ts";
import { Connection } from "./connection.ts";
import { MemoryPort } from "./memory-port.ts";
import { RelayIrqs } from "./relay-irqs.ts";
import { RemoteDevice } from "./remote-device.ts";

/** A VMM waits 5 s for a register, so whoever takes so long is as good as gone. */
export const relayReplyMs = 4000;

const noWatches: readonly Watch[] = [];
const { mask } = FeatureFlags;

const compatibilityBytesMax = 65_536;

/** What the server's stream says of itself; null for one that is the device's own. */
function readCompatibility(remote: RemoteDevice, peer: string): Compatibility | null {
  const bytes = new Uint8Array(compatibilityBytesMax);
  const flags = mask.get | OwnFeature.compatibility;
  const length = remote.feature(flags, bytes, 0, 0, bytes.length);
  if (length < 0) return null;
  const read = compatibility(parseJson(new TextDecoder().decode(bytes.subarray(0, length))));
  if (read !== undefined) return read;
  throw new FerryError("device-unusable", `${peer} does not say what its device's state is.`);
}

/** What the module of a device takes: a connected socket, and who is at its other end. */
export const options = {
  fd: { doc: "a connected socket that leads to the server" },
  peer: { doc: "the host that serves it" },
} as const;

/** Makes the device behind a socket that leads to another host's server. */
export function create(given: Readonly<Record<string, string>>): VfioDevice {
  const peer = given["peer"] ?? "the other host";
  const wishes = { remote: true, timeoutMs: relayReplyMs } as const;
  const connection = Connection.adopt(Number(given["fd"]), peer, wishes);
  try {
    return new RelayDevice(connection, peer);
  } catch (thrown) {
    connection.close();
    throw thrown;
  }
}

/**
 * A device that another host serves. What is made of descriptors ends here: the guest's memory,
 * which the server there reads and writes by messages, and eventfds, which it raises by messages.
 * When the link is lost, or the server makes no sense, the device has failed for good: reads answer
 * all ones, writes have no effect, all else is EIO, and the ERR interrupt says so.
 */
export class RelayDevice extends Wrapper {
  readonly memory: GuestMemory;
  /** What the device's stream says of itself, if it is one of ours. */
  readonly compatibility: Compatibility | null;
  readonly #connection: Connection;
  readonly #port: MemoryPort;
  readonly #irqs: RelayIrqs;
  readonly #link: readonly Watch[];
  #lost = false;
  #logs = false;
  #watches: readonly Watch[];
  /** What `watches` was made of, to make it anew only when that has changed. */
  #watched: readonly Watch[] = noWatches;

  /** Asks a negotiated connection for its device; a FerryError says why it cannot be used. */
  constructor(connection: Connection, name: string) {
    const port = new MemoryPort();
    const remote = new RemoteDevice(connection, name, port);
    super(remote);
    this.#port = port;
    this.memory = port.memory;
    this.#connection = connection;
    const many = remote.irqs.find(({ count }) => count > msixMostVectors);
    if (many !== undefined) {
      const text = `${name} says that its device has ${many.count} interrupts of one kind.`;
      throw new FerryError("device-unusable", text);
    }
    this.#irqs = new RelayIrqs(connection, remote.irqs);
    connection.irqs = this.#irqs;
    this.compatibility = readCompatibility(remote, name);
    this.#link = remote.watches.map(({ fd, ready }) => {
      return { fd, ready: () => void [ready(), this.#heard(0)] };
    });
    this.#watches = this.#link;
  }

  /** A result of the other host's; what it must not answer ends the link. */
  #heard(result: number): number {
    if (result === -errno.EPROTO) this.#connection.fail("the server sent what makes no sense");
    if (this.#connection.failure === null) return result;
    if (!this.#lost) this.#irqs.notify(PciIrq.err);
    this.#lost = true;
    return -errno.EIO;
  }

  override read(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    return this.#heard(this.inner.read(region, offset, bytes, at, count));
  }

  override write(
    region: number,
    offset: number,
    bytes: Uint8Array,
    at: number,
    count: number,
  ): number {
    const result = this.#heard(this.inner.write(region, offset, bytes, at, count));
    return this.#lost ? 0 : result;
  }

  /** Doorbells come as writes: an eventfd does not reach the device. */
  override ioEventfds(): readonly IoEventfd[] {
    return [];
  }

  override holdLine(held: boolean): LineState {
    return this.#irqs.holdLine(held);
  }

  override setIrqs(request: IrqRequest): number {
    return this.#heard(this.#irqs.set(request));
  }

  override mapDma(mapping: DmaMapping): number {
    return this.#heard(this.inner.mapDma(mapping));
  }

  /** Here the mapping goes whatever they say there: it is the client's memory. */
  override unmapDma(iova: number, size: number): number {
    const result = this.#heard(this.inner.unmapDma(iova, size));
    if (result === 0) return 0;
    const unmapped = this.memory.unmap(iova, size);
    if (unmapped === 0) this.#heard(-errno.EPROTO);
    return unmapped;
  }

  /** In one message, for mapping by mapping could take for ever. */
  override unmapAllDma(): number {
    const connection = this.#connection;
    this.#port.cancel(0, addressEnd);
    if (connection.prepare(DmaUnmap.size) >= 0) {
      const flags = DmaUnmapFlags.mask.all;
      const request = { argsz: DmaUnmap.size, flags, address: 0, size: 0 };
      DmaUnmap.set(connection.requestView, connection.requestAt, request);
      const result = connection.call(Command.dmaUnmap, DmaUnmap.size, DmaUnmap.size);
      if (result < 0) connection.fail("the server keeps memory that is not its own any more");
    }
    this.#heard(0);
    this.memory.unmapAll();
    return 0;
  }

  override reset(): number {
    return this.#heard(this.inner.reset());
  }

  override feature(
    flags: number,
    bytes: Uint8Array,
    at: number,
    length: number,
    capacity: number,
  ): number {
    const result = this.#heard(this.inner.feature(flags, bytes, at, length, capacity));
    const sets = (flags & mask.set) !== 0 && (flags & mask.probe) === 0 && result >= 0;
    const index = flags & mask.index;
    if (sets && index === Feature.dmaLoggingStart) this.#logs = true;
    if (sets && index === Feature.dmaLoggingStop) this.#logs = false;
    return result;
  }

  override readMigration(sink: MigrationSink, length: number): number {
    return this.#heard(this.inner.readMigration(sink, length));
  }

  override writeMigration(bytes: Uint8Array, at: number, length: number): number {
    return Math.min(0, this.#heard(this.inner.writeMigration(bytes, at, length)));
  }

  /** The server there keeps the device's state, as it does for any client that goes. */
  override detach(): void {
    this.#irqs.unwire();
    if (this.#logs) this.feature(mask.set | Feature.dmaLoggingStop, new Uint8Array(0), 0, 0, 0);
    this.#logs = false;
    this.unmapAllDma();
  }

  override get busy(): boolean {
    return !this.#lost && this.inner.busy;
  }

  override work(): void {
    this.inner.work();
    this.#heard(0);
  }

  /** What has ended would be ready for ever. */
  override get watches(): readonly Watch[] {
    if (this.#lost) return noWatches;
    const { watches } = this.#irqs;
    if (watches !== this.#watched) this.#watches = [...this.#link, ...watches];
    this.#watched = watches;
    return this.#watches;
  }

  override wiring(): Wiring | null {
    if (this.#logs) return null;
    const mappings = mappingsOf(this.memory, ({ fd }) => fd);
    return { mappings, irqs: this.#irqs.wires(), ioEventfds: [], files: [] };
  }

  /** Not that of a client that rings by eventfds, or has mapped a part of the device. */
  override wire(wiring: Wiring): number {
    if (wiring.ioEventfds.length + wiring.files.length > 0) {
      closeWiring(wiring);
      return -errno.EOPNOTSUPP;
    }
    const rewired = this.#irqs.rewire(wiring.irqs);
    if (rewired < 0) closeWiring({ ...wiring, irqs: [] });
    return this.#heard(rewired || takeMappings(wiring.mappings, (mapping) => this.mapDma(mapping)));
  }
}
