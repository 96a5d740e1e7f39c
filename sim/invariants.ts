/** What holds after every step. */
import { decisionsOf } from "./disk.ts";
import type { World } from "./world.ts";

interface Rule {
  readonly rule: string;
  /** How it does not hold; null while it does. */
  readonly broken: (world: World) => string | null;
}

/** Hosts whose device acts in the guest's name: it runs, is reachable, has the guest's state. */
function acting({ hosts, guest }: World): string[] {
  if (guest === null) return [];
  return hosts
    .filter(({ alive, machine }) => alive && machine.actsFor(guest.mark))
    .map(({ name }) => name);
}

/** A VMM gives up after five seconds. */
const waitMsMax = 5000;

/** Is it out who has the device? Then the source stands still until it knows. */
const isOut = ({ owner, trip }: World): boolean =>
  trip !== null &&
  (owner.host !== trip.from || decisionsOf(trip.from.disk, trip.token).includes("deciding"));

export const stepRules: readonly Rule[] = [
  {
    rule: "never two owners",
    broken: (world) => {
      const names = acting(world);
      return names.length > 1 ? `${names.join(" and ")} both act for the guest` : null;
    },
  },
  {
    rule: "who acts is who has it",
    broken: (world) => {
      const { name } = world.owner.host;
      const other = acting(world).find((each) => each !== name);
      return other === undefined ? null : `${other} acts, and the device is ${name}'s`;
    },
  },
  {
    rule: "no vCPU waits for long",
    broken: (world) => {
      const { guest } = world;
      if (guest === null || !guest.vmm.open || isOut(world)) return null;
      const ms = guest.vmm.waitsMs;
      return ms > waitMsMax ? `an access has waited for ${ms} ms` : null;
    },
  },
];
