/**
 * Migrations in simulation (sim/): the shipped modules survive every seed, and each bug that is put
 * in on purpose is found. Seeds begin at `FERRY_SIM_FROM`, and there are `FERRY_SIM_COUNT` of them.
 */
import { spawn } from "node:child_process";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { mutations } from "../../sim/mutations/table.ts";
import { runSeed } from "../../sim/run.ts";

const { FERRY_SIM_FROM = "1", FERRY_SIM_COUNT = "1000" } = process.env;
const from = Number(FERRY_SIM_FROM);
const count = Number(FERRY_SIM_COUNT);
/** Seeds in which a bug must show. */
const seedsMax = 1000;
const processes = 2;
const patienceMs = 600_000;
const root = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Runs some seeds in a process of their own; what it says, and 0 when all held. */
function run(first: number, seeds: number): Promise<{ code: number | null; said: string }> {
  const script = ["--import", "tsx", "sim/main.ts", "--from", `${first}`, "--count", `${seeds}`];
  return new Promise((resolve) => {
    const child = spawn(process.execPath, script, { cwd: root });
    let said = "";
    for (const stream of [child.stdout, child.stderr]) {
      stream.setEncoding("utf8").on("data", (text: string) => {
        said += text;
      });
    }
    child.on("close", (code) => resolve({ code, said }));
  });
}

describe("a simulated migration", () => {
  it(`keeps every rule: ${count} seeds from ${from}`, { timeout: patienceMs }, async () => {
    const each = Math.ceil(count / processes);
    const parts = Array.from({ length: processes }, (_, part) => run(from + part * each, each));
    for (const { code, said } of await Promise.all(parts)) {
      console.log(said.trimEnd());
      expect(code, `${said}npm run sim -- SEED tells the whole story`).toBe(0);
    }
  });

  it("goes the same way every time, whatever ran before", async () => {
    const [once, , again] = [await runSeed(from), await runSeed(from + 1), await runSeed(from)];
    expect(again.lines).toEqual(once.lines);
  });
});

// Whoever asks for fewer seeds has no time for these.
describe.skipIf(count < seedsMax)(`a bug that is put in is found, by seeds from ${from}:`, () => {
  it.each(mutations.map((mutation) => [mutation.what, mutation] as const))(
    "%s",
    { timeout: patienceMs },
    async (_, mutation) => {
      for (let seed = from; seed < from + seedsMax; seed++) {
        const { violation } = await runSeed(seed, { mutation });
        if (violation === null) continue;
        console.log(`${mutation.name}: seed ${seed}: ${violation.rule}: ${violation.text}`);
        return;
      }
      expect.fail(`${mutation.name}: not in ${seedsMax} seeds`);
    },
  );
});
