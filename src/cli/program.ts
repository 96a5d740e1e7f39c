import { Command } from "commander";
import { compileAhead } from "../host/compiling.ts";
import { ownVersion } from "../host/version.ts";
import { helpOutput } from "./output.ts";

const exitCodes = `
Exit codes: 0 it is done; 1 what was asked for failed; 2 the command line makes no sense.`;

type AddVerb = (program: Command) => void;

/** The verbs, in the order in which they are shown, one a file. */
const verbs: Readonly<Record<string, () => Promise<AddVerb>>> = {
  serve: async () => (await import("./serve.ts")).addServe,
  upgrade: async () => (await import("./upgrade.ts")).addUpgrade,
  probe: async () => (await import("./probe.ts")).addProbe,
  read: async () => (await import("./read.ts")).addRead,
  write: async () => (await import("./write.ts")).addWrite,
  trace: async () => (await import("./trace.ts")).addTrace,
  conform: async () => (await import("./conform.ts")).addConform,
  demo: async () => (await import("./demo.ts")).addDemo,
  workload: async () => (await import("./workload.ts")).addWorkload,
  state: async () => (await import("./state.ts")).addState,
  pki: async () => (await import("./pki.ts")).addPki,
  migrate: async () => (await import("./migrate.ts")).addMigrate,
  swap: async () => (await import("./swap.ts")).addSwap,
  relay: async () => (await import("./relay.ts")).addRelay,
  vm: async () => (await import("./vm.ts")).addVm,
};

/** Those in which a guest waits for what has not been done before. */
const urgent: readonly string[] = ["serve", "relay", "vm"];

/**
 * The command line that reads `args`. When they begin with a verb the others are left out: to load
 * all of them takes longer than to do what most do. It throws where it ends early, so that `main`
 * says why.
 */
export async function createProgram(args: readonly string[] = []): Promise<Command> {
  const program = new Command("ferry")
    .description("PCI devices served from user space over vfio-user, built to be live-migrated")
    .version(ownVersion)
    .configureOutput(helpOutput)
    .exitOverride()
    .showHelpAfterError("(see ferry --help)")
    .addHelpText("after", exitCodes);
  if (urgent.some((verb) => verb === args[0])) compileAhead();
  const named = Object.entries(verbs).filter(([verb]) => verb === args[0]);
  const shown = named.length > 0 ? named : Object.entries(verbs);
  for (const [, load] of shown) (await load())(program);
  return program;
}
