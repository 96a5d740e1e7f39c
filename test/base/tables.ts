/** What the tests of tables that become code have in common. */
import { readdirSync } from "node:fs";
import { vi } from "vitest";

const specification = new URL("../../src/spec/", import.meta.url);

/** Everything that a document of src/spec exports, by its name there. */
export async function everyExport(): Promise<Array<[name: string, value: unknown]>> {
  const files = readdirSync(specification).filter((name) => name.endsWith(".ts"));
  const modules = await Promise.all(files.map((name) => import(new URL(name, specification).href)));
  return modules.flatMap((module) => Object.entries(module));
}

/** Switches the generation of code off, until globals are no longer stubbed. */
export function refuseCodeGeneration(): void {
  const refuses = class {
    constructor() {
      throw new EvalError("Code generation from strings disallowed for this context");
    }
  };
  vi.stubGlobal("Function", refuses);
}
