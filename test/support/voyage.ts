/** A guest at work in this process, and the ways in which its device is moved under it. */

import { until } from "./ferry.ts";
import type { MigratingHost, MoveEnd } from "./migrating-host.ts";
import type { MovingGuest } from "./moving-guest.ts";

/** How a device gets from one host to another. */
export interface Route {
  /** What the target is asked to offer; null for a file, which is loaded afterwards. */
  readonly offer: object | null;
  /** What the source is told of the target: `to` unless the offer says it, `pki`, `peer`. */
  readonly destination: Readonly<Record<string, string>>;
}

export class Voyage<G extends MovingGuest> {
  readonly guest: G;
  #running = true;
  readonly #vcpu: NodeJS.Timeout;

  constructor(guest: G) {
    this.guest = guest;
    this.#vcpu = setInterval(() => {
      if (this.#running) guest.turn();
    }, 1);
  }

  /** The vCPUs stand still. */
  stand(): void {
    this.#running = false;
  }

  goOn(): void {
    this.#running = true;
  }

  /** Waits until the guest has done so much more, all of it right. */
  async works(operations = 10): Promise<void> {
    const wanted = this.guest.operations + operations;
    await until(() => this.guest.operations >= wanted, "the guest works");
    if (this.guest.wrong > 0) throw new Error(`${this.guest.wrong} operations ended wrong`);
  }

  /** Takes what is under way and gives no more: its memory does not change then. */
  async drain(): Promise<void> {
    this.stand();
    await until(() => {
      this.guest.collect();
      return this.guest.pending === 0;
    }, "the guest has nothing under way");
  }

  /** What a VMM does at the pauses of a migration. */
  async #follow(from: MigratingHost, pauses: number): Promise<void> {
    await from.pauses("freeze", pauses);
    this.guest.copyMemory();
    this.stand();
    await from.ask("migrate-continue");
    await from.pauses("transfer", pauses);
    this.guest.copyMemory();
    await from.ask("migrate-continue");
  }

  /** Moves the device with the guest at work, and goes on with it there. */
  async move(
    from: MigratingHost,
    to: MigratingHost,
    { offer, destination }: Route,
    pauses: boolean,
  ): Promise<MoveEnd> {
    this.guest.prepare(to.socket);
    const place = offer === null ? {} : await to.offer(offer);
    const { address, token } = place as { address?: string; token?: string };
    const request = { to: address, token, ...destination };
    const before = from.lines.filter((line) => line.before === "freeze").length;
    if (!pauses) {
      await this.drain();
      this.guest.copyMemory();
    }
    const how = pauses ? { pauseBefore: ["freeze", "transfer"] } : { vcpusStopped: true };
    const moving = from.migrate({ ...request, ...how });
    const followed = pauses ? this.#follow(from, before + 1) : Promise.resolve();
    const end = await moving;
    await followed;
    if (end.outcome !== "moved") throw new Error(end.sentence);
    if (offer === null) await to.load({ from: destination["to"] });
    this.guest.arrive();
    this.goOn();
    return end;
  }

  end(): void {
    clearInterval(this.#vcpu);
    this.guest.close();
  }
}
