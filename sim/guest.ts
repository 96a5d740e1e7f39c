import * as raw from "../src/client/raw-requests.ts";
import { PciRegion } from "../src/spec/vfio.ts";
import { Random } from "../test/fuzz/random.ts";
import type { Act } from "./acts.ts";
import type { Host } from "./host.ts";
import { never } from "./process.ts";
import { type Answer, Vmm } from "./vmm.ts";
import type { World } from "./world.ts";

const thinkMsMax = 40;
/** Between two acts when nothing has happened for so many. */
const restMsMax = 4000;
const hastyActs = 25;

/** An act, with the guest that does it. */
export interface BoundAct extends Pick<Act<never>, "name" | "lasts" | "disturbs"> {
  readonly run: () => Promise<void>;
}

/**
 * A guest with its driver: it does one thing after the other, by messages to the device of the host
 * that it is on, and knows what must have come of each. `vmm` is where its vCPUs are.
 */
export abstract class Guest {
  readonly world: World;
  readonly random: Random;
  /** What it leaves in the device, to know it again. */
  readonly mark: number;
  vmm: Vmm;
  abstract readonly acts: readonly BoundAct[];
  /** Why it is no more, as has been reported; null while it lives. */
  death: string | null = null;
  /** It has stopped its device by itself, and has not yet set it going again. */
  hasStopped = false;
  /** Acts until the guest takes its time. */
  #haste = hastyActs;
  #stopped = false;
  #finishing = false;
  #started: Array<() => void> = [];
  readonly #signals: number[] = [];
  /** What its VMM knows of configuration space: writes, by their places. */
  readonly #config = new Map<number, raw.RawRequest>();
  /** A reset was answered and only noted: who takes the device over has to do it again. */
  #resetOwed = false;

  constructor(world: World, host: Host, mark: number) {
    this.world = world;
    this.random = new Random(mark);
    this.mark = mark;
    this.vmm = new Vmm(world, host);
  }

  /** What its driver does first, and once more after a reset: leaves its mark, asks for work. */
  protected abstract begin(): Promise<void>;

  protected bound<G extends Guest>(this: G, acts: readonly Act<G>[]): readonly BoundAct[] {
    return acts.map((act) => ({ ...act, run: () => act.run(this) }));
  }

  /** Lives until it is told to finish what it is doing. */
  async live(): Promise<void> {
    await this.vmm.start();
    await this.begin();
    const disturbances = this.acts.filter(({ disturbs }) => disturbs);
    while (!this.#finishing) {
      this.#haste -= 1;
      const thinkMs = this.#haste > 0 ? thinkMsMax : restMsMax;
      await this.world.clock.sleep(this.random.below(thinkMs));
      // One that stands still answers some things all the same: the place for a hostile guest.
      const disturbs = this.vmm.host.machine.still && this.random.oneIn(2);
      await this.act(this.random.pick(disturbs ? disturbances : this.acts));
    }
    for (const act of this.acts) if (act.lasts) await this.act(act);
  }

  async act({ name, run }: BoundAct): Promise<void> {
    await this.vcpus();
    this.world.moment(`guest ${name}`, `guest ${name}`);
    await run();
  }

  /** Something is going on: there is more for the guest to disturb. */
  hurry(): void {
    this.#haste = hastyActs;
  }

  finish(): void {
    this.#finishing = true;
  }

  /** Waits while the vCPUs stand still, and for ever when there are none any more. */
  async vcpus(): Promise<void> {
    while (this.#stopped) await new Promise<void>((resolve) => this.#started.push(resolve));
    if (this.death !== null) await never();
  }

  /** Stops the vCPUs; done when none of them waits for the device. */
  async stop(): Promise<void> {
    this.#stopped = true;
    this.world.log("the vCPUs are stopped");
    const waits = (): boolean => !this.vmm.quiet && this.vmm.open && this.death === null;
    await this.world.until(() => !waits(), 60_000);
  }

  /** Are the vCPUs stopped, and does none of them wait for the device? */
  get stands(): boolean {
    return this.#stopped && this.vmm.quiet;
  }

  start(): void {
    if (this.#stopped) this.world.log("the vCPUs are started");
    this.#stopped = false;
    for (const resolve of this.#started.splice(0)) resolve();
  }

  /** The guest stays where it is, and what was noted there has been made up for. */
  stays(): void {
    this.#resetOwed = false;
    this.start();
  }

  /** The guest goes on with another VMM; what had no answer is asked again there. */
  moveTo(vmm: Vmm): void {
    const before = this.vmm;
    this.world.log(`the guest goes on on ${vmm.host.name}`);
    before.close();
    for (let vector = 0; vector < this.world.kind.vectors; vector++) {
      this.#signals[vector] = (this.#signals[vector] ?? 0) + before.signals(vector);
    }
    this.vmm = vmm;
    if (this.#resetOwed) void vmm.request(raw.deviceReset());
    this.#resetOwed = false;
    for (const known of this.#config.values()) void vmm.request(known);
    vmm.takeOver(before);
    this.start();
  }

  /** Its device is lost with the host that owned it, and everybody was told. */
  die(why: string): void {
    if (this.death !== null) return;
    this.world.log(`the guest is lost: ${why}`);
    this.death = why;
  }

  /** How often an interrupt came, wherever the guest was. */
  signals(vector: number): number {
    return (this.#signals[vector] ?? 0) + this.vmm.signals(vector);
  }

  async ask(what: raw.RawRequest): Promise<Answer> {
    await this.vcpus();
    const answer = await this.vmm.request(what);
    if (this.death !== null) await never();
    return answer;
  }

  async readWord(region: number, offset: number): Promise<number> {
    const { error, payload } = await this.ask(raw.regionRead(region, offset, 4));
    if (error !== 0) this.world.fail("serves", `a read of ${offset} is answered ${error}`);
    return new DataView(payload.buffer, payload.byteOffset).getUint32(payload.length - 4, true);
  }

  async store(region: number, offset: number, data: Uint8Array): Promise<void> {
    const { error } = await this.ask(raw.regionWrite(region, offset, data));
    if (error !== 0) this.world.fail("serves", `a write of ${offset} is answered ${error}`);
  }

  /** Some things are always answered, also by a device that is not the guest's any more. */
  touch(): void {
    const { host } = this.vmm;
    if (this.world.owner.host !== host) host.machine.touched = true;
  }

  async writeConfig(offset: number, data: Uint8Array): Promise<void> {
    this.#config.set(offset, raw.regionWrite(PciRegion.config, offset, data));
    await this.store(PciRegion.config, offset, data);
    this.touch();
  }

  /** Resets the device in a way; what it had is gone. */
  async reset(how: raw.RawRequest): Promise<void> {
    await this.vcpus();
    const { host } = this.vmm;
    const { resets } = host.machine.migratable;
    await this.ask(how);
    // Where the device has come to, what was noted is made up for when it is unsealed.
    const leaves = this.world.trip?.from === host;
    const noted = leaves && host.alive && host.machine.migratable.resets === resets;
    const late = this.world.owner.host !== host;
    // Asked again where the guest went meanwhile, it is done.
    this.#resetOwed = this.vmm.host === host && (noted || late);
    if (this.#resetOwed) this.world.log("the guest's reset is owed");
    this.#config.clear();
    await this.begin();
  }
}
