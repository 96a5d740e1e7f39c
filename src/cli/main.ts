#!/usr/bin/env node
import { report } from "./output.ts";
import { createProgram } from "./program.ts";

try {
  await createProgram().parseAsync();
} catch (thrown) {
  process.exitCode = report(thrown, process.argv.includes("--json"));
}
