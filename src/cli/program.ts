import { readFileSync } from "node:fs";
import { Command } from "commander";
import { addConform } from "./conform.ts";
import { addDemo } from "./demo.ts";
import { addProbe } from "./probe.ts";
import { addRead } from "./read.ts";
import { addServe } from "./serve.ts";
import { addTrace } from "./trace.ts";
import { addWorkload } from "./workload.ts";
import { addWrite } from "./write.ts";

/** package.json lies two folders up, of the sources as of what is built from them. */
function packageVersion(): string {
  const text = readFileSync(new URL("../../package.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { version: string }).version;
}

const exitCodes = `
Exit codes: 0 it is done; 1 what was asked for failed; 2 the command line makes no sense.`;

/** The command line: one verb a file. It throws where it ends early, so that `main` says why. */
export function createProgram(): Command {
  const program = new Command("ferry")
    .description("PCI devices served from user space over vfio-user, built to be live-migrated")
    .version(packageVersion())
    .exitOverride()
    .showHelpAfterError("(see ferry --help)")
    .addHelpText("after", exitCodes);
  for (const add of [
    addServe,
    addProbe,
    addRead,
    addWrite,
    addTrace,
    addConform,
    addDemo,
    addWorkload,
  ])
    add(program);
  return program;
}
