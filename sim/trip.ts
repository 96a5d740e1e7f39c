import { FerryError, messageOf } from "../src/base/errors.ts";
import type { Outcome } from "../src/migration/hosts/events.ts";
import { recover } from "../src/migration/hosts/journal.ts";
import { decisionsOf } from "./disk.ts";
import type { Guest } from "./guest.ts";
import type { Host } from "./host.ts";
import { replay } from "./impostor.ts";
import type { Leg } from "./plan.ts";
import type { Process } from "./process.ts";
import { Vmm } from "./vmm.ts";
import type { Tamper, Wire } from "./wire.ts";
import type { World } from "./world.ts";

/** Longer than any budget and any repair. */
const patienceMs = 10 * 60_000;
const lookMs = 60;

/** Where the guest is at the end of a migration. */
export type Arrival = "kept" | "moved" | "lost";

/** One migration as an operator has it done, with the VMMs of both hosts. */
export class Trip {
  readonly world: World;
  readonly from: Host;
  readonly to: Host;
  /** The target's VMM, once it is there. */
  vmm: Vmm | null;
  wire: Wire | null = null;
  token = "";
  /** Something of the stream was changed on its way. */
  tampered = false;
  readonly #leg: Leg;
  readonly #guest: Guest;
  readonly #began: {
    readonly from: Process;
    readonly to: Process;
    readonly arrived: number;
    /** Resets of the source's device. */
    readonly resets: number;
    /** The target has another migration open. */
    readonly open: boolean;
  };
  /** Why the guest may stay where it is; null while it has to move. */
  #excuse: string | null = null;
  /** What came of it at the source, as long as its process has lived. */
  #outcome: Outcome | string | null = null;
  #stopping: Promise<void> | null = null;
  #connecting: Promise<void> | null = null;
  #sincePauseMs = 0;

  constructor(world: World, guest: Guest, leg: Leg) {
    const { hosts, owner } = world;
    const here = hosts.indexOf(owner.host);
    this.world = world;
    this.from = owner.host;
    const to = hosts[(here + leg.to) % hosts.length] as Host;
    this.to = to;
    this.vmm = world.vmms.find(({ open, host }) => open && host === to) ?? null;
    this.#leg = leg;
    this.#guest = guest;
    this.#began = {
      from: this.from.process,
      to: to.process,
      arrived: to.arrived,
      resets: this.from.machine.migratable.resets,
      open: openHere(to),
    };
  }

  /** Was the token used? */
  get used(): boolean {
    return this.to.arrived > this.#began.arrived;
  }

  /** Brings the guest to the other host, or not; says where it is when all is over. */
  async run(): Promise<Arrival> {
    const { world, from, to } = this;
    const { stopping, vmmWaits, replays } = this.#leg;
    world.log(`${from.name} is to move the guest to ${to.name}`);
    this.#guest.hurry();
    if (vmmWaits) await this.#connect();
    if (!(await this.#offer())) return "kept";
    if (stopping === "before") await this.#guest.stop();
    this.#migrate();
    if (!vmmWaits) world.watch("the late VMM", this.#connectLate());
    const arrival = await this.#arrive();
    world.log(`the guest is ${arrival}`);
    if (arrival === "moved") this.#guest.moveTo(this.vmm as Vmm);
    else if (arrival === "kept") this.#guest.stays();
    else this.#guest.die("its host has died");
    await this.#settle();
    this.#check(arrival);
    if (replays && arrival === "kept") await replay(world, this);
    return arrival;
  }

  /** Has the target's VMM connect, if it is not there or on its way. */
  async #connect(): Promise<void> {
    this.#connecting ??= this.#connectNow().finally(() => {
      this.#connecting = null;
    });
    await this.#connecting;
  }

  async #connectNow(): Promise<void> {
    const { world, to } = this;
    if (!to.alive || this.vmm?.open === true) return;
    this.vmm?.close();
    if (!(await world.until(() => !to.machine.connected, 1000)) || !to.alive) return;
    this.vmm = new Vmm(world, to);
    world.vmms.push(this.vmm);
    const { vmm } = this;
    world.watch("a VMM", vmm.start());
    await world.until(() => vmm.quiet || !vmm.open, 1000);
  }

  async #connectLate(): Promise<void> {
    const { clock, random } = this.world;
    await clock.sleep(random.below(3000));
    if (this.world.trip === this) await this.#connect();
  }

  /** The target's VMM leaves, and another one comes: for a device that waits for it. */
  reconnect(): void {
    if (this.#leg.vmmWaits) return;
    this.vmm?.close();
    this.world.watch("a VMM", this.#connect());
  }

  async #offer(): Promise<boolean> {
    const { from, to, world } = this;
    const thaw = this.#leg.vmmWaits ? "at once" : "when told";
    const request = { from: from.name, listen: to.address, thaw };
    const offered = to.control.offer(request).then(({ token }) => {
      this.token = token;
    });
    world.watch("the offer", offered);
    return await world.until(() => this.token !== "" || !to.alive, 1000).then(() => to.alive);
  }

  #migrate(): void {
    const { from, to, token } = this;
    const { stopping, pauses, precopy } = this.#leg;
    const pauseBefore = [
      ...(stopping === "at the pause" ? ["freeze"] : []),
      ...(pauses ? ["transfer"] : []),
    ];
    const vcpusStopped = stopping === "before";
    const request = { to: to.address, token, precopy, pauseBefore, vcpusStopped };
    from.control.migrate(request).then(
      (outcome) => {
        this.#outcome = outcome;
      },
      (thrown: unknown) => {
        this.#outcome = messageOf(thrown);
      },
    );
  }

  /** The stream is changed on its way, on the link of the moment. */
  tamper(change: Tamper): void {
    if (this.wire === null) return;
    this.wire.tamper = (frame) => {
      const changed = change(frame);
      if (changed !== frame) this.tampered = true;
      return changed;
    };
  }

  abort(host: Host): void {
    if (host.alive) this.world.watch("an abort", tried(host.control.abort({})));
  }

  /** The operator looks after it a little later. */
  resolveSoon(): void {
    const { clock, random } = this.world;
    clock.after(random.below(5000), () => this.world.watch("resolving", this.#resolve()));
  }

  /**
   * Unless the source's journal says `deciding`, the device is the source's. Otherwise the target
   * decides first, or tells what was decided, and the source is told that.
   */
  async #resolve(): Promise<void> {
    const { from, to, token, world } = this;
    // A word of the operator's is about the migration that goes on at a host, whichever that is.
    if (world.trip !== this || !to.alive || openHere(to)) return;
    const open = decisionsOf(from.disk, token).at(-1) === "deciding";
    const owner = open ? world.random.pick(["here", "there"]) : "there";
    await world.until(settled(tried(to.control.resolve({ owner }))), 5000);
    const decided = decisionsOf(to.disk, token);
    const fate = decided.includes("own") ? "there" : decided.includes("never") ? "here" : null;
    if (fate !== null && from.alive && world.trip === this)
      await tried(from.control.resolve({ owner: fate }));
  }

  /** Does what an operator does meanwhile, until it is known where the guest is. */
  async #arrive(): Promise<Arrival> {
    const { clock } = this.world;
    const endMs = clock.now() + patienceMs;
    for (let resolved = false; ; ) {
      const arrival = this.#arrival();
      if (arrival !== null) return arrival;
      this.#tend();
      if (clock.now() > endMs && !resolved) {
        resolved = true;
        this.resolveSoon();
      }
      if (clock.now() > 2 * endMs) this.world.fail("every run ends", "nobody knows who has it");
      await clock.sleep(lookMs);
    }
  }

  #arrival(): Arrival | null {
    const { from, to, world } = this;
    const { owner } = world;
    if (owner.host === to) {
      if (!owner.process.alive) return "lost";
      return this.vmm?.open === true && to.machine.runs ? "moved" : null;
    }
    if (owner.process.alive) return from.alive && this.#outcome !== null ? "kept" : null;
    return this.#targetGoesOn ? null : "lost";
  }

  /**
   * The target has begun, and its process has not come to an end of it. Another process, or a later
   * word of this one, can only decide against it: `expected` may stay its last record for long.
   */
  get #targetGoesOn(): boolean {
    const { to } = this;
    return to.alive && to.process === this.#began.to && to.busy;
  }

  #tend(): void {
    const { from, to, world } = this;
    if (from.alive && from.paused !== null && this.#outcome === null) this.#pause(from.paused);
    if (world.owner.host !== to || !to.alive) return;
    if (this.vmm?.open !== true) world.watch("a VMM", this.#connect());
    else if (this.vmm.quiet) world.watch("the thaw", tried(to.control.thaw()));
  }

  #pause(before: string): void {
    const { from, world } = this;
    this.#sincePauseMs += lookMs;
    if (before === "freeze") this.#stopping ??= this.#guest.stop();
    const stopped = before !== "freeze" || this.#guest.stands;
    if (!stopped || this.#sincePauseMs < world.random.below(2000)) return;
    from.paused = null;
    this.#sincePauseMs = 0;
    world.watch("going on", tried((async () => from.control.continue({}))()));
  }

  /** Both sides come to their own ends. */
  async #settle(): Promise<void> {
    const { from, to, world } = this;
    const over = (): boolean =>
      (!from.alive || from.process !== this.#began.from || this.#outcome !== null) && !to.busy;
    if (!(await world.until(over, patienceMs, 500))) {
      world.fail("every run ends", "a side goes on after it is known who has the device");
    }
  }

  /** Something happens for which the guest may stay. */
  excuse(why: string): void {
    this.#excuse ??= why;
  }

  /** Nothing that a guest does to its device keeps who migrates it from moving it. */
  #checkVeto(arrival: Arrival): void {
    const { from, to, world } = this;
    const free = [from, to].every(({ machine }) => world.kind.vetoless(machine.control));
    const reset = from.machine.migratable.resets > this.#began.resets;
    if (arrival !== "kept" || !free || reset || world.struck || this.#excuse !== null) return;
    world.fail("a guest has no veto", `${from.name} keeps the device: ${this.#why}`);
  }

  get #why(): string {
    return typeof this.#outcome === "string" ? this.#outcome : (this.#outcome?.sentence ?? "");
  }

  #check(arrival: Arrival): void {
    const { from, to, world, tampered } = this;
    this.#checkVeto(arrival);
    if (tampered && arrival === "moved") {
      world.fail("a damaged stream is refused", `${to.name} has taken it`);
    }
    const stands = !from.machine.runs && !this.#guest.hasStopped;
    if (arrival === "kept" && this.#began.from.alive && stands) {
      world.fail("what is kept runs", `${from.name} keeps the device, which stands still`);
    }
    const left = arrival === "moved" ? from : to;
    const lived = (left === from ? this.#began.from : this.#began.to).alive;
    // What another migration has left open here, or is about to end, is not this one's.
    if (arrival === "lost" || !lived || this.#began.open || openHere(left)) return;
    const remains = left.machine.remains;
    if (arrival === "kept" && left.machine.connected && left.machine.still)
      remains.push("it stands still");
    if (remains.length > 0) {
      world.fail("who has it not is clean", `the device of ${left.name}: ${remains.join(", ")}`);
    }
  }
}

/** Does the host's journal leave open whether it has sent a device away? */
const openHere = ({ disk }: Host): boolean =>
  recover(disk.records).some(({ decision }) => decision === "deciding");

/** An operator is told what makes no sense, and that is all that comes of it. */
async function tried(work: Promise<unknown>): Promise<void> {
  await work.catch((thrown: unknown) => {
    if (!(thrown instanceof FerryError)) throw thrown;
  });
}

/** Is it over? */
function settled(work: Promise<void>): () => boolean {
  let is = false;
  work.then(() => {
    is = true;
  });
  return () => is;
}
