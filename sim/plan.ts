/** What is going to happen in a run, as far as it can be said beforehand. */
import type { Random } from "../test/fuzz/random.ts";
import { effects } from "./effects.ts";
import type { Fault } from "./faults.ts";
import { decisiveMoments, moments } from "./faults.ts";
import { type Control, controls, type Kind } from "./kind.ts";

/** When the vCPUs are stopped, if at all. */
export type Stopping = "before" | "at the pause" | "never";

/** One migration, from where the guest is. */
export interface Leg {
  /** How many hosts further. */
  readonly to: number;
  readonly stopping: Stopping;
  /** Another pause, before the transfer. */
  readonly pauses: boolean;
  /** The target's VMM is there beforehand; otherwise the device waits for it. */
  readonly vmmWaits: boolean;
  readonly precopy: boolean;
  /** Its token is tried once more afterwards. */
  readonly replays: boolean;
}

export interface Plan {
  readonly legs: readonly Leg[];
  /** Devices map the guest's memory; otherwise they ask for it by messages. */
  readonly sharedMemory: boolean;
  readonly faults: readonly Fault[];
  /** How each host reaches the device that it has. */
  readonly controls: readonly Control[];
}

export const hostNames = ["alice", "bob", "carol"] as const;
const legsMax = 3;
const faultsMax = 3;

export function makePlan(random: Random, kind: Kind): Plan {
  const legs = Array.from({ length: random.between(1, legsMax) }, () => ({
    to: random.between(1, 2),
    stopping: random.pick<Stopping>(["before", "at the pause", "never", "never"]),
    pauses: random.oneIn(6),
    vmmWaits: !random.oneIn(3),
    precopy: random.oneIn(2),
    replays: random.oneIn(4),
  }));
  const faults = Array.from({ length: random.below(faultsMax + 1) }, () => faultOf(random, kind));
  const one = random.pick(controls);
  const mixed = random.oneIn(2);
  const shapes = hostNames.map(() => (mixed ? random.pick(controls) : one));
  return { legs, sharedMemory: random.oneIn(2), faults, controls: shapes };
}

function faultOf(random: Random, kind: Kind): Fault {
  const effect = random.pick(effects);
  const when =
    effect.when ??
    (random.oneIn(2) ? decisiveMoments : [...moments, ...kind.acts.map((act) => `guest ${act}`)]);
  return { effect, moment: random.pick(when), after: random.oneIn(3) ? random.below(3) : 0 };
}
