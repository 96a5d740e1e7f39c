import { errno } from "../src/base/errno.ts";
import { readU53 } from "../src/base/struct.ts";
import { RawClient, type RawMessage } from "../src/client/raw-client.ts";
import * as raw from "../src/client/raw-requests.ts";
import { IrqSetFlags, PciIrq } from "../src/spec/vfio.ts";
import {
  Command,
  DmaAccess,
  DmaMapFlags,
  HeaderFlags,
  MessageType,
} from "../src/spec/vfio-user.ts";
import { closeFd, createEventfd, drainEventfd } from "../src/sys/descriptors.ts";
import { socketPair } from "../src/sys/unix.ts";
import type { Host } from "./host.ts";
import type { Machine } from "./machine.ts";
import { ramIova } from "./ram.ts";
import type { World } from "./world.ts";

/** A reply: the errno it says, and its payload. */
export interface Answer {
  readonly error: number;
  readonly payload: Uint8Array;
}

interface Request {
  readonly what: raw.RawRequest;
  readonly fds: readonly number[];
  readonly answered: (answer: Answer) => void;
  /** When it was asked. */
  sinceMs?: number;
}

const { dataEventfd, actionTrigger } = IrqSetFlags.mask;

/**
 * A VMM of one host, connected to its device over a socket of the kernel's. It never waits: what is
 * there is taken in its turns.
 */
export class Vmm {
  readonly host: Host;
  /** False: it does not answer DMA commands. */
  answersDma = true;
  /** Something may have come. */
  ready = true;
  readonly #world: World;
  readonly #machine: Machine;
  readonly #client: RawClient;
  readonly #eventfds: number[];
  readonly #pending = new Map<number, Request>();
  readonly #signals: number[] = [];
  #nextId = 1;
  /** The device still serves it. */
  #open = true;
  /** Its descriptors are gone. */
  #closed = false;

  constructor(world: World, host: Host) {
    const [ours, theirs] = socketPair();
    this.#world = world;
    this.host = host;
    this.#machine = host.machine;
    this.#client = new RawClient(ours);
    this.#eventfds = Array.from({ length: world.kind.vectors }, () => createEventfd());
    host.machine.open(theirs);
  }

  /** Is the device there that it has connected to, and serves it? */
  get open(): boolean {
    return this.#open && this.host.alive && this.host.machine === this.#machine;
  }

  /** Has everything been answered? */
  get quiet(): boolean {
    return this.#pending.size === 0;
  }

  /** For how long the oldest request has had no answer. */
  get waitsMs(): number {
    const [oldest] = this.#pending.values();
    return oldest === undefined ? 0 : this.#world.clock.now() - (oldest.sinceMs ?? 0);
  }

  /** Negotiates, gives the guest's memory and wires interrupts; done when all is answered. */
  async start(): Promise<void> {
    const wiring = { flags: dataEventfd | actionTrigger, index: PciIrq.msi, start: 0 };
    const answers = await Promise.all([
      this.request(raw.proposal({ max_msg_fds: 8, max_data_xfer_size: 1024 * 1024 })),
      this.mapMemory(),
      this.request(raw.setIrqs({ ...wiring, count: this.#eventfds.length }), this.#eventfds),
    ]);
    const refused = answers.find(({ error }) => error !== 0);
    if (refused !== undefined) this.#world.fail("serves", `a VMM is refused: ${refused.error}`);
  }

  mapMemory(): Promise<Answer> {
    const { read, write, mmap } = DmaMapFlags.mask;
    const { ram } = this.#world.kind;
    const range = { address: ramIova, size: ram.size };
    if (!this.#world.plan.sharedMemory) {
      return this.request(raw.dmaMap({ ...range, flags: read | write }));
    }
    return this.request(raw.dmaMap({ ...range, flags: read | write | mmap }), [ram.fd]);
  }

  /** Sends a request; the answer, once it is there. It never comes when the connection is lost. */
  request(what: raw.RawRequest, fds: readonly number[] = []): Promise<Answer> {
    return new Promise((answered) => this.#send({ what, fds, answered }));
  }

  #send(request: Request): void {
    const messageId = this.#nextId++ & 0xffff;
    request.sinceMs = this.#world.clock.now();
    this.#pending.set(messageId, request);
    const { what, fds } = request;
    this.#client.send(raw.message(what, { messageId }), fds, 0);
    this.host.machine.wake();
  }

  /** Sends again what another VMM, which the guest has left, has no answer for. */
  takeOver(other: Vmm): void {
    for (const request of other.#pending.values()) this.#send(request);
    other.#pending.clear();
  }

  /** Takes what has come. */
  turn(): void {
    this.ready = false;
    if (this.#closed) return;
    while (this.#open) {
      const message = this.#client.receive(0);
      if (message === "silence") break;
      if (message === "closed" || message === "garbled") this.#open = false;
      else if ((message.flags & HeaderFlags.mask.type) === MessageType.reply) this.#hear(message);
      else this.#serve(message);
    }
  }

  /** How often a vector was signalled so far. */
  signals(vector: number): number {
    const came = this.#closed ? 0 : drainEventfd(this.#eventfds[vector] ?? -1);
    this.#signals[vector] = (this.#signals[vector] ?? 0) + came;
    return this.#signals[vector] ?? 0;
  }

  #hear({ messageId, flags, error, payload }: RawMessage): void {
    const request = this.#pending.get(messageId);
    this.#pending.delete(messageId);
    const failed = (flags & HeaderFlags.mask.error) !== 0;
    request?.answered({ error: failed ? error : 0, payload });
  }

  /** DMA by message: the guest's memory, for the device that the guest has. */
  #serve({ messageId, command, payload }: RawMessage): void {
    if (command !== Command.dmaRead && command !== Command.dmaWrite) return;
    if (!this.answersDma) {
      this.#world.clock.after(5001, () => this.host.machine.wake());
      return;
    }
    const { ram } = this.#world.kind;
    const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
    const at = readU53(view, DmaAccess.offset.address) - ramIova;
    const count = readU53(view, DmaAccess.offset.count);
    const fits = at >= 0 && at + count <= ram.size;
    const reads = command === Command.dmaRead;
    if (fits && !reads) ram.bytes.set(payload.subarray(DmaAccess.size), at);
    const data = fits && reads ? ram.bytes.slice(at, at + count) : new Uint8Array(0);
    const flags = MessageType.reply | (fits ? 0 : HeaderFlags.mask.error);
    const answer = raw.dmaAccess(command, at + ramIova, count, data);
    const bytes = raw.message(answer, { messageId, flags, error: fits ? 0 : errno.EFAULT });
    this.#client.send(bytes, [], 0);
    this.host.machine.wake();
  }

  /** Leaves: takes what is still there, and hangs up. */
  close(): void {
    if (this.#closed) return;
    this.turn();
    for (const vector of this.#eventfds.keys()) this.signals(vector);
    this.#closed = true;
    this.#open = false;
    this.#client.close();
    for (const fd of this.#eventfds) closeFd(fd);
    this.host.machine.wake();
  }
}
