import type { Command } from "commander";
import { verb } from "./arguments.ts";
export function addDemo(program: Command): void {
  verb(program, "demo", "show what it does, in a second", ["demo"]);
}
