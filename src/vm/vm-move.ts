import { FerryError, messageOf } from "../base/errors.ts";
import { handled } from "../base/handled.ts";
import { hostClock } from "../host/host-clock.ts";
import { defaultBudgets } from "../migration/hosts/budgets.ts";
import type { Tell } from "../migration/hosts/events.ts";
import type { PhaseTime } from "../migration/hosts/link-messages.ts";
import { type Around, goOn, type Phase, runPhases, type Stage } from "../migration/hosts/phases.ts";
import { needed } from "./capabilities.ts";
import type { Fate } from "./device-move.ts";
import { Doctor } from "./doctor.ts";
import { DowntimeLimit } from "./downtime-limit.ts";
import { lookBack } from "./left-behind.ts";
import type { PciFunction } from "./pci-place.ts";
import { type Qemu, vmmBudgets } from "./qemu.ts";
import { Restorer } from "./restorer.ts";
import type { VmDevice } from "./vm-device.ts";
import { VmDevices } from "./vm-devices.ts";

/** What is moved, and how. */
export interface VmMoveRequest {
  readonly devices: readonly VmDevice[];
  /** Where the two QEMUs meet: `unix:PATH` or `tcp:HOST:PORT`. */
  readonly memory: string;
  /** How long memory may be copied while the VM runs, in milliseconds. */
  readonly precopyMs: number;
}

/** Which of both has the VM; `open` as long as it stands and its device is undecided. */
export type VmFate = "moved" | "kept" | "open";

/** How a VM's migration ended: who has it, what is wrong there, and all in a sentence. */
export interface VmEnd {
  readonly outcome: VmFate;
  /** What is wrong where the VM is, or was; empty when it goes on there. */
  readonly trouble: string;
  readonly sentence: string;
}

/** The life of a VM's migration. All of it can be undone, the last one until it has decided. */
const phases: ReadonlyArray<Phase<VmMove>> = [
  { name: "check", budget: null, run: (m) => m.check(), undo: null },
  { name: "prepare", budget: null, run: (m) => m.prepare(), undo: (m) => m.unprepare() },
  { name: "device", budget: null, run: (m, on) => m.begin(on), undo: (m) => m.devicesBack() },
  { name: "memory", budget: null, run: (m, on) => m.moveMemory(on), undo: (m) => m.vmBack() },
  { name: "fence", budget: null, run: (m) => m.fence(), undo: null },
  { name: "freeze", budget: null, run: (m, on) => m.freeze(on), undo: (m) => m.devicesBack() },
  { name: "switch", budget: null, run: (m, on) => m.switchOver(on), undo: null },
  { name: "restore", budget: null, run: (m) => m.restore(), undo: null },
  { name: "hand over", budget: null, run: (m, on) => m.handOver(on), undo: (m) => m.takeBack() },
];

/** What follows once the device is the target's: nothing of it is taken back. */
const thereafter: ReadonlyArray<Phase<VmMove>> = [
  { name: "run", budget: null, run: (m) => m.run(), undo: null },
  { name: "retire", budget: null, run: (m) => m.retire(), undo: null },
];

/** A running VM with its vfio-user devices on its way from one QEMU to another. */
export class VmMove implements Stage {
  readonly clock = hostClock;
  /** Each wait of what is undone ends by itself; how many there are is up to the devices. */
  readonly budgets = { ...defaultBudgets, undoMs: Number.POSITIVE_INFINITY };
  readonly tell: Tell;
  readonly times: PhaseTime[] = [];
  readonly startMs = hostClock.now();
  readonly #from: Qemu;
  readonly #to: Qemu;
  readonly #request: VmMoveRequest;
  readonly #devices: VmDevices;
  readonly #around: Around;
  readonly #restorer: Restorer;
  readonly #limit: DowntimeLimit;
  readonly #cancel = new AbortController();
  #ecam = 0;
  /** How the capabilities that are needed were set before, at the source and at the target. */
  #before: Capabilities | null = null;
  #targetBefore: Capabilities = {};
  /** From here on the target may have a device: nobody is asked whether to go on. */
  #decided = false;
  /** Which devices are with the target and do not come back, so that everything stands. */
  #split: string | null = null;
  /** Which devices have not come back; empty when all have. */
  #notBack = "";
  #fate: Fate = "kept";
  /** How long no vCPU ran; null while it is not known. */
  blackoutMs: number | null = null;

  /** Phases begin at once unless `around` has them wait. */
  constructor(from: Qemu, to: Qemu, request: VmMoveRequest, tell: Tell, around: Around = {}) {
    this.#from = from;
    this.#to = to;
    this.#request = request;
    this.#devices = new VmDevices(request.devices);
    this.#restorer = new Restorer(to, this.#devices);
    this.#limit = new DowntimeLimit(from);
    this.tell = tell;
    this.#around = around;
  }

  get cancel(): AbortSignal {
    return this.#cancel.signal;
  }

  /** Ends it and brings everything back, unless the decision is out already. */
  abort(reason: string): void {
    if (this.#decided) this.tell({ kind: "note", why: `too late to go back, though ${reason}` });
    else this.#cancel.abort(new FerryError("cancelled", reason));
  }

  /** Moves the VM, or brings it back; tells which QEMU has it, in a sentence. */
  async migrate(): Promise<VmEnd> {
    const [source, target] = [this.#from, this.#to];
    try {
      await runPhases(phases, this, this.#around);
    } catch (thrown) {
      if (this.#split !== null) {
        return { outcome: "open", trouble: "", sentence: this.#splitSentence(this.#split) };
      }
      const left = await lookBack(source, target, this.#notBack, thrown);
      return { outcome: "kept", ...left };
    }
    if (this.#fate === "open") {
      return { outcome: "open", trouble: "", sentence: this.#openSentence() };
    }
    try {
      for (const phase of thereafter) await runPhases([phase], this, this.#around);
    } catch (thrown) {
      const trouble = messageOf(thrown);
      const where = `The VM and its device are with ${target.path}`;
      return { outcome: "moved", trouble, sentence: `${where}, but: ${trouble}` };
    }
    return { outcome: "moved", trouble: "", sentence: `The VM runs with ${target.path}.` };
  }

  /** Where the undecided device is, all have to be. */
  #openSentence(): string {
    const { all, open, onlyLastIsOpen, places } = this.#devices;
    const [source, target] = [this.#from.path, this.#to.path];
    const there = `say cont to ${target} and quit to ${source}`;
    const back = `say cont to ${source} and quit to ${target}`;
    const stands = "The VM stands still in both, because it is not known who has";
    const ask = `Ask ferry migrate status ${open.map(({ to }) => to.path).join(", ")}`;
    if (all.length === 1) {
      const other = `if ${open[0]?.from.path} has it, the other way round`;
      return `${stands} the device. ${ask}: if it has, ${there}; ${other}.`;
    }
    const said = `${stands} ${open.map(({ id }) => id).join(", ")}: ${places}. ${ask}.`;
    if (!onlyLastIsOpen) return `${said} Bring all back with ferry migrate and ${back}.`;
    const thaw = `say ferry migrate thaw for the others and ${there}`;
    const bring = `bring the others back with ferry migrate and ${back}`;
    return `${said} If it has, ${thaw}; if not, ${bring}.`;
  }

  #splitSentence(why: string): string {
    const [source, target] = [this.#from.path, this.#to.path];
    const then = `then say cont to ${source} and quit to ${target}`;
    return `The VM stands still in both: ${why} Bring all back with ferry migrate, ${then}.`;
  }

  /** Nothing is changed by it; what it finds would only fail later. */
  async check(): Promise<void> {
    const [source, target] = [this.#from, this.#to];
    await expectState(source, "running", "say cont to it first");
    await expectState(target, "inmigrate", "start it with -incoming defer -S");
    for (const qemu of [source, target]) await Doctor.expectSound(qemu);
    await expectAlike("the machine", [source, target], (qemu) => qemu.machine());
    await expectAlike("the way of memory", [source, target], (qemu) => qemu.streams());
    const isZeroCopy = (await source.capabilities()).get("zero-copy-send") === true;
    if (isZeroCopy && !this.#request.memory.startsWith("tcp:")) {
      throw new FerryError("usage", `zero-copy-send of ${source.path} needs --memory tcp:.`);
    }
    for (const qemu of [source, target]) await this.#devices.expectAllOf(qemu);
    await this.#devices.each((device) => device.expectSameWay(source, target));
    const places = await source.findFunctions(this.#devices.ids);
    this.#ecam = await source.ecam();
    for (const [index, device] of this.#devices.all.entries()) {
      await device.check(source, this.#ecam, places[index] as PciFunction);
    }
  }

  async prepare(): Promise<void> {
    this.#before = await setCapabilities(this.#from);
    this.#targetBefore = await setCapabilities(this.#to);
    await this.#limit.begin();
  }

  async unprepare(): Promise<void> {
    if (this.#before !== null) await this.#from.setCapabilities(this.#before);
    await this.#limit.end();
  }

  /** What devices write to memory is kept from here on, so it comes before memory does. */
  async begin(signal: AbortSignal): Promise<void> {
    const { precopyMs } = this.#request;
    const how = { pauseMs: 2 * precopyMs, unmaps: await this.#from.hasIommu() };
    await this.#devices.begin(how, (why) => this.tell({ kind: "note", why }));
    await this.#devices.each(({ move }) => move.reaches("freeze", precopyMs, signal));
  }

  /** Done twice without harm. */
  async devicesBack(): Promise<void> {
    const servers = this.#devices.all.map(({ from }) => from.path).join(", ");
    this.#notBack = `nobody knows whether ${servers} has all that it had`;
    await this.#devices.each((device) => device.back());
    this.#notBack = "";
  }

  /** Ends with vCPUs that stand still; before it begins all is done that can be. */
  async moveMemory(signal: AbortSignal): Promise<void> {
    const { memory, precopyMs } = this.#request;
    await this.#to.incoming(memory);
    goOn(signal);
    await this.#restorer.open();
    await this.#rehearse();
    goOn(signal);
    await this.#from.migrate(memory);
    const told = new AbortController();
    void this.#tellProgress(told.signal);
    void this.#limit.follow(told.signal, (why) => this.tell({ kind: "note", why }));
    // A device whose way ends meanwhile stays, and the rest of its VM need not be copied.
    const stays = this.#devices.all.map(({ move }) =>
      move.reaches("saved", Number.POSITIVE_INFINITY, told.signal),
    );
    try {
      const stands = this.#from.reaches("pre-switchover", precopyMs, signal);
      await Promise.race([stands, Promise.all(stays)]);
    } finally {
      told.abort();
    }
  }

  /** What is done for the first time is slow: it is done once before vCPUs stand still. */
  async #rehearse(): Promise<void> {
    await this.#from.findFunctions(this.#devices.ids);
    await this.#passFence();
    await this.#restorer.rehearse(this.#ecam);
  }

  async #tellProgress(enough: AbortSignal): Promise<void> {
    const { progressMs } = this.budgets;
    for (;;) {
      await this.clock.sleep(progressMs, enough);
      if (enough.aborted) return;
      const progress = await this.#from.progress().catch(() => null);
      if (progress === null) return;
      const { bytes, rounds, leftBytes: dirtyBytes, rate } = progress;
      this.tell({ kind: "progress", bytes, rounds, dirtyBytes, rate });
    }
  }

  /**
   * Undoes `memory` and `switch`: the target, whose VM has not run yet, goes, so that it never
   * will. The device runs again already, because what comes after `memory` is undone before.
   */
  async vmBack(): Promise<void> {
    // A VM that has devices on both sides must not go on with either.
    if (this.#split !== null) throw new FerryError("split", "not all devices are back.");
    await this.#to.quit();
    this.#restorer.drop();
    await this.#from.takeBack();
  }

  async fence(): Promise<void> {
    const lowered = this.#devices.each((device) => device.lowerLine(this.#from));
    await Promise.all([this.#passFence(), lowered]);
  }

  async #passFence(): Promise<void> {
    await this.#devices.each((device) => device.fence(this.#from, this.#ecam));
  }

  /** The devices stand still and have shown what they wrote; meanwhile QEMU says where they are. */
  async freeze(signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const cancel = AbortSignal.any([signal, over.signal]);
    // A VMM that fails sets its vCPUs going, which must not wait for a device for long.
    const fails = this.#from.reaches("completed", Number.POSITIVE_INFINITY, cancel);
    const places = this.#from.findFunctions(this.#devices.ids);
    const found = handled(places.then((all) => this.#devices.areAt(all)));
    const freezes = this.#devices.all.map((device) => device.freeze(cancel));
    const stands = Promise.all([...freezes, found]);
    try {
      await Promise.race([stands, fails]);
    } finally {
      over.abort();
      await Promise.allSettled([...freezes, fails]);
    }
  }

  /**
   * The VM and its devices get there at once; what has to be known afterwards is found out. A VMM
   * has a turn of its loop for each command: with one before the switch, what the devices have
   * signalled last is in the VM before the rest of it goes.
   */
  async switchOver(signal: AbortSignal): Promise<void> {
    const [source, target] = [this.#from, this.#to];
    const { switchMs } = vmmBudgets;
    const { all } = this.#devices;
    const load = async (): Promise<void> => {
      await Promise.all(all.map(({ move }) => move.reaches("hand over", undefined, signal)));
      await this.#restorer.look();
    };
    await Promise.all([
      source.runState(),
      source.switchOver(),
      load(),
      ...all.map((device) => device.learn(source, this.#ecam)),
      source.reaches("completed", switchMs, signal),
      target.reaches("completed", switchMs, signal),
    ]);
  }

  /** The target has the VM, and does not run it: nobody has said who has the devices. */
  async restore(): Promise<void> {
    await Promise.all([
      this.#restorer.restore(this.#ecam),
      expectState(this.#to, "paused", "nobody may set it going before its devices are there"),
    ]);
  }

  /** From here on a cancellation is refused: what takes this phase apart is a device that stays. */
  async handOver(signal: AbortSignal): Promise<void> {
    goOn(signal);
    this.#decided = true;
    const fate = this.#devices.handOver();
    await this.#restorer.close();
    this.#fate = await fate;
    if (this.#fate !== "kept") return;
    throw new FerryError("kept", this.#devices.whyKept);
  }

  /** A VM is where all of its devices are; those that had gone before come back. */
  async takeBack(): Promise<void> {
    try {
      this.#split = "devices are on their way back.";
      await this.#devices.takeBack();
      this.#split = null;
    } catch (thrown) {
      this.#split = messageOf(thrown);
      throw thrown;
    }
  }

  async run(): Promise<void> {
    await this.#devices.setGoing();
    await this.#to.run();
    const stoppedMs = await this.#from.lastAt("STOP");
    const resumedMs = await this.#to.lastAt("RESUME");
    if (stoppedMs !== undefined && resumedMs !== undefined) {
      this.blackoutMs = resumedMs - stoppedMs;
    }
  }

  /** The source has nothing more to do, once the target is seen to have all of it. */
  async retire(): Promise<void> {
    await expectState(this.#to, "running", "look at it before you end the source");
    await this.#devices.each((device) => device.expectServer());
    await this.#devices.each(({ move }) => move.over());
    await this.#to.setCapabilities(this.#targetBefore);
    await this.#from.quit();
  }
}

type Capabilities = Readonly<Record<string, boolean>>;

/** Sets what is needed; tells how that was. */
async function setCapabilities(qemu: Qemu): Promise<Capabilities> {
  const had = await qemu.capabilities();
  await qemu.setCapabilities(Object.fromEntries(needed.map((name) => [name, true])));
  return Object.fromEntries(needed.map((name) => [name, had.get(name) === true]));
}

async function expectAlike(
  what: string,
  qemus: readonly Qemu[],
  ask: (qemu: Qemu) => Promise<string>,
): Promise<void> {
  const [here, there] = await Promise.all(qemus.map(ask));
  if (here === there) return;
  throw new FerryError("usage", `${what} is ${here} at the source, ${there} at the target.`);
}

async function expectState(qemu: Qemu, wanted: string, hint: string): Promise<void> {
  const state = await qemu.runState();
  if (state === wanted) return;
  throw new FerryError("usage", `the VM of ${qemu.path} is ${state}, not ${wanted}: ${hint}.`);
}
