import { errno } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { RawClient, type RawMessage } from "../client/raw-client.ts";
import {
  deviceReset,
  getMigState,
  message,
  proposal,
  setMigState,
} from "../client/raw-requests.ts";
import { DeviceFlags, FeatureMigState, MigState } from "../spec/vfio.ts";
import { Command, HeaderFlags } from "../spec/vfio-user.ts";
import { closeFd, createEventfd, drainEventfd } from "../sys/descriptors.ts";
import { parseVersion } from "../wire/negotiate.ts";
import { Mismatch } from "./case.ts";
import { Guest } from "./guest.ts";
import type { Offer } from "./offer.ts";
import { describeReceived, Peer, viewOf } from "./peer.ts";

/** What the suite says of itself in VERSION unless a case says otherwise. */
export const ourCapabilities = {
  max_msg_fds: 16,
  max_data_xfer_size: 1_048_576,
  max_dma_maps: 65_535,
  pgsizes: 4096,
  write_multiple: true,
} as const;

/** How long a server may take for one answer unless the caller says otherwise. */
export const defaultTimeoutMs = 5000;
const pauseMs = 5;

const sleeper = new Int32Array(new SharedArrayBuffer(4));

/** Lets the server do something that nothing tells of. */
export function pause(timeMs: number): void {
  Atomics.wait(sleeper, 0, 0, timeMs);
}

interface Closable {
  close(): void;
}

/** What one case uses: connections, memory and eventfds, which end with it. */
export class Context {
  readonly path: string;
  readonly timeoutMs: number;
  readonly #offer: Offer | null;
  readonly #open: Closable[] = [];

  /** `offer` is null while it is being asked for. */
  constructor(path: string, offer: Offer | null, timeoutMs: number) {
    this.path = path;
    this.timeoutMs = timeoutMs;
    this.#offer = offer;
  }

  get offer(): Offer {
    if (this.#offer === null) throw new Error("the offer is not known yet");
    return this.#offer;
  }

  /** A connection that has said nothing yet. */
  connect(): RawClient {
    const client = RawClient.connect(this.path);
    if (typeof client === "number") {
      throw new FerryError(
        "cannot-connect",
        `nobody listens on ${this.path}. Start the server, then try again.`,
      );
    }
    return this.keep(client);
  }

  keep<T extends Closable>(each: T): T {
    this.#open.push(each);
    return each;
  }

  /** A connection with an agreed version; waits while an earlier client's end is being told. */
  open(capabilities: Record<string, unknown> = ourCapabilities): Peer {
    const deadline = performance.now() + this.timeoutMs;
    for (;;) {
      const client = this.connect();
      client.send(message(proposal(capabilities), { messageId: 1 }));
      const reply = client.receive(this.timeoutMs);
      if (typeof reply !== "string" && (reply.flags & HeaderFlags.mask.error) === 0) {
        return this.keep(this.#agreed(client, reply));
      }
      client.close();
      const busy = typeof reply !== "string" && reply.error === errno.EBUSY;
      if (!busy || performance.now() > deadline) {
        throw new Mismatch("a reply to VERSION", describeReceived(reply));
      }
      pause(pauseMs);
    }
  }

  #agreed(client: RawClient, reply: RawMessage): Peer {
    const server = parseVersion(reply.payload);
    if (reply.command !== Command.version || typeof server === "number") {
      throw new Mismatch("a reply to VERSION", describeReceived(reply));
    }
    const twinFd = reply.fds[server.twinFdIndex];
    if (server.limits.twinSocket && twinFd === undefined) {
      throw new Mismatch("a twin socket at fd_index", `${reply.fds.length} descriptors`);
    }
    const twin = twinFd === undefined ? null : new RawClient(twinFd);
    const peer = new Peer(client, twin, server, this.timeoutMs);
    peer.relayed = this.#offer?.relayed ?? false;
    return peer;
  }

  /** Takes over a received socket for the rest of the case. */
  adopt(fd: number): RawClient {
    return this.keep(new RawClient(fd));
  }

  /** Guest memory for one case. */
  guest(size = 16 * 4096, iova = 0x1_0000_0000): Guest {
    return this.keep(new Guest(iova, size));
  }

  /** A non-blocking eventfd with an initial value. */
  eventfd(initial = 0): number {
    const fd = createEventfd(initial);
    this.keep({ close: () => closeFd(fd) });
    return fd;
  }

  /** Waits until an eventfd was signalled and takes its count; 0 after the time-out. */
  signalled(fd: number): number {
    const deadline = performance.now() + this.timeoutMs;
    for (;;) {
      const count = drainEventfd(fd);
      if (count !== 0 || performance.now() > deadline) return Math.max(0, count);
      pause(1);
    }
  }

  /** Closes everything, the latest first. */
  end(): void {
    for (const each of this.#open.splice(0).reverse()) each.close();
  }

  /** Brings a device that migrates back to RUNNING, whatever a case has left. */
  settle(): void {
    if (this.offer.migration === null) return;
    const peer = this.open();
    const state = () => FeatureMigState.get(viewOf(peer.done(getMigState(), 16)), 8).deviceState;
    if (state() !== MigState.running) peer.ask(setMigState(MigState.running));
    const canReset = (this.offer.deviceFlags & DeviceFlags.mask.reset) !== 0;
    if (canReset && state() !== MigState.running) peer.ask(deviceReset());
  }
}
