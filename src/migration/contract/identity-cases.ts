/** What a driver says of itself and of others. */
import type { Compatibility } from "../driver.ts";
import { identityOf } from "../identity.ts";
import type { Rig } from "./rig.ts";
import { promise } from "./subject.ts";

/** Facts of one driver at most (`Compatibility`). */
const factsMax = 64;

const same = (one: unknown, other: unknown): boolean =>
  JSON.stringify(one) === JSON.stringify(other);

/** What differs from `ours` in one value each. */
function* others(ours: Compatibility): Generator<readonly [string, Compatibility]> {
  yield ["driver", { ...ours, driver: `${ours.driver}-other` }];
  yield ["vendor", { ...ours, vendor: ours.vendor ^ 1 }];
  yield ["device", { ...ours, device: ours.device ^ 1 }];
  yield ["revision", { ...ours, revision: ours.revision ^ 1 }];
  yield ["version", { ...ours, version: ours.version + 1 }];
  yield ["version", { ...ours, version: ours.oldestVersion - 1 }];
  for (const [name, value] of Object.entries(ours.facts)) {
    const changed = typeof value === "number" ? value + 1 : `${value}-other`;
    yield [name, { ...ours, facts: { ...ours.facts, [name]: changed } }];
    const { [name]: _, ...rest } = ours.facts;
    yield [name, { ...ours, facts: rest }];
  }
  yield ["a new fact", { ...ours, facts: { ...ours.facts, "a new fact": 1 } }];
}

/** Each takes a rig and the second one that it may need. */
export const identityCases: Readonly<Record<string, (rig: Rig) => void>> = {
  "kind names itself and the device that it is given": ({ subject, driver }) => {
    const { kind, planes } = subject;
    const { vendor, device } = identityOf(planes.guest);
    promise(kind.name === driver.compatibility.driver, "kind and compatibility differ in name");
    promise(
      kind.ids.some(([v, d]) => v === vendor && d === device),
      "the device is none of kind.ids",
    );
  },

  "compatibility is always the same, and touches nothing": (rig) => {
    const read = () => structuredClone(rig.driver.compatibility);
    const first = rig.quietly("compatibility", read);
    promise(same(rig.quietly("compatibility", read), first), "compatibility changes by itself");
    promise(Object.keys(first.facts).length <= factsMax, `there are more than ${factsMax} facts`);
    promise(first.oldestVersion <= first.version, "oldestVersion is above version");
    const identity = identityOf(rig.subject.planes.guest);
    promise(same(identity, pick(first)), "the identity is not the device's");
    rig.subject.exercise();
    promise(same(read(), first), "compatibility changes with what the guest does");
    rig.stop();
    promise(same(read(), first), "compatibility changes when the device stops");
  },

  "judge takes its like and refuses every difference by a sentence": (rig) => {
    const ours = rig.driver.compatibility;
    const judge = (theirs: Compatibility) => rig.quietly("judge", () => rig.driver.judge(theirs));
    promise(judge(structuredClone(ours)) === null, "judge refuses its like");
    for (const [what, theirs] of others(ours)) {
      const said = judge(theirs);
      promise(typeof said === "string" && said !== "", `judge takes another ${what}`);
    }
  },

  "sizes are numbers, and telling them touches nothing": (rig) => {
    const numbers = () => {
      const { pending, stopCopyBytes } = rig.driver;
      return [pending.initialBytes, pending.dirtyBytes, stopCopyBytes];
    };
    rig.subject.exercise();
    const all = rig.quietly("pending and stopCopyBytes", numbers);
    promise(all.every(Number.isSafeInteger), `a size is no whole number: ${all.join(", ")}`);
    promise(Math.min(...all) >= 0, `a size is negative: ${all.join(", ")}`);
  },
};

const pick = ({ vendor, device, revision }: Compatibility) => ({ vendor, device, revision });
