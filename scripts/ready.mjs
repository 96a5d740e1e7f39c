// Makes a fresh checkout usable: installs what package-lock.json names when it is not there yet,
// and
// (with the argument "build") compiles src/ to dist/ when a source is newer than the last build.
// Plain JavaScript with nothing but Node, because it runs before anything is installed.
import { spawnSync } from "node:child_process";
import {
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const at = (...parts) => join(root, ...parts);

function run(what, command, args) {
  const done = spawnSync(command, args, { cwd: root, stdio: ["ignore", "inherit", "inherit"] });
  if (done.status !== 0) {
    console.error(`vfio-ferry: ${what} failed (${command} ${args.join(" ")}).`);
    process.exit(1);
  }
}

/** What was installed is what the stamp beside it says: the lock file of that time. */
function install() {
  const stamp = at("node_modules", ".vfio-ferry-installed");
  const wanted = readFileSync(at("package-lock.json"), "utf8");
  if (existsSync(stamp) && readFileSync(stamp, "utf8") === wanted) return;
  console.error("vfio-ferry: installing the packages that package-lock.json names ...");
  run("npm ci", "npm", ["ci", "--no-audit", "--no-fund", "--loglevel=error"]);
  writeFileSync(stamp, wanted);
}

function newest(folder) {
  let latest = 0;
  for (const entry of readdirSync(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    latest = Math.max(latest, entry.isDirectory() ? newest(path) : statSync(path).mtimeMs);
  }
  return Math.max(latest, statSync(folder).mtimeMs);
}

function build() {
  const stamp = at("dist", ".built");
  const sources = Math.max(newest(at("src")), statSync(at("tsconfig.build.json")).mtimeMs);
  if (existsSync(stamp) && statSync(stamp).mtimeMs > sources) return;
  rmSync(at("dist"), { recursive: true, force: true });
  run("the build", process.execPath, [
    at("node_modules/typescript/bin/tsc"),
    "-p",
    "tsconfig.build.json",
  ]);
  writeFileSync(stamp, "");
}

/**
 * Examples that are packages of their own find us under our name, as they would when installed. Not
 * in our own node_modules, where npm removes what the lock file does not name.
 */
function linkSelf() {
  const { name } = JSON.parse(readFileSync(at("package.json"), "utf8"));
  mkdirSync(at("examples", "node_modules"), { recursive: true });
  if (existsSync(at("examples", "node_modules", name))) return;
  symlinkSync(join("..", ".."), at("examples", "node_modules", name));
}

install();
linkSelf();
if (process.argv[2] === "build") build();
