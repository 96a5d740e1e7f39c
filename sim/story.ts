import { type Decision, recover } from "../src/migration/hosts/journal.ts";
import type { Host } from "./host.ts";
import { Trip } from "./trip.ts";
import type { World } from "./world.ts";

/** Time in which all that is open must be decided once nothing is broken any more. */
const settleMs = 15 * 60_000;
const finishMs = 10 * 60_000;
/** In which whoever has written down that the device is another's has cleaned its own. */
const tidyMs = 5000;
const markOf = (seed: number): number => ((seed ^ 0x9e37_79b9) | 1) >>> 0;

/** A run from its beginning to its end. */
export async function story(world: World): Promise<void> {
  const { hosts, plan, clock, random } = world;
  const guest = world.kind.newGuest(world, world.owner.host, markOf(world.seed));
  world.guest = guest;
  world.vmms.push(guest.vmm);
  let lives = true;
  const life = guest.live().finally(() => {
    lives = false;
  });
  world.watch("the guest", life);
  await clock.sleep(50);
  for (const leg of plan.legs) {
    await clock.sleep(random.below(400));
    if (guest.death !== null || !world.owner.process.alive) break;
    world.trip = new Trip(world, guest, leg);
    await world.trip.run();
  }
  if (!world.owner.process.alive) guest.die("its host has died");
  world.calm();
  if (!(await world.until(() => openTokens(world).length === 0, settleMs, 1000))) {
    world.fail("every run ends", `it is open who has the device: ${openTokens(world).join()}`);
  }
  agree(world);
  guest.finish();
  await world.until(() => !lives || !world.owner.process.alive, finishMs, 100);
  if (!world.owner.process.alive) guest.die("its host has died");
  if (lives && guest.death === null) {
    world.fail("nothing lost", "the guest waits for its device for ever");
  }
  const unclean = (): Host[] =>
    hosts.filter((host) => host !== world.owner.host && host.machine.remains.length > 0);
  await world.until(() => unclean().length === 0, tidyMs);
  for (const { name, machine } of unclean()) {
    world.fail("who has it not is clean", `${name}: ${machine.remains.join(", ")}`);
  }
}

/** What some host has not decided. A target that has ended never has what it expected. */
function openTokens({ hosts }: World): string[] {
  return hosts.flatMap(({ disk, name, busy }) =>
    recover(disk.records)
      .filter(({ decision }) => decision === "deciding" || (decision === "expected" && busy))
      .map(({ decision }) => `${name} ${decision}`),
  );
}

/** What the two sides of a migration have come to: the source says `gone` if the target has it. */
function agree(world: World): void {
  const fates = world.hosts.flatMap(({ disk }) => recover(disk.records));
  const said = (token: string, side: string): Decision | null =>
    fates.find((fate) => fate.record.token === token && fate.side === side)?.decision ?? null;
  for (const token of new Set(fates.map(({ record }) => record.token))) {
    const [source, target] = [said(token, "source"), said(token, "target")];
    if ((source === "gone") === (target === "own")) continue;
    world.fail("both journals agree", `the source says ${source}, and the target says ${target}`);
  }
}
