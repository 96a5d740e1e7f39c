/** Another version of the package beside the built one, as an operator would have installed it. */
import { chmodSync, cpSync, mkdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../..", import.meta.url));

/** In a file of `dist`, what takes the place of what. */
export type Edit = readonly [file: string, from: string, to: string];

/** A program that runs a line of shell. */
export function program(folder: string, name: string, line: string): string {
  const path = join(folder, name);
  writeFileSync(path, `#!/bin/sh\n${line}\n`);
  chmodSync(path, 0o755);
  return path;
}

/** Installs version `version` in a folder; the program to run it. */
export function installVersion(folder: string, version: string, ...edits: Edit[]): string {
  const home = join(folder, version);
  mkdirSync(home);
  cpSync(join(root, "dist"), join(home, "dist"), { recursive: true });
  symlinkSync(join(root, "node_modules"), join(home, "node_modules"));
  const text = readFileSync(join(root, "package.json"), "utf8");
  writeFileSync(
    join(home, "package.json"),
    text.replace(/"version": "[^"]+"/, `"version": "${version}"`),
  );
  for (const [file, from, to] of edits) {
    const path = join(home, "dist", file);
    const before = readFileSync(path, "utf8");
    if (before.split(from).length !== 2) throw new Error(`${file} has no single "${from}"`);
    writeFileSync(path, before.replace(from, to));
  }
  const main = join(home, "dist/cli/main.js");
  return program(folder, `ferry-${version}`, `exec ${process.execPath} ${main} "$@"`);
}
