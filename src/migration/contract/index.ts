/**
 * What every migration driver has to do, as cases for any test runner:
 *
 *     for (const { name, run } of driverContract(make)) test(name, run);
 */
import { identityCases } from "./identity-cases.ts";
import { phaseCases } from "./phase-cases.ts";
import { refusalCases } from "./refusal-cases.ts";
import { limitsOf, Rig } from "./rig.ts";
import { streamCases } from "./stream-cases.ts";
import type { ContractCase, ContractOptions, ContractSubject } from "./subject.ts";

export {
  ContractBreach,
  type ContractCase,
  type ContractOptions,
  type ContractSubject,
} from "./subject.ts";

type Play = (rig: Rig, fresh: () => Rig) => void;

/** All cases of one driver. `make` gives a device fresh from power-on each time it is asked. */
export function driverContract(
  make: () => ContractSubject,
  options: ContractOptions = {},
): ContractCase[] {
  const limits = limitsOf(options);
  const all: Record<string, Play> = {
    ...identityCases,
    ...phaseCases,
    ...streamCases,
    ...refusalCases,
  };
  return Object.entries(all).map(([name, play]) => ({
    name,
    run: () => {
      const made: ContractSubject[] = [];
      const fresh = (): Rig => {
        const subject = make();
        made.push(subject);
        return new Rig(subject, limits);
      };
      try {
        play(fresh(), fresh);
      } finally {
        for (const subject of made) subject.close?.();
      }
    },
  }));
}
