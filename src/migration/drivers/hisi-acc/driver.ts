import { performance } from "node:perf_hooks";
import { errno } from "../../../base/errno.ts";
import { MigrationFlags } from "../../../spec/vfio.ts";
import type {
  Compatibility,
  DriverKind,
  MigrationDriver,
  Pending,
  Phase,
  Section,
  Step,
} from "../../driver.ts";
import { compare } from "../../identity.ts";
import type { Planes } from "../../planes.ts";
import { ended } from "../../step.ts";
import type { ControlPath } from "./control-path.ts";
import { FunctionRegisters } from "./function-registers.ts";
import { Intake } from "./intake.ts";
import { ids, type KnownFunction, knownFunction } from "./known-function.ts";
import { matchSection, sectionsOf } from "./outgoing.ts";
import { OwnControl } from "./own-control.ts";
import { askPf, isSameFunction, type PfFacts } from "./pf-broker.ts";
import { QmPort } from "./port.ts";
import { type AccState, sectionNames, stateBytesMax } from "./sections.ts";
import { SiliconControl } from "./silicon-control.ts";

/** Milliseconds of each phase, whatever the guest does. */
const budgets = { freeze: 1000, quiesce: 3000, save: 1000, load: 1000, thaw: 2000 } as const;

/** What tests choose. */
export interface HisiAccOptions {
  /** A monotonic clock, in milliseconds. */
  readonly now?: () => number;
}

/**
 * Migrates a VF of a HiSilicon accelerator: SEC2, ZIP or HPRE. Until the guest's plane is closed it
 * only asks the PF; then it has the function hold, stand still and tell what it knows. What comes
 * as a stream is checked whole before anything of it reaches the function.
 */
export class HisiAccDriver implements MigrationDriver {
  readonly compatibility: Compatibility;
  readonly sectionNames = sectionNames;
  readonly flags = MigrationFlags.mask.preCopy;
  readonly native = false;
  readonly freeze: Phase;
  readonly quiesce: Phase;
  readonly save: Phase;
  readonly load: Phase;
  readonly thaw: Phase;
  readonly #planes: Planes;
  readonly #known: KnownFunction;
  readonly #port: QmPort;
  readonly #path: ControlPath;
  readonly #registers: FunctionRegisters;
  /** Resets of the PF, when the function was made to stand still. */
  #resets = 0;
  #matchOwed = false;
  #outgoing: Section[] = [];
  #intake: Intake;
  #checked: AccState | null = null;
  /** What was put into the function and is to go on. */
  #loaded: AccState | null = null;

  /** A FerryError says what the planes lack. */
  constructor(planes: Planes, { now = () => performance.now() }: HisiAccOptions = {}) {
    this.#planes = planes;
    this.#known = knownFunction(planes);
    this.#port = new QmPort(planes.control);
    this.compatibility = this.#known.compatibility;
    const { facts, sqeShift } = this.#known;
    const { queueCount } = facts;
    const parts = { port: this.#port, memory: planes.memory, queueCount, sqeShift, now };
    this.#path = facts.controlMailbox ? new OwnControl(parts) : new SiliconControl(parts);
    this.#registers = new FunctionRegisters(this.#port, this.#path.mailbox, this.#known);
    this.#intake = this.#newIntake();
    this.freeze = this.#phase(
      "freeze",
      () => this.#hold(),
      () => this.#goOn(),
    );
    this.quiesce = this.#phase(
      "quiesce",
      () => this.#path.settle(),
      () => ended(0),
    );
    this.save = this.#phase(
      "save",
      () => this.#save(),
      () => this.#unsave(),
    );
    this.load = this.#phase(
      "load",
      () => this.#load(),
      () => this.#unload(),
    );
    this.thaw = this.#phase(
      "thaw",
      () => this.#thaw(),
      () => this.#standAgain(),
    );
  }

  #phase(name: keyof typeof budgets, run: () => Step, undo: () => Step): Phase {
    const begun = (step: () => Step) => () => {
      this.#port.begin();
      return step();
    };
    return { budgetMs: budgets[name], run: begun(run), undo: begun(undo) };
  }

  #newIntake(): Intake {
    const { deviceId, sqeShift, facts } = this.#known;
    const { queueCount, isolation } = facts;
    return new Intake({ deviceId, sqeShift, queueCount, isolation });
  }

  judge(theirs: Compatibility): string | null {
    return compare(this.compatibility, theirs);
  }

  track(on: boolean): number {
    this.#matchOwed = on;
    return 0;
  }

  get pending(): Pending {
    const initialBytes = this.#matchOwed ? this.#registers.matchBytes : 0;
    return { initialBytes, dirtyBytes: 0 };
  }

  get stopCopyBytes(): number {
    return stateBytesMax(this.#known.facts.queueCount);
  }

  next(): Section | null {
    if (!this.#matchOwed) return this.#outgoing.shift() ?? null;
    this.#matchOwed = false;
    return matchSection(this.#registers.match(true));
  }

  accept(section: Section): string | null {
    return this.#intake.accept(section);
  }

  check(): string | null {
    const state = this.#intake.state;
    if (typeof state === "string") return state;
    const lacks = this.#path.lacks(state);
    if (lacks === null) this.#checked = state;
    return lacks;
  }

  discard(): void {
    this.#matchOwed = false;
    this.#outgoing = [];
    this.#intake = this.#newIntake();
    this.#checked = null;
  }

  wasReset(): void {
    this.#path.forget();
    this.#loaded = null;
    this.discard();
  }

  /** Asks the PF; waits while it is reset or somebody else asks. */
  *#ask(): Generator<void, PfFacts> {
    for (;;) {
      const facts = askPf(this.#known.broker);
      if (typeof facts !== "number") return facts;
      yield;
    }
  }

  *#hold(): Step {
    const facts = yield* this.#ask();
    if (facts.broken || !isSameFunction(facts, this.#known.facts)) return -errno.EIO;
    this.#resets = facts.resets;
    return yield* this.#path.hold();
  }

  /** Also behind a thaw, when there is nothing left to do. */
  *#goOn(): Step {
    return this.#path.standing ? yield* this.#path.resume() : 0;
  }

  /** What was loaded and has not run since is as it came: a part of it is not in the function. */
  *#save(): Step {
    if (this.#loaded !== null) {
      this.#outgoing = sectionsOf(this.#loaded);
      return 0;
    }
    const result = yield* this.#registers.read();
    if (result < 0) return result;
    const found = yield* this.#path.find(this.#registers.tables);
    if (found < 0) return found;
    const facts = yield* this.#ask();
    if (facts.broken || facts.resets !== this.#resets) return -errno.EIO;
    const { queues = [], function: entry = null } = this.#path.found ?? {};
    const saved = this.#registers.state(queues, entry && { ...entry, faults: facts.faults });
    this.#outgoing = sectionsOf(saved);
    return 0;
  }

  #unsave(): Step {
    this.#outgoing = [];
    return ended(0);
  }

  /** One commit: the function is as after power-on, then gets what was checked and nothing else. */
  *#load(): Step {
    const state = this.#checked;
    if (state === null) return -errno.EINVAL;
    this.#loaded = null;
    if (this.#planes.control.reset() < 0) return -errno.EIO;
    this.#path.forget();
    const prepared = this.#path.prepare();
    const result = prepared < 0 ? prepared : yield* this.#registers.load(state);
    if (result < 0) return result;
    this.#loaded = state;
    return this.#port.result;
  }

  #unload(): Step {
    this.#loaded = null;
    this.#path.forget();
    return ended(Math.min(0, this.#planes.control.reset()));
  }

  /** Contexts come last, when the guest's memory has arrived. */
  *#thaw(): Step {
    const state = this.#loaded;
    if (state !== null) {
      const installed = yield* this.#path.install(state);
      if (installed < 0) return installed;
    }
    const resumed = yield* this.#path.resume();
    if (resumed < 0) return resumed;
    this.#registers.raise(state);
    const finished = yield* this.#path.finish(state?.function ?? null);
    if (finished === 0) this.#loaded = null;
    return finished;
  }

  *#standAgain(): Step {
    if (this.#path.standing) return 0;
    const held = yield* this.#path.hold();
    return held < 0 ? held : yield* this.#path.settle();
  }
}

/** The driver as it is registered. */
export const hisiAcc: DriverKind = {
  name: "hisi-acc",
  ids,
  create: (planes) => new HisiAccDriver(planes),
};
