import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { cases, type Result, runSuite } from "../conform/suite.ts";
import { type ServerOptions, verb, withTimeout } from "./arguments.ts";
import { ExitCode, print, printJson } from "./output.ts";

interface ConformOptions extends ServerOptions {
  readonly only?: string;
  readonly relayed?: boolean;
}

/** The pattern of `--only`, which must match a case. */
function pattern(text: string | undefined): RegExp | null {
  if (text === undefined) return null;
  let only: RegExp;
  try {
    only = new RegExp(text);
  } catch {
    throw new FerryError("bad-argument", `--only ${text} is no regular expression.`);
  }
  if (cases.some(({ id }) => only.test(id))) return only;
  throw new FerryError("bad-argument", `--only ${text} matches no case. Leave it out to see all.`);
}

const idColumns = Math.max(...cases.map(({ id }) => id.length));
const indent = " ".repeat(6);

/** One line a case; what was expected and what came below a failure. */
function render({ case: { id, section, title }, outcome }: Result): string {
  const why = outcome.outcome === "skip" ? `: ${outcome.why}` : "";
  const line = `${outcome.outcome}  ${id.padEnd(idColumns)}  ${title}${why} [${section}]`;
  if (outcome.outcome !== "fail") return line;
  return `${line}\n${indent}expected ${outcome.expected}\n${indent}came     ${outcome.came}`;
}

function summary(results: readonly Result[]): Record<"pass" | "fail" | "skip", number> {
  const count = { pass: 0, fail: 0, skip: 0 };
  for (const { outcome } of results) count[outcome.outcome] += 1;
  return count;
}

function conform(socketPath: string, options: ConformOptions): void {
  const only = pattern(options.only);
  const timeoutMs = options.timeout === 0 ? 2 ** 31 - 1 : options.timeout;
  const results: Result[] = [];
  for (const result of runSuite(socketPath, only, timeoutMs, options.relayed)) {
    results.push(result);
    if (!options.json) print(render(result));
  }
  const count = summary(results);
  if (options.json) {
    const rows = results.map(({ case: { id, command, section, title }, outcome }) => ({
      id,
      command,
      section,
      title,
      ...outcome,
    }));
    printJson({ socket: socketPath, count, results: rows });
  } else print(`\n${count.pass} pass, ${count.fail} fail, ${count.skip} skip`);
  if (count.fail > 0) process.exitCode = ExitCode.failed;
}

/** `ferry conform`: holds any vfio-user server against the document. */
export function addConform(program: Command): void {
  const command = verb(
    program,
    "conform <socket>",
    "check a vfio-user server against the document, case by case",
    ["conform /run/hello.sock", "conform /run/hello.sock --only dma-map --json"],
  );
  withTimeout(command)
    .option("--only <pattern>", "only cases whose id matches this regular expression")
    .option("--relayed", "the server is ferry relay: files do not reach the device")
    .action(conform);
}
