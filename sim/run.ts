import { story } from "./story.ts";
import { type Setting, type Violation, World } from "./world.ts";

/** How one seed went. */
export interface Result {
  readonly seed: number;
  readonly violation: Violation | null;
  readonly lines: readonly string[];
  readonly steps: number;
  readonly simulatedMs: number;
}

/** Runs one seed. The same seed gives the same lines, whatever ran before. */
export async function runSeed(seed: number, setting: Omit<Setting, "seed"> = {}): Promise<Result> {
  const restore = setting.mutation?.patch?.() ?? (() => {});
  const world = new World({ seed, ...setting });
  world.kind.ram.bytes.fill(0);
  try {
    await world.run(story(world));
  } finally {
    world.end();
    restore();
  }
  const { violation, lines, steps, clock } = world;
  return { seed, violation, lines, steps, simulatedMs: clock.now() };
}
