import { performance } from "node:perf_hooks";
import { FerryError, messageOf } from "../base/errors.ts";
import type { Clock } from "../migration/hosts/clock.ts";
import type { MigrationEvent } from "../migration/hosts/events.ts";
import type { PhaseTime } from "../migration/hosts/link-messages.ts";
import { goOn, type Phase, runPhases, type Stage } from "../migration/hosts/phases.ts";
import { Intake } from "../migration/hosts/pump.ts";
import { busy, expectFree } from "../migration/hosts/refusals.ts";
import { compareFacts } from "../migration/identity.ts";
import { MigState } from "../spec/vfio.ts";
import { closeFd } from "../sys/descriptors.ts";
import { mapDescriptors, parseCargo } from "./handover.ts";
import { hostClock } from "./host-clock.ts";
import type { Lent } from "./mail.ts";
import type { ServedDevice } from "./served-device.ts";
import { swapBudgets } from "./swap-budgets.ts";
import type { SwapLink } from "./swap-link.ts";
import type { Arrival } from "./swap-source.ts";

/** What the side that a device comes to works with. */
export interface SwapTargetParts {
  readonly device: ServedDevice;
  readonly arrival: Arrival;
  /** Makes the link to the side that has it. */
  dial(): SwapLink;
  readonly tell: (event: MigrationEvent) => void;
}

/** The life of a swap on the side that the device comes to. */
const phases: ReadonlyArray<Phase<SwapTarget>> = [
  { name: "offer", budget: "greetMs", run: (t) => t.offer(), undo: (t) => t.letGo() },
  { name: "receive", budget: "receiveMs", run: (t, on) => t.receive(on), undo: (t) => t.discard() },
  { name: "take", budget: "validateMs", run: (t) => t.take(), undo: (t) => t.giveUp() },
  { name: "own", budget: null, run: (t) => t.own(), undo: null },
];

/** A device that comes from another server of this machine, with the VMM that uses it. */
export class SwapTarget implements Stage {
  readonly clock: Clock = hostClock;
  readonly budgets = swapBudgets;
  readonly tell: SwapTargetParts["tell"];
  readonly cancel: AbortSignal = new AbortController().signal;
  readonly times: PhaseTime[] = [];
  readonly startMs = hostClock.now();
  readonly #device: ServedDevice;
  readonly #arrival: Arrival;
  readonly #dial: SwapTargetParts["dial"];
  #link: SwapLink | null = null;
  #reserved = false;
  #claimed = false;
  #receiving = false;
  #wired = false;
  #loading: Promise<unknown> = Promise.resolve();
  #lent: Lent = { connection: null, wiring: null };

  constructor({ device, arrival, dial, tell }: SwapTargetParts) {
    this.#device = device;
    this.#arrival = arrival;
    this.#dial = dial;
    this.tell = tell;
  }

  get #talk(): SwapLink {
    if (this.#link === null) throw new FerryError("link-lost", "there is no link.");
    return this.#link;
  }

  /** Takes the device, or leaves its own as it was and throws why; what is wrong afterwards. */
  async run(): Promise<string> {
    try {
      await runPhases(phases, this);
      return await this.#setGoing();
    } finally {
      this.#link?.close();
    }
  }

  async offer(): Promise<void> {
    const { port } = this.#device;
    const { compatibility, offer } = this.#arrival;
    const what = "take another one's place";
    if (!this.#device.reserve()) throw busy(port.name, what, "a VMM uses it");
    this.#reserved = true;
    await expectFree(port, what);
    const misfit =
      (await port.judge(compatibility)) ?? compareFacts(await this.#device.offer(), offer);
    if (misfit !== null) throw new FerryError("incompatible", sentence(misfit));
    await port.claim();
    this.#claimed = true;
  }

  /** Undoes `offer`. */
  async letGo(): Promise<void> {
    this.#link?.close();
    if (this.#claimed) await this.#device.port.release();
    if (this.#reserved) this.#device.unreserve();
  }

  async receive(signal: AbortSignal): Promise<void> {
    const { port } = this.#device;
    this.#receiving = true;
    await port.move(MigState.resuming);
    goOn(signal);
    this.#link = this.#dial();
    const intake = new Intake(async (bytes) => {
      await port.write(bytes);
    });
    for (;;) {
      const endMs = performance.now() + this.budgets.silenceMs;
      const { word, body } = await this.#talk.receive(["data", "end"], endMs);
      goOn(signal);
      if (word === "end") break;
      await intake.put(body);
    }
    // The device's thread takes these in this order, one right after the other.
    const finished = intake.finish();
    this.#loading = Promise.all([finished, port.move(MigState.stop)]);
    this.#loading.catch(() => {});
  }

  /** Undoes `receive` and what follows it: the device is as clean as before. */
  async discard(): Promise<void> {
    if (this.#receiving) await this.#device.port.reset();
  }

  /** The state is checked and loaded while its client comes. */
  async take(): Promise<void> {
    const endMs = performance.now() + this.budgets.validateMs;
    const { body, fds } = await this.#talk.receive(["client"], endMs);
    this.#lent = clientOf(body, fds);
    this.#wired = true;
    await Promise.all([this.#loading, this.#device.wire(this.#lent)]);
  }

  /** From here on the device and its client are this server's. */
  async own(): Promise<void> {
    if (!this.#talk.sayNow("own")) throw left();
  }

  /** Undoes `take`. */
  async giveUp(): Promise<void> {
    if (this.#wired) await this.#device.unwire();
    closeClient(this.#lent);
  }

  /** The client's accesses are served from here on, whatever becomes of the device. */
  async #setGoing(): Promise<string> {
    const { port } = this.#device;
    const steps = [this.#device.resume(this.#lent), port.move(MigState.running)];
    const [resumed, moved] = await Promise.allSettled(steps);
    this.#device.unreserve();
    await Promise.all([port.still("none"), port.release()]);
    const failed = [resumed, moved].find((each) => each?.status === "rejected");
    // A reset of the guest's, which is its right, leaves a device that runs.
    if (failed === undefined || (await port.status()).state === MigState.running) return "";
    const why = messageOf((failed as PromiseRejectedResult).reason);
    return `${port.name} is here, but does not run: ${why} Reset it.`;
  }
}

/** The client in a word's body, with the descriptors that came along. */
function clientOf(body: Uint8Array, fds: readonly number[]): Lent {
  try {
    const [cargo] = parseCargo(body);
    if (cargo === undefined) throw new Error("it is empty");
    return mapDescriptors(cargo, (place) => fds[place] ?? -1).parked;
  } catch (thrown) {
    for (const fd of fds) closeFd(fd);
    throw new FerryError("link-lost", `the other server sent no client: ${messageOf(thrown)}.`);
  }
}

/** Closes the client's sockets; its wiring is the device's. */
function closeClient({ connection }: Lent): void {
  if (connection === null) return;
  const spec = { name: "", module: "", options: {} };
  const parked = { connection, wiring: null, state: new Uint8Array(0) };
  mapDescriptors({ spec, socketPath: null, listenFd: -1, parked }, (fd) => {
    closeFd(fd);
    return -1;
  });
}

const sentence = (text: string): string => (text.endsWith(".") ? text : `${text}.`);

const left = (): FerryError => new FerryError("link-lost", "the server that had it takes it back.");
