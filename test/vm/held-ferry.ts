/**
 * `ferry vm migrate` that says before which phase it stands, as a line `{"before":PHASE}`, and goes
 * on when it reads a line; when its input has ended it does not stand any more.
 */
import { createInterface } from "node:readline";
import { Command } from "commander";
import { printJson, report } from "../../src/cli/output.ts";
import { addVm } from "../../src/cli/vm.ts";

const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
let isHeld = true;

const before = async (phase: string): Promise<void> => {
  if (!isHeld) return;
  printJson({ before: phase });
  isHeld = (await lines.next()).done !== true;
};

const program = new Command("ferry").exitOverride();
addVm(program, { before });
try {
  await program.parseAsync();
} catch (thrown) {
  process.exitCode = report(thrown, true);
}
process.stdin.destroy();
