#!/usr/bin/env node
import { report } from "./output.ts";
import { createProgram } from "./program.ts";

try {
  const program = await createProgram(process.argv.slice(2));
  await program.parseAsync();
} catch (thrown) {
  process.exitCode = report(thrown, process.argv.includes("--json"));
}
