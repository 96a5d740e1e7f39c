/**
 * `npm run faults -- --seed 7 --count 200` tries so many rows of the table of faults, each in
 * processes of its own; `--seed 7 --row 12` tries one again. What fails is told with its row.
 */
import { parseArgs } from "node:util";
import { temporaryFolder } from "../../support/ferry.ts";
import { chooseFaults, type Fault, faultText } from "./faults.ts";
import { runFault } from "./row.ts";
import { makeCertificates } from "./scene.ts";

const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    count: { type: "string", default: "20" },
    row: { type: "string" },
    "at-once": { type: "string", default: "3" },
  },
});
const seed = Number(values.seed);
const only = values.row === undefined ? null : Number(values.row);
const chosen = [...chooseFaults(seed, only === null ? Number(values.count) : only + 1).entries()];
const left = chosen.filter(([at]) => only === null || at === only);
const count = left.length;
let failed = 0;
let missed = 0;

async function tell(at: number, fault: Fault, certificates: string): Promise<void> {
  const { ended, struck, wrong, elapsedMs } = await runFault(fault, certificates);
  const time = `${(elapsedMs / 1000).toFixed(1)} s`;
  const how = struck ? ended : `${ended}, before it`;
  console.log(`seed ${seed} row ${at}: ${faultText(fault)}: ${how}, ${time}`);
  if (!struck) missed += 1;
  if (wrong.length === 0) return;
  failed += 1;
  console.log(wrong.map((each) => `  wrong: ${each}`).join("\n"));
}

using folder = temporaryFolder();
await makeCertificates(folder.path);
await Promise.all(
  Array.from({ length: Number(values["at-once"]) }, async () => {
    for (let next = left.shift(); next !== undefined; next = left.shift()) {
      await tell(...next, folder.path);
    }
  }),
);
console.log(`${count} faults from seed ${seed}: ${failed} failed, ${missed} came too late.`);
process.exitCode = failed > 0 ? 1 : 0;
