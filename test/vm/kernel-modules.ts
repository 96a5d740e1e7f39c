/** Modules of the kernel's own package, with all that they depend on, in the order to load them. */
import { readdirSync, readFileSync } from "node:fs";
import { cp, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { type CachedStep, cached } from "./cache.ts";
import { commandIn } from "./elf-tree.ts";
import { type GuestRecipe, variantOf } from "./recipe.ts";
import { PrepareError, run } from "./run.ts";

/** Debian compresses its modules. */
const suffix = ".ko.xz";

/** The step's folder holds the modules and `load-order`, their names line by line. */
export function kernelModulesStep(
  recipe: GuestRecipe,
  release: string,
  kernel: CachedStep,
  tools: CachedStep,
): Promise<CachedStep> {
  const names = recipe.kernelModules;
  return cached({
    name: "kernel-modules",
    variant: variantOf(recipe),
    inputs: { names, kernel: kernel.key },
    progress: `collecting ${names.length} modules of the kernel's package`,
    build: async (folder) => {
      const packaged = packagedModules(join(kernel.folder, "usr/lib/modules", release));
      const order: string[] = [];
      const visit = async (name: string): Promise<void> => {
        if (order.includes(name)) return;
        const path = packaged.get(comparable(name));
        if (path === undefined) throw new PrepareError(`Linux ${release} has no module ${name}.`);
        const copy = join(folder, basename(path));
        await cp(path, copy);
        const [xz, ...args] = commandIn(tools.folder, "usr/bin/xz");
        await run(xz, [...args, "-d", copy], { what: `Unpacking ${basename(path)}` });
        for (const needed of dependencies(copy.slice(0, -".xz".length))) await visit(needed);
        order.push(name);
      };
      for (const name of names) await visit(name);
      await writeFile(join(folder, "load-order"), `${order.join("\n")}\n`);
    },
  });
}

/** The kernel takes "-" and "_" in a module's name for the same. */
const comparable = (name: string): string => name.replaceAll("-", "_");

function packagedModules(folder: string): Map<string, string> {
  const paths = readdirSync(folder, { recursive: true, encoding: "utf8" });
  const modules = paths.filter((path) => path.endsWith(suffix));
  return new Map(
    modules.map((path) => [comparable(basename(path, suffix)), join(folder, path)] as const),
  );
}

/** The names in the "depends" of a module's .modinfo section. */
function dependencies(path: string): string[] {
  const match = /\0depends=([^\0]*)\0/.exec(readFileSync(path, "latin1"));
  return match?.[1]?.split(",").filter((name) => name !== "") ?? [];
}
