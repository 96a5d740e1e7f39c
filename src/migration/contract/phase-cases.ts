/** What the phases of a driver promise for one device. */
import type { Phases } from "../driver.ts";
import type { Rig } from "./rig.ts";
import { promise } from "./subject.ts";

/** A phase of a stop is budgeted far below what a VMM waits for. */
const budgetMaxMs = 60_000;
/** Phases are cut off after so many turns. */
const cuts = [0, 1, 2, 5, 20] as const;
/** The phases of a source in their order. */
const leaving = ["freeze", "quiesce", "save"] as const;

/** Does the phases up to one, the last of them with `last`, and takes them back. */
function back(rig: Rig, phase: (typeof leaving)[number], last: (rig: Rig) => void): void {
  const before = leaving.slice(0, leaving.indexOf(phase));
  for (const each of before) rig.phase(each);
  last(rig);
  rig.undo(phase);
  for (const each of before.toReversed()) rig.undo(each);
}

function standsStill({ guest }: Rig): void {
  promise(!guest.busy, "the device has work to do after quiesce");
}

const undone = (phase: (typeof leaving)[number]) => (rig: Rig) => {
  rig.subject.exercise();
  back(rig, phase, () => rig.phase(phase));
  rig.verify(`whose ${phase} was undone`);
  rig.reset();
  rig.use(`whose ${phase} was undone`);
};

/** By what each promises; a case throws a breach. */
export const phaseCases: Readonly<Record<string, (rig: Rig) => void>> = {
  "every phase has a budget": ({ driver }) => {
    for (const name of ["freeze", "quiesce", "save", "load", "thaw"] as const) {
      const { budgetMs } = driver[name];
      promise(budgetMs > 0 && budgetMs <= budgetMaxMs, `${name} has a budget of ${budgetMs} ms`);
    }
  },

  "freeze ends, and undone it leaves the device at work": undone("freeze"),
  "quiesce ends, and undone it leaves the device at work": undone("quiesce"),
  "save ends, and undone it leaves the device at work": undone("save"),

  "freeze and quiesce let nothing happen": (rig) => {
    rig.subject.exercise();
    rig.stop();
    standsStill(rig);
    rig.start();
    rig.verify("that stood still");
  },

  "thaw sets a device going that was merely stopped": (rig) => {
    rig.subject.exercise();
    rig.stop();
    rig.start();
    rig.verify("that was stopped and set going");
    rig.stop();
    rig.start();
    rig.reset();
    rig.use("that was stopped twice");
  },

  "thaw can be undone": (rig) => {
    rig.subject.exercise();
    rig.stop();
    rig.phase("thaw");
    rig.undo("thaw");
    rig.start();
    rig.verify("whose thaw was undone");
  },

  "any phase can be cut off and undone": (rig) => {
    rig.subject.exercise();
    for (const turns of cuts) {
      for (const phase of leaving) back(rig, phase, () => rig.cut(phase, turns));
    }
    rig.stop();
    for (const turns of cuts) {
      rig.cut("thaw", turns);
      rig.undo("thaw");
    }
    rig.start();
    rig.verify("whose phases were cut off");
  },

  "a reset in any phase leaves a clean device that can be migrated": (rig) => {
    const states: ReadonlyArray<ReadonlyArray<keyof Phases>> = [
      ["freeze"],
      ["freeze", "quiesce"],
      ["freeze", "quiesce", "save"],
      ["freeze", "quiesce", "thaw"],
    ];
    for (const phases of states) {
      rig.subject.exercise();
      for (const phase of phases) rig.phase(phase);
      rig.reset();
      rig.use(`that was reset after ${phases.at(-1)}`);
      rig.reset();
    }
    rig.subject.exercise();
    rig.stop();
    standsStill(rig);
    rig.phase("save");
    promise(rig.rest().length > 0, "nothing is saved after a reset");
    rig.endSave();
    rig.start();
    rig.verify("that was saved after a reset");
  },

  "the guest's plane is not touched": (rig) => {
    const { guest, control } = rig;
    rig.subject.exercise();
    const before = [guest.changes, guest.looks];
    rig.save();
    rig.start();
    const touched = guest !== control && [guest.changes, guest.looks].join() !== before.join();
    promise(!touched, "the driver reaches the device by the guest's plane");
  },
};
