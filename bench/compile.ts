import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { OperatorError } from "./operator-error.ts";

const sourceFolder = import.meta.dirname;
const targetFolder = join(sourceFolder, "..", ".cache", "bench");

/** The C programs of this folder and the files that each is made of. */
const programs = {
  vubench: ["vubench.c", "connection.c", "measure.c", "operations.c", "dma.c", "migration.c"],
  yardstick: ["yardstick.c"],
} as const;

export type Program = keyof typeof programs;

function newestSourceMs(): number {
  const sources = readdirSync(sourceFolder).filter((name) => /\.[ch]$/.test(name));
  return Math.max(...sources.map((name) => statSync(join(sourceFolder, name)).mtimeMs));
}

/**
 * Compiles a program unless it is newer than all sources, and returns its path.
 *
 * The compiler is $CC, or gcc.
 *
 * @throws OperatorError when there is no compiler or it refuses the source
 */
export function compile(program: Program): string {
  const target = join(targetFolder, program);
  const built = statSync(target, { throwIfNoEntry: false });
  if (built !== undefined && built.mtimeMs > newestSourceMs()) return target;
  mkdirSync(targetFolder, { recursive: true });
  const compiler = process.env["CC"] ?? "gcc";
  const flags = ["-O2", "-Wall", "-Wextra", "-o", target];
  const run = spawnSync(compiler, [...flags, ...programs[program]], {
    cwd: sourceFolder,
    encoding: "utf8",
  });
  if (run.error !== undefined) {
    throw new OperatorError(
      `The measuring client is written in C and "${compiler}" cannot be started: ` +
        "install gcc, or name another compiler in CC, and run this again.",
    );
  }
  if (run.status !== 0) {
    throw new OperatorError(`${compiler} refuses bench/${program}.c:\n${run.stderr}`);
  }
  return target;
}
