import { Command } from "commander";
import { ownVersion } from "../host/version.ts";
import { addConform } from "./conform.ts";
import { addDemo } from "./demo.ts";
import { addMigrate } from "./migrate.ts";
import { addPki } from "./pki.ts";
import { addProbe } from "./probe.ts";
import { addRead } from "./read.ts";
import { addRelay } from "./relay.ts";
import { addServe } from "./serve.ts";
import { addState } from "./state.ts";
import { addSwap } from "./swap.ts";
import { addTrace } from "./trace.ts";
import { addUpgrade } from "./upgrade.ts";
import { addVm } from "./vm.ts";
import { addWorkload } from "./workload.ts";
import { addWrite } from "./write.ts";

const exitCodes = `
Exit codes: 0 it is done; 1 what was asked for failed; 2 the command line makes no sense.`;

/** The command line: one verb a file. It throws where it ends early, so that `main` says why. */
export function createProgram(): Command {
  const program = new Command("ferry")
    .description("PCI devices served from user space over vfio-user, built to be live-migrated")
    .version(ownVersion)
    .exitOverride()
    .showHelpAfterError("(see ferry --help)")
    .addHelpText("after", exitCodes);
  for (const add of [
    addServe,
    addUpgrade,
    addProbe,
    addRead,
    addWrite,
    addTrace,
    addConform,
    addDemo,
    addWorkload,
    addState,
    addPki,
    addMigrate,
    addSwap,
    addRelay,
    addVm,
  ])
    add(program);
  return program;
}
