// Runs the test suite, or the parts of it that are named, on other major versions of Node:
// `node scripts/other-nodes.mjs 22 24`, `node scripts/other-nodes.mjs 26 test/devices`.
// The binaries come from npm as plain packages and stay in .cache/.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { arch } from "node:process";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));

function run(what, command, args, options = {}) {
  const done = spawnSync(command, args, { stdio: ["ignore", "inherit", "inherit"], ...options });
  if (done.status === 0) return;
  console.error(`vfio-ferry: ${what} failed.`);
  process.exit(1);
}

const isMajor = (argument) => /^\d+$/.test(argument);
const majors = process.argv.slice(2).filter(isMajor);
const parts = process.argv.slice(2).filter((argument) => !isMajor(argument));

for (const major of majors) {
  const home = join(root, ".cache", `node-${major}`);
  const name = `node-linux-${arch}`;
  const bin = join(home, "node_modules", name, "bin");
  if (!existsSync(join(bin, "node"))) {
    mkdirSync(home, { recursive: true });
    writeFileSync(join(home, "package.json"), '{ "private": true }\n');
    const args = ["install", "--no-audit", "--no-fund", "--loglevel=error", `${name}@${major}`];
    run(`fetching Node ${major}`, "npm", args, { cwd: home });
  }
  console.error(`vfio-ferry: the tests on Node ${major}`);
  // A simulation goes the same way on each of them.
  const env = { ...process.env, PATH: `${bin}:${process.env.PATH}`, FERRY_SIM_COUNT: "100" };
  const vitest = join(root, "node_modules", "vitest", "vitest.mjs");
  run(`the test suite on Node ${major}`, join(bin, "node"), [vitest, "run", ...parts], {
    cwd: root,
    env,
  });
}
