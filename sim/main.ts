/**
 * `npm run sim -- SEED` runs one seed and prints what happened; `npm run sim -- --from 1 --count 9`
 * runs many and prints those that fail; `--device NAME` moves this one instead of one after the
 * other, `--mutation NAME` puts a bug in first.
 */
import { parseArgs } from "node:util";
import { kinds } from "./kinds.ts";
import { mutations } from "./mutations/table.ts";
import { runSeed } from "./run.ts";
import type { Setting } from "./world.ts";

/** The one of this name, if one is asked for. */
function named<T extends { readonly name: string }>(
  what: string,
  all: readonly T[],
  name: string | undefined,
): T | undefined {
  const found = all.find((each) => each.name === name);
  if (name === undefined || found !== undefined) return found;
  const known = all.map((each) => each.name).join(", ");
  console.error(`sim: there is no ${what} ${name}; there are ${known}.`);
  return process.exit(1);
}

type Choice = Omit<Setting, "seed">;

/** A seed in full; true when everything held. */
async function tell(seed: number, choice: Choice): Promise<boolean> {
  const { lines, violation, steps } = await runSeed(seed, choice);
  console.log(lines.join("\n"));
  console.log(
    `seed ${seed}: ${violation === null ? "everything held" : "failed"}, ${steps} steps.`,
  );
  return violation === null;
}

/** Many seeds, and of each that fails how; true when none does. */
async function tellMany(from: number, count: number, choice: Choice): Promise<boolean> {
  const begunMs = performance.now();
  let failed = 0;
  let steps = 0;
  for (let seed = from; seed < from + count; seed++) {
    const { violation, steps: taken } = await runSeed(seed, choice);
    steps += taken;
    if (violation === null) continue;
    failed += 1;
    console.log(`seed ${seed}: ${violation.rule}: ${violation.text}`);
  }
  const seconds = ((performance.now() - begunMs) / 1000).toFixed(1);
  console.log(`${count} seeds from ${from}: ${failed} failed, ${steps} steps, ${seconds} s.`);
  return failed === 0;
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    from: { type: "string", default: "1" },
    count: { type: "string", default: "1000" },
    device: { type: "string" },
    mutation: { type: "string" },
  },
});
const choice: Choice = {
  kind: named("device", kinds, values.device),
  mutation: named("mutation", mutations, values.mutation) ?? null,
};
const [seed] = positionals;
const held =
  seed === undefined
    ? await tellMany(Number(values.from), Number(values.count), choice)
    : await tell(Number(seed), choice);
process.exitCode = held ? 0 : 1;
