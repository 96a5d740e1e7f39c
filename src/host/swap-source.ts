import { performance } from "node:perf_hooks";
import { FerryError, messageOf } from "../base/errors.ts";
import type { Compatibility } from "../migration/driver.ts";
import { type Clock, within } from "../migration/hosts/clock.ts";
import type { MigrationEvent } from "../migration/hosts/events.ts";
import type { PhaseTime } from "../migration/hosts/link-messages.ts";
import { Pace } from "../migration/hosts/pace.ts";
import { goOn, type Phase, runPhases, type Stage, tidyUp } from "../migration/hosts/phases.ts";
import { beginPrecopy, defaultPolicy, runRounds } from "../migration/hosts/precopy.ts";
import { Pump } from "../migration/hosts/pump.ts";
import { expectFree } from "../migration/hosts/refusals.ts";
import type { MigrationStatus } from "../migration/port.ts";
import { MigState } from "../spec/vfio.ts";
import { formatCargo, mapDescriptors } from "./handover.ts";
import { hostClock } from "./host-clock.ts";
import type { Lent } from "./mail.ts";
import type { ServedDevice } from "./served-device.ts";
import { swapBudgets } from "./swap-budgets.ts";
import { type SwapLink, swapDataBytesMax } from "./swap-link.ts";

/** What the other server is asked: whether a device like this one may come. */
export interface Arrival {
  readonly compatibility: Compatibility;
  /** What its client was told of it. */
  readonly offer: Readonly<Record<string, number | boolean>>;
}

/** The other server, once it has said yes. */
export interface Berthed {
  readonly link: SwapLink;
  /** What comes of it there: rejects when it is not taken; what is wrong with it when it is. */
  readonly done: Promise<string>;
  /** Nobody listens to it any more. */
  leave(): void;
}

/** What a swap works with. */
export interface SwapParts {
  readonly device: ServedDevice;
  /** Asks the other server, and makes the link. */
  call(arrival: Arrival, cancel: AbortSignal): Promise<Berthed>;
  readonly tell: (event: MigrationEvent) => void;
}

/** How a swap went. */
export interface SwapReport {
  readonly device: string;
  /** Was a VMM connected? */
  readonly connected: boolean;
  /** From the first register access that waited until all of them were served. */
  readonly heldMs: number;
  readonly bytes: number;
  readonly phases: readonly PhaseTime[];
  /** What is wrong with the device where it is now; empty when it runs. */
  readonly trouble: string;
}

/** The life of a swap on the side that has the device. All of them can be undone. */
const phases: ReadonlyArray<Phase<SwapSource>> = [
  { name: "precheck", budget: "greetMs", run: (s, on) => s.precheck(on), undo: (s) => s.letGo() },
  { name: "precopy", budget: "precopyMs", run: (s, on) => s.precopy(on), undo: (s) => s.goBack() },
  { name: "freeze", budget: "freezeMs", run: (s) => s.freeze(), undo: (s) => s.unfreeze() },
  { name: "save", budget: "saveMs", run: (s) => s.save(), undo: (s) => s.goBack() },
  { name: "transfer", budget: "transferMs", run: (s, on) => s.transfer(on), undo: null },
  { name: "hand over", budget: null, run: (s, on) => s.handOver(on), undo: (s) => s.takeBack() },
];

/** A device on its way to another server of this machine, with the VMM that uses it. */
export class SwapSource implements Stage {
  readonly clock: Clock = hostClock;
  readonly budgets = swapBudgets;
  readonly tell: SwapParts["tell"];
  readonly times: PhaseTime[] = [];
  readonly startMs = hostClock.now();
  readonly #device: ServedDevice;
  readonly #call: SwapParts["call"];
  readonly #cancel = new AbortController();
  readonly #pace = new Pace(hostClock, 0);
  readonly #pump = new Pump(swapDataBytesMax);
  #there: Berthed | null = null;
  #claimed = false;
  #resets = 0;
  #freezing: Promise<void> = Promise.resolve();
  #lent: Lent | null = null;
  #deciding = false;
  /** When accesses began to wait, and when they must go on. */
  #heldMs = 0;
  #endMs = Number.POSITIVE_INFINITY;

  constructor({ device, call, tell }: SwapParts) {
    this.#device = device;
    this.#call = call;
    this.tell = tell;
  }

  get cancel(): AbortSignal {
    return this.#cancel.signal;
  }

  get #link(): SwapLink {
    if (this.#there === null) throw new FerryError("link-lost", "there is no link.");
    return this.#there.link;
  }

  /** Swaps the device, or leaves everything as it was and throws why. */
  async run(): Promise<SwapReport> {
    let reason = "";
    try {
      await runPhases(phases, this, {
        failed: async (thrown) => {
          reason = await this.#causeOf(thrown);
          this.#there?.link.close();
        },
      });
    } catch (thrown) {
      const code = thrown instanceof FerryError ? thrown.code : "failed";
      const { name } = this.#device.port;
      throw new FerryError(code, `${name} stays with the server that has it: ${reason}`);
    }
    return await this.#conclude();
  }

  /** The other server says better why it is over than its link does, if it still says it. */
  async #causeOf(thrown: unknown): Promise<string> {
    const { clock, budgets } = this;
    const isLost = thrown instanceof FerryError && thrown.code === "link-lost";
    if (!isLost || this.#there === null) return messageOf(thrown);
    const wait = { what: "the other server's reason", budgetMs: budgets.pingMs / 4 };
    return await within(clock, wait, this.#there.done).then(
      () => messageOf(thrown),
      (why: unknown) =>
        why instanceof FerryError && why.code !== "too-late" ? why.message : messageOf(thrown),
    );
  }

  async precheck(signal: AbortSignal): Promise<void> {
    const { port } = this.#device;
    const { resets } = await expectFree(port, "be swapped");
    this.#resets = resets;
    await port.claim();
    this.#claimed = true;
    const [compatibility, offer] = await Promise.all([port.compatibility(), this.#device.offer()]);
    const mapped = Object.keys(offer).find((fact) => fact.endsWith(" mappable") && offer[fact]);
    if (mapped !== undefined) {
      const region = mapped.replace(" mappable", "");
      throw new FerryError(
        "mapped",
        `its VMM may have mapped ${region}, and that cannot be moved. Serve it with mmap=never.`,
      );
    }
    goOn(signal);
    this.#there = await this.#call({ compatibility, offer }, signal);
  }

  /** Undoes `precheck`. */
  async letGo(): Promise<void> {
    this.#hangUp();
    if (this.#claimed) await this.#device.port.release();
    this.#claimed = false;
  }

  #hangUp(): void {
    this.#there?.link.close();
    this.#there?.leave();
  }

  async precopy(signal: AbortSignal): Promise<void> {
    const { port } = this.#device;
    if (!(await beginPrecopy(port))) return;
    goOn(signal);
    const send = (bytes: Uint8Array): Promise<void> =>
      this.#link.send("data", bytes, performance.now() + this.budgets.silenceMs);
    const check = async (): Promise<MigrationStatus> => {
      goOn(signal);
      const status = await port.status();
      if (status.resets === this.#resets) return status;
      throw new FerryError("guest-reset", "the guest has reset it meanwhile. Start again.");
    };
    const [pace, pump] = [this.#pace, this.#pump];
    const policy = { ...defaultPolicy, downtimeMs: swapDowntimeMs };
    const { clock, tell } = this;
    await runRounds({ port, clock, tell, policy, pace, pump, send, check }, signal);
  }

  async freeze(): Promise<void> {
    const { holdMs } = this.budgets;
    this.#heldMs = this.clock.now();
    this.#endMs = performance.now() + holdMs;
    void this.clock.sleep(holdMs, this.cancel).then(() => {
      if (!this.#deciding) this.#cancel.abort(heldTooLong(holdMs));
    });
    this.#freezing = this.#device.port.still("hold");
    this.#freezing.catch(() => {});
  }

  async unfreeze(): Promise<void> {
    await this.#device.port.still("none");
  }

  /** The device's thread does both in one turn: between them another process could have had it. */
  async save(): Promise<void> {
    await Promise.all([this.#freezing, this.#device.port.move(MigState.stopCopy)]);
  }

  /** Undoes `save` and `precopy`. */
  async goBack(): Promise<void> {
    await this.#device.port.abort();
  }

  async transfer(signal: AbortSignal): Promise<void> {
    const { port } = this.#device;
    await this.#pump.drain({
      read: (room) => port.read(room),
      pass: async (bytes) => {
        goOn(signal);
        await this.#link.send("data", bytes, this.#endMs);
        this.#pace.count(bytes.length);
      },
    });
    goOn(signal);
    await this.#link.send("end", new Uint8Array(0), this.#endMs);
  }

  /**
   * The client goes along before the state is loaded: each wait for the other side is one for a
   * process that has to wake up. Whatever goes wrong, the socket knows whether it has said `own`.
   */
  async handOver(signal: AbortSignal): Promise<void> {
    goOn(signal);
    goOn(this.cancel);
    this.#deciding = true;
    this.#lent = await this.#device.lend(this.#resets);
    try {
      await this.#sendClient(this.#lent);
      await this.#link.receive(["own"], this.#endMs);
    } catch (thrown) {
      if (!this.#link.concede()) throw thrown;
    }
  }

  async #sendClient(lent: Lent): Promise<void> {
    const { spec } = this.#device;
    const fds: number[] = [];
    const parked = { ...lent, state: new Uint8Array(0) };
    const cargo = { spec, socketPath: null, listenFd: -1, parked };
    const collected = mapDescriptors(cargo, (fd) => fds.push(fd) - 1);
    await this.#link.send("client", formatCargo([collected]), this.#endMs, fds);
  }

  /** Undoes `handOver`: its client goes on here, once `unfreeze` lets it. */
  async takeBack(): Promise<void> {
    if (this.#lent !== null) await this.#device.takeBack(this.#lent);
    this.#lent = null;
  }

  /** The other server has it: what is left here is made clean, whatever of it can be. */
  async #conclude(): Promise<SwapReport> {
    const { clock, budgets, tell } = this;
    const wait = { what: "setting it going", budgetMs: budgets.thawMs };
    const trouble = await within(clock, wait, this.#there?.done ?? Promise.resolve("")).catch(
      messageOf,
    );
    const heldMs = clock.now() - this.#heldMs;
    this.#cancel.abort("it is over");
    const { port } = this.#device;
    const steps = [
      () => port.reset(),
      async () => this.#device.letGo(this.#lent as Lent),
      () => port.still("none"),
      () => port.release(),
    ];
    await tidyUp(steps, tell);
    this.#hangUp();
    const connected = this.#lent?.connection !== null;
    const { bytes } = this.#pace;
    return { device: port.name, connected, heldMs, bytes, phases: this.times, trouble };
  }
}

/** PRE_COPY is at an end when what is left takes no longer than this. */
const swapDowntimeMs = 10;

const heldTooLong = (limitMs: number): FerryError =>
  new FerryError("too-late", `its VMM would have been held for more than ${limitMs} ms.`);
