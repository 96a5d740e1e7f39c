import { errno } from "../../base/errno.ts";
import { messageOf } from "../../base/errors.ts";
import type { MigrationDriver, Phases, Section, Step } from "../driver.ts";
import { ContractBreach, type ContractOptions, type ContractSubject, promise } from "./subject.ts";
import { Watched } from "./watched.ts";

const defaults = { turnsMax: 10_000, sectionsMax: 4096, spoiltMax: 24 } as const;

/** Bounds of the suite itself. */
export type Limits = Required<ContractOptions>;

/** What holds where the caller has not said otherwise. */
export const limitsOf = (options: ContractOptions): Limits => ({ ...defaults, ...options });

/**
 * A subject in the hands of somebody who does what the wrapper does: calls the driver's parts in
 * the order of a migration and gives the device its turns. Whatever throws is a breach.
 */
export class Rig {
  readonly subject: ContractSubject;
  readonly limits: Limits;
  readonly driver: MigrationDriver;
  readonly guest: Watched;
  readonly control: Watched;

  constructor(subject: ContractSubject, limits: Limits) {
    const { planes, kind } = subject;
    this.subject = subject;
    this.limits = limits;
    this.guest = new Watched(planes.guest);
    this.control = planes.control === planes.guest ? this.guest : new Watched(planes.control);
    const watched = { ...planes, guest: this.guest, control: this.control };
    this.driver = this.call("create", () => kind.create(watched));
  }

  /** Calls a part of the driver, which must not throw. */
  call<T>(what: string, part: () => T): T {
    try {
      return part();
    } catch (thrown) {
      if (thrown instanceof ContractBreach) throw thrown;
      throw new ContractBreach(`${what} threw: ${messageOf(thrown)}`);
    }
  }

  /** Calls what must change nothing, on either plane. */
  quietly<T>(what: string, part: () => T): T {
    const before = this.#changes;
    const result = this.call(what, part);
    promise(this.#changes === before, `${what} touched the device`);
    return result;
  }

  get #changes(): number {
    return this.guest.changes + this.control.changes;
  }

  /** One turn of work for whoever has some. */
  turn(): void {
    if (this.guest.busy) this.guest.work();
    if (this.control !== this.guest && this.control.busy) this.control.work();
    this.subject.turn?.();
  }

  /** Runs a step to its end, or cuts it off after some turns; null when it was cut off. */
  #play(what: string, step: Step, turns: number): number | null {
    for (let turn = 0; turn < turns; turn++) {
      const { done, value } = this.call(what, () => step.next());
      if (done === true) return value;
      this.turn();
    }
    this.call(`${what}, cut off,`, () => step.return(-errno.ETIMEDOUT));
    return null;
  }

  #finish(what: string, step: Step): void {
    const result = this.#play(what, step, this.limits.turnsMax);
    promise(result !== null, `${what} does not end within ${this.limits.turnsMax} turns`);
    promise(result === 0, `${what} ends with ${result}, not with 0`);
  }

  /** Does a phase as a whole. */
  phase(name: keyof Phases): void {
    this.#finish(
      name,
      this.call(name, () => this.driver[name].run()),
    );
  }

  /** Begins a phase and cuts it off. */
  cut(name: keyof Phases, turns: number): void {
    this.#play(
      name,
      this.call(name, () => this.driver[name].run()),
      turns,
    );
  }

  undo(name: keyof Phases): void {
    this.#finish(
      `the undoing of ${name}`,
      this.call(name, () => this.driver[name].undo()),
    );
  }

  /** RUNNING to STOP. */
  stop(): void {
    this.phase("freeze");
    this.phase("quiesce");
  }

  /** STOP to RUNNING. */
  start(): void {
    this.call("discard", () => this.driver.discard());
    this.phase("thaw");
    this.undo("freeze");
  }

  /** RUNNING to STOP_COPY, and back to STOP, with what was read on the way. */
  save(): Section[] {
    this.stop();
    this.phase("save");
    const sections = this.rest();
    this.endSave();
    return sections;
  }

  /** STOP_COPY to STOP. */
  endSave(): void {
    this.call("track", () => this.driver.track(false));
    this.call("discard", () => this.driver.discard());
  }

  /** What `next` gives until it has no more, as copies. */
  rest(): Section[] {
    const sections: Section[] = [];
    for (;;) {
      const next = this.call("next", () => this.driver.next());
      if (next === null) return sections;
      promise(
        sections.length < this.limits.sectionsMax,
        `next does not end within ${this.limits.sectionsMax} sections`,
      );
      sections.push({ ...next, address: 0, bytes: next.bytes.slice() });
    }
  }

  /** Takes sections; what they were refused with, by `accept` or `check`, or null. */
  receive(sections: readonly Section[]): string | null {
    for (const section of sections) {
      const said = this.call("accept", () => this.driver.accept(section));
      if (said !== null) return sentence("accept", said);
    }
    const said = this.quietly("check", () => this.driver.check());
    return said === null ? null : sentence("check", said);
  }

  /** A target becomes and runs what came. */
  resume(sections: readonly Section[], source: ContractSubject): void {
    this.stop();
    this.takeUp(sections, source);
  }

  /** The same of one that is in RESUMING. */
  takeUp(sections: readonly Section[], source: ContractSubject): void {
    const said = this.receive(sections);
    promise(said === null, `what was saved is refused: ${said}`);
    this.phase("load");
    this.subject.adopt?.(source);
    this.start();
  }

  /** The function is reset, as a guest does at any time. */
  reset(): void {
    this.guest.reset();
    this.call("wasReset", () => this.driver.wasReset?.());
    this.call("discard", () => this.driver.discard());
  }

  /** Has the device serve a guest from a clean start. */
  use(when: string): void {
    this.hook(`${when}, is not clean`, () => this.subject.clean());
    this.hook(`${when}, cannot be used`, () => {
      this.subject.exercise();
      this.subject.verify();
    });
  }

  /** The guest finds what it left. */
  verify(when: string): void {
    this.hook(`${when}, is not what it was`, () => this.subject.verify());
  }

  /** Calls a hook of the subject's, whose complaint is about the device. */
  hook(what: string, part: () => void): void {
    try {
      part();
    } catch (thrown) {
      throw new ContractBreach(`the device, ${what}: ${messageOf(thrown)}`);
    }
  }
}

function sentence(part: string, said: unknown): string {
  const is = typeof said === "string" && said.trim().length > 3;
  promise(is, `${part} refuses with ${JSON.stringify(said)}, which is no sentence`);
  return said;
}
