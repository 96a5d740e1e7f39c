// What takes too long for every change: migrations in simulation by ten thousands, and between
// real processes by hundreds, and swaps under one load: `npm run soak`, or
// `npm run soak -- --seed 7 --sim 100 --faults 9 --swaps 20`.
// The table at its end is for SPECIFICATION.md; what failed is printed above it, with its seed.
import { spawn } from "node:child_process";
import { cpus, release } from "node:os";
import { dirname } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const { values } = parseArgs({
  options: {
    seed: { type: "string", default: "1" },
    sim: { type: "string", default: "10000" },
    faults: { type: "string", default: "200" },
    swaps: { type: "string", default: "100" },
    "at-once": { type: "string", default: "3" },
    device: { type: "string" },
  },
});

/** Simulations take turns with the devices unless one is named. */
const device = values.device === undefined ? [] : ["--device", values.device];
const parts = [
  {
    what: "migrations in simulation, with faults",
    count: values.sim,
    program: ["sim/main.ts", "--from", values.seed, "--count", values.sim, ...device],
  },
  {
    what: "migrations between real processes, with one fault each",
    count: values.faults,
    program: [
      ...["test/migration/processes/run.ts", "--seed", values.seed],
      ...["--count", values.faults, "--at-once", values["at-once"]],
    ],
  },
  {
    what: "swaps of a device under one load, between two processes and within one",
    count: values.swaps,
    program: ["node_modules/vitest/vitest.mjs", "run", "test/host/swap.test.ts"],
    environment: { FERRY_SWAPS: values.swaps },
  },
];

/** Runs a program, shows what it says, and gives back its last line. */
function run(program, environment) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--import", "tsx", ...program], {
      cwd: root,
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "inherit"],
    });
    let last = "";
    child.stdout.setEncoding("utf8").on("data", (text) => {
      process.stdout.write(text);
      last = (last + text).trimEnd().split("\n").at(-1) ?? "";
    });
    child.on("close", (code) => resolve({ code, last }));
  });
}

const rows = [];
for (const { what, count, program, environment } of parts.filter((part) => part.count !== "0")) {
  const startMs = performance.now();
  const { code, last } = await run(program, environment);
  const minutes = ((performance.now() - startMs) / 60_000).toFixed(1);
  const failed = /\b(\d+) failed/.exec(last)?.[1] ?? (code === 0 ? "0" : `ended with ${code}`);
  rows.push(`| ${what} | ${count} | ${failed} | ${minutes} min |`);
  if (code !== 0) process.exitCode = 1;
}
const machine = `${cpus().length} × ${cpus()[0]?.model ?? "?"}, Linux ${release()}`;
const date = new Date().toISOString().slice(0, 10);
console.log(`\n${date}, ${machine}, Node ${process.version}, seed ${values.seed}:\n`);
console.log("| what | how many | failed | took |\n|---|---|---|---|");
console.log(rows.join("\n"));
