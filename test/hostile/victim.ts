/** A server in a process of its own that attacks are tried on, and what must hold after each. */
import { readFileSync } from "node:fs";
import { afterAll, afterEach, beforeAll, expect } from "vitest";
import {
  deviceReset,
  migDataRead,
  regionRead,
  regionWrite,
  setIrqs,
  setMigState,
} from "../../src/client/raw-requests.ts";
import {
  BenchDma,
  benchDma,
  echo,
  memoryOf,
  read32,
  readBytes,
  ring,
} from "../../src/conform/actions.ts";
import { Context } from "../../src/conform/context.ts";
import { isBench, type Offer, vectorsOf } from "../../src/conform/offer.ts";
import type { Peer } from "../../src/conform/peer.ts";
import { surveyServer } from "../../src/conform/suite.ts";
import { IrqSetFlags, MigState, PciRegion } from "../../src/spec/vfio.ts";
import { MigData } from "../../src/spec/vfio-user.ts";
import { Ferry, temporaryFolder, until } from "../support/ferry.ts";

/** A server answers in far less; only a stuck one takes so long. Milliseconds. */
export const patienceMs = 10_000;

/** Looks in turn, 5 ms apart, that find as many descriptors open. */
const steadyLooks = 20;

export class Victim {
  readonly #ferry: Ferry;
  readonly #folder: { path: string; [Symbol.dispose](): void };
  readonly #contexts: Context[] = [];
  readonly paths: readonly string[];
  readonly offer: Offer;
  #idleFds = 0;

  private constructor(
    ferry: Ferry,
    folder: { path: string; [Symbol.dispose](): void },
    paths: readonly string[],
  ) {
    this.#ferry = ferry;
    this.#folder = folder;
    this.paths = paths;
    this.offer = surveyServer(paths[0] as string);
  }

  /** Starts a server of `count` devices of one kind and uses each once, as guests do. */
  static async start(device: string, options: readonly string[] = [], count = 1): Promise<Victim> {
    const folder = temporaryFolder();
    const socket = `${folder.path}/{n}.sock`;
    const args = [device, "--socket-path", socket, "--count", String(count), "--no-control"];
    const ferry = await Ferry.start([...args, ...options]);
    const paths = Array.from({ length: count }, (_, n) => socket.replace("{n}", String(n)));
    const victim = new Victim(ferry, folder, paths);
    for (const place of paths.keys()) {
      victim.use(place);
      victim.#save(place);
    }
    await victim.#settled();
    return victim;
  }

  /** Connections, memory and eventfds for one attack on the device at `place`. */
  context(place = 0): Context {
    const context = new Context(this.paths[place] as string, this.offer, patienceMs);
    this.#contexts.push(context);
    return context;
  }

  /** Reads a whole state once: what a server opens for that stays open. */
  #save(place: number): void {
    const context = this.context(place);
    const peer = context.open();
    const most = peer.server.limits.maxDataXferSize;
    peer.done(setMigState(MigState.stopCopy));
    while (peer.done(migDataRead(most)).payload.length === MigData.size + most) {}
    peer.done(setMigState(MigState.running));
    context.end();
  }

  /** Resets and uses a device as VMMs and guests do: registers, interrupts, DMA of both kinds. */
  use(place = 0): void {
    const context = this.context(place);
    const { offer } = this;
    const peer = context.open();
    peer.done(deviceReset(), 0);
    const { region, offset } = memoryOf(offer);
    const data = Uint8Array.from({ length: 64 }, (_, i) => i * 3 + 1);
    peer.done(regionWrite(region, offset, data));
    expect(readBytes(peer, region, offset, data.length)).toEqual(data);
    expect(read32(peer, PciRegion.config, 0)).toBe(offer.vendorId + offer.deviceId * 0x10000);
    const fd = context.eventfd();
    const { index } = vectorsOf(offer);
    const flags = IrqSetFlags.mask.actionTrigger | IrqSetFlags.mask.dataEventfd;
    peer.done(setIrqs({ flags, index, count: 1 }), 0, [fd]);
    ring(peer, offer, 0);
    expect(context.signalled(fd)).toBe(1);
    this.#moveMemory(context, peer, true);
    this.#moveMemory(context, peer, false);
    context.end();
  }

  #moveMemory(context: Context, peer: Peer, byFile: boolean): void {
    const guest = context.guest(4 * 4096, byFile ? 0x10_0000 : 0x20_0000);
    peer.guest = guest;
    peer.done(guest.map(), 0, byFile ? [guest.fd] : []);
    const command = byFile ? BenchDma.mappedRead : BenchDma.messageRead;
    const target = guest.iova + 4096;
    const status = isBench(this.offer)
      ? benchDma(peer, command, guest.iova, 4096)
      : echo(peer, { source: guest.iova, target, length: 4096 });
    expect(status).toBe(0);
  }

  get openFds(): number {
    return this.#ferry.openFds;
  }

  /** Memory that the server has in use. */
  residentMib(): number {
    const status = readFileSync(`/proc/${this.#ferry.pid}/status`, "utf8");
    return Number(/VmRSS:\s+(\d+)/.exec(status)?.[1]) / 1024;
  }

  /**
   * Takes the number of open descriptors for the idle one. A server that serves a fresh client has
   * closed what the one before it had; but that it closes the fresh one's, nothing tells of.
   */
  async #settled(): Promise<void> {
    const clients = [...this.paths.keys()].map((place) => this.context(place));
    for (const client of clients) client.open();
    for (const client of clients) client.end();
    let looks = 0;
    this.#idleFds = this.openFds;
    await until(() => {
      const now = this.openFds;
      looks = now === this.#idleFds ? looks + 1 : 0;
      this.#idleFds = now;
      return looks === steadyLooks;
    }, "a steady number of descriptors");
  }

  /** Waits until no more than the idle ones are open; fewer, and a look came too early. */
  async #isIdle(): Promise<void> {
    await until(() => this.openFds <= this.#idleFds, `at most ${this.#idleFds} descriptors`);
    this.#idleFds = Math.min(this.#idleFds, this.openFds);
  }

  /** The server lives, every device serves a fresh client, and no descriptor was left behind. */
  async survives(): Promise<void> {
    this.#endAttack();
    try {
      await this.#check();
    } finally {
      this.#endAttack();
    }
  }

  #endAttack(): void {
    for (const context of this.#contexts.splice(0)) context.end();
  }

  async #check(): Promise<void> {
    expect(this.#ferry.alive, "the server is running").toBe(true);
    for (const place of this.paths.keys()) {
      const context = this.context(place);
      context.settle();
      context.end();
      this.use(place);
      this.#save(place);
    }
    await this.#isIdle();
    expect(this.#ferry.noise).toBe("");
  }

  /** Ends the server in order; its exit code. */
  async stop(): Promise<number | null> {
    this.#endAttack();
    return await this.#ferry.stop();
  }

  async end(): Promise<void> {
    this.#endAttack();
    await this.#ferry[Symbol.asyncDispose]();
    this.#folder[Symbol.dispose]();
  }
}

/** One server for all tests of a file, which must survive each of them. */
export function survivor(
  device: string,
  options: readonly string[] = [],
  count = 1,
): { readonly victim: Victim } {
  let victim: Victim | null = null;
  beforeAll(async () => {
    victim = await Victim.start(device, options, count);
  });
  afterEach(async () => {
    await victim?.survives();
  }, 4 * patienceMs);
  afterAll(async () => {
    await victim?.end();
  });
  return {
    get victim(): Victim {
      if (victim === null) throw new Error("the server is not running yet");
      return victim;
    },
  };
}

/** Reads four bytes of configuration space, which every device has. */
export const anyRequest = () => regionRead(PciRegion.config, 0, 4);
