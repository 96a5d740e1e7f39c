// What takes too long for every change: migrations in simulation by ten thousands, and between
// real processes by hundreds, swaps under one load, and VMs on their way by the hour (as root, on
// Debian): `npm run soak`, or `npm run soak -- --seed 7 --sim 100 --faults 9 --swaps 20
// --vm-faults 9 --vm-sudden 9 --vm-hops 5 --vm-storms 2 --vm-swaps 5 --vm-upgrades 2`.
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
    "vm-faults": { type: "string", default: "all" },
    "vm-sudden": { type: "string", default: "all" },
    "vm-hops": { type: "string", default: "20" },
    "vm-storms": { type: "string", default: "10" },
    "vm-swaps": { type: "string", default: "100" },
    "vm-upgrades": { type: "string", default: "20" },
    "at-once": { type: "string", default: "3" },
    device: { type: "string" },
  },
});

/** Simulations take turns with the devices unless one is named. */
const device = values.device === undefined ? [] : ["--device", values.device];
/** Real VMs: one file of their tests, or some of it. */
const vmTest = (name, ...only) => [
  ...["node_modules/vitest/vitest.mjs", "run", "--config", "test/vm/vitest.config.ts"],
  ...[`test/vm/${name}.vm.test.ts`, ...only],
];
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
  {
    what: "VMs on their way that lose a server or a QEMU, killed or stopped before each phase",
    count: values["vm-faults"],
    program: vmTest("vm-held-faults", "--reporter", "verbose"),
    environment: { FERRY_VM_FAULTS: values["vm-faults"] },
  },
  {
    what: "VMs of one device, and as many of two, that lose something in the middle of a phase",
    count: values["vm-sudden"],
    program: vmTest("vm-sudden-faults", "--reporter", "verbose"),
    environment: { FERRY_VM_SUDDEN: values["vm-sudden"] },
  },
  {
    what: "hops of an arm64 VM with three accelerators, and as many of an x86 VM with `hello`",
    count: values["vm-hops"],
    program: vmTest("vm-migrate", "-t", "SEC2, ZIP and HPRE|x86 guest, msix, root port"),
    environment: { FERRY_HOPS: values["vm-hops"] },
  },
  {
    what: "moves of a VM in each of eight storms that its guest makes",
    count: values["vm-storms"],
    program: vmTest("vm-storm", "--reporter", "verbose"),
    environment: { FERRY_STORM_HOPS: values["vm-storms"] },
  },
  {
    what: "swaps of the device of each of three VMs at work",
    count: values["vm-swaps"],
    program: vmTest("swap"),
    environment: { FERRY_SWAPS: values["vm-swaps"] },
  },
  {
    what: "upgrades of the server of each of two VMs at work, and seven that fail",
    count: values["vm-upgrades"],
    program: vmTest("upgrade"),
    environment: { FERRY_UPGRADES: values["vm-upgrades"] },
  },
];

/** Runs a program, shows what it says, and gives back its last line. */
function run(program, environment) {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--import", "tsx", ...program], {
      cwd: root,
      env: { ...process.env, FUZZ_SEED: values.seed, ...environment },
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
