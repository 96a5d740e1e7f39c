/** What a driver's streams promise, from one device to another. */
import { driverSections, sectionBytesMax } from "../../spec/ferry-stream.ts";
import { MigrationFlags } from "../../spec/vfio.ts";
import { viewOf } from "../../sys/libc.ts";
import type { Section } from "../driver.ts";
import type { Rig } from "./rig.ts";
import { promise } from "./subject.ts";

/** Rounds of a pre-copy before the device is stopped. */
const rounds = 3;
const kindEnd = 0x10000;

const exercised = (rig: Rig): Section[] => {
  rig.subject.exercise();
  return rig.save();
};

/** A pre-copy to its end and the rest behind it; the device stands still then. */
function precopied(rig: Rig): Section[] {
  const { driver } = rig;
  promise(rig.call("track", () => driver.track(true)) === 0, "track(true) fails");
  const sections: Section[] = [];
  for (let round = 0; round < rounds; round++) {
    sections.push(...rig.rest());
    rig.turn();
  }
  rig.stop();
  rig.phase("save");
  sections.push(...rig.rest());
  rig.endSave();
  return sections;
}

const copiesFirst = ({ driver }: Rig): boolean =>
  (driver.flags & MigrationFlags.mask.preCopy) !== 0;

function checkSection({ kind, version, bytes, address }: Section): void {
  const what = `section kind 0x${kind.toString(16)}`;
  promise(kind >= driverSections && kind < kindEnd, `${what} is not a driver's`);
  promise(Number.isInteger(version) && version >= 0 && version < kindEnd, `${what}: its version`);
  promise(bytes.length <= sectionBytesMax, `${what} has ${bytes.length} bytes`);
  if (address === 0) return;
  const lent = new Uint8Array(viewOf(address, bytes.length));
  promise(Buffer.compare(lent, bytes) === 0, `${what}: its bytes do not lie at its address`);
}

/** Each takes a source, and a way to have fresh targets. */
export const streamCases: Readonly<Record<string, (rig: Rig, fresh: () => Rig) => void>> = {
  "a state arrives, and both devices behave the same": (source, fresh) => {
    const sections = exercised(source);
    const target = fresh();
    target.resume(sections, source.subject);
    target.verify("that was loaded");
    source.start();
    source.verify("that was saved");
  },

  "a state is loaded over another one": (source, fresh) => {
    const sections = exercised(source);
    const target = fresh();
    target.subject.exercise();
    target.resume(sections, source.subject);
    target.verify("that was something else before");
  },

  "a state is saved twice, and loaded of a loaded one": (source, fresh) => {
    source.subject.exercise();
    source.save();
    source.phase("save");
    const again = source.rest();
    source.endSave();
    const middle = fresh();
    middle.stop();
    promise(middle.receive(again) === null, "what was saved twice is refused");
    middle.phase("load");
    middle.call("discard", () => middle.driver.discard());
    middle.phase("save");
    const handedOn = middle.rest();
    middle.endSave();
    const target = fresh();
    target.resume(handedOn, source.subject);
    target.verify("that was loaded of a loaded one");
  },

  "a pre-copy and what is left arrive": (source, fresh) => {
    if (!copiesFirst(source)) return;
    source.subject.exercise();
    const sections = precopied(source);
    const target = fresh();
    target.resume(sections, source.subject);
    target.verify("that was copied before it stopped");
    source.start();
    source.verify("that was copied before it stopped");
  },

  "a pre-copy that is given up does no harm": (source, fresh) => {
    if (!copiesFirst(source)) return;
    const { driver } = source;
    source.call("track", () => driver.track(true));
    source.subject.exercise();
    source.call("next", () => driver.next());
    source.call("track", () => driver.track(false));
    source.call("discard", () => driver.discard());
    const sections = precopied(source);
    const target = fresh();
    target.resume(sections, source.subject);
    target.verify("after a pre-copy that was given up");
  },

  "next ends, and then has nothing": (source) => {
    promise(source.rest().length === 0, "next gives sections out before anything was saved");
    source.subject.exercise();
    source.stop();
    source.phase("save");
    promise(source.rest().length > 0, "next gives nothing out after save");
    promise(source.call("next", () => source.driver.next()) === null, "next goes on after null");
  },

  "sections are the driver's own, within the limit, and lie where they say": (source) => {
    source.subject.exercise();
    source.stop();
    source.phase("save");
    for (let count = 0; count < source.limits.sectionsMax; count++) {
      const next = source.call("next", () => source.driver.next());
      if (next === null) break;
      checkSection(next);
    }
  },
};
