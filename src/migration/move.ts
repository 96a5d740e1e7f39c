import { errno } from "../base/errno.ts";
import { MigState } from "../spec/vfio.ts";
import { type Action, actionsOf } from "./arcs.ts";
import type { MigrationDriver, Phases } from "./driver.ts";
import { PhaseRun } from "./phase-run.ts";
import type { PhaseReport } from "./port.ts";

/** The actions that are the wrapper's own: each is done at once, with 0 or a negated errno. */
export type OwnActions = Readonly<Record<Exclude<Action, keyof Phases | "unfreeze">, () => number>>;

/** What takes an action back, where something does. */
const undoing: Partial<Record<Action, Action>> = {
  close: "open",
  begin: "end",
  track: "untrack",
  check: "receive",
};
const phases: readonly Action[] = ["freeze", "quiesce", "save", "load", "thaw"];
const isPhase = (action: Action): action is keyof Phases => phases.includes(action);

/**
 * A change of the migration state, arc by arc and action by action. What fails is undone to where
 * its arc began, last action first; when that fails too, the state is ERROR.
 */
export class Move {
  readonly reports: PhaseReport[] = [];
  /** What went wrong; 0 while nothing has. */
  failure = 0;
  readonly #driver: MigrationDriver;
  readonly #own: OwnActions;
  readonly #now: () => number;
  readonly #startMs: number;
  readonly #path: readonly MigState[];
  #state: MigState;
  #arc = 0;
  #actions: readonly Action[] = [];
  #done = 0;
  #run: PhaseRun | null = null;
  #undoing = false;

  constructor(
    from: MigState,
    path: readonly MigState[],
    driver: MigrationDriver,
    own: OwnActions,
    now: () => number,
  ) {
    this.#state = from;
    this.#path = path;
    this.#driver = driver;
    this.#own = own;
    this.#now = now;
    this.#startMs = now();
    this.#enterArc();
  }

  /** The state that was reached; ERROR when the way back failed. */
  get state(): MigState {
    return this.#state;
  }

  get done(): boolean {
    return this.#arc >= this.#path.length;
  }

  #enterArc(): void {
    const to = this.#path[this.#arc];
    this.#actions = to === undefined ? [] : actionsOf(this.#state, to);
    this.#done = 0;
  }

  /** Goes on until something must be waited for; true when it is over. */
  step(): boolean {
    while (!this.done) {
      const result = this.#undoing ? this.#stepBack() : this.#stepOn();
      if (result === null) return false;
    }
    return true;
  }

  #stepOn(): number | null {
    const action = this.#actions[this.#done];
    if (action === undefined) {
      this.#state = this.#path[this.#arc] as MigState;
      this.#arc += 1;
      this.#enterArc();
      return 0;
    }
    const result = this.#do(action, false);
    if (result === null) return null;
    this.#done += 1;
    if (result < 0) this.#fail(result);
    return result;
  }

  /** One action; null while it is under way. */
  #do(action: Action, back: boolean): number | null {
    if (action === "unfreeze") return this.#phase("freeze", !back);
    if (isPhase(action)) return this.#phase(action, back);
    const own = back ? undoing[action] : action;
    return own === undefined ? 0 : this.#own[own as keyof OwnActions]();
  }

  #phase(name: keyof Phases, back: boolean): number | null {
    this.#run ??= new PhaseRun(name, this.#driver[name], back, this.#now);
    const result = this.#run.step();
    if (result === null) return null;
    this.reports.push(this.#run.report(this.#startMs));
    this.#run = null;
    return result;
  }

  #fail(result: number): void {
    this.failure = result;
    this.#undoing = true;
  }

  /** Takes the last action back, also the one that failed. */
  #stepBack(): number | null {
    const action = this.#actions[this.#done - 1];
    if (action === undefined) {
      this.#arc = this.#path.length;
      return 0;
    }
    const result = this.#do(action, true);
    if (result === null) return null;
    this.#done -= 1;
    if (result < 0) {
      this.#state = MigState.error;
      this.#arc = this.#path.length;
    }
    return result;
  }

  /** The function was reset meanwhile: there is nothing left to do or to undo. */
  cut(): void {
    this.#run?.cancel(-errno.ECANCELED);
    this.failure = -errno.ECANCELED;
    this.#arc = this.#path.length;
  }
}
