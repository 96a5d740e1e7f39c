/** Compiles for the guest, in a chroot of the tools that were unpacked for it. */
import { readdirSync, readFileSync } from "node:fs";
import { cp, mkdir, rm, writeFile } from "node:fs/promises";
import { availableParallelism } from "node:os";
import { basename, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { aptRoot, unpackPackages } from "./apt.ts";
import { type CachedStep, cached, scratchFolder } from "./cache.ts";
import { commandIn } from "./elf-tree.ts";
import { type GuestRecipe, type ModuleRecipe, variantOf } from "./recipe.ts";
import { PrepareError, run } from "./run.ts";

/** Our sources of all that runs in the guest. */
export const guestFolder = fileURLToPath(new URL("guest", import.meta.url));

/** Compiles the recipe's drivers for the kernel of this release. */
export async function modulesStep(
  recipe: GuestRecipe,
  release: string,
  tools: CachedStep,
): Promise<CachedStep> {
  const sources = moduleSources(recipe);
  const kernelSource = await sourceStep(recipe, release, tools);
  return cached({
    name: "modules",
    variant: variantOf(recipe),
    inputs: { sources, build: recipe.build, tools: tools.key, kernelSource: kernelSource?.key },
    progress: `compiling the guest drivers (${recipe.modules.map((m) => m.folder).join(", ")})`,
    build: (folder) =>
      inTools(recipe, tools, async ({ outside, inside }) => {
        if (kernelSource !== undefined) await cp(kernelSource.folder, outside, { recursive: true });
        await writeTexts(outside, sources);
        const { kernelArchitecture, crossCompile } = recipe.build;
        const headers = `/usr/src/linux-headers-${release}`;
        const make = ["make", "-s", `-j${availableParallelism()}`, "-C", headers, `M=${inside}`];
        const target = [`ARCH=${kernelArchitecture}`, `CROSS_COMPILE=${crossCompile}`, "modules"];
        await runInTools(tools, [...make, ...target], "Compiling the guest drivers");
        const results = recipe.modules.flatMap((module) =>
          module.results.map((result) => join(module.folder, `${result}.ko`)),
        );
        const strip = [`${crossCompile}strip`, "--strip-debug"];
        const built = results.map((result) => join(inside, result));
        await runInTools(tools, [...strip, ...built], "Stripping the guest drivers");
        for (const result of results) {
          await cp(join(outside, result), join(folder, basename(result)));
        }
      }),
  });
}

/** Compiles the recipe's helpers into programs that need no library. */
export function helpersStep(recipe: GuestRecipe, tools: CachedStep): Promise<CachedStep> {
  const sources: Record<string, string> = {};
  for (const name of recipe.helpers) {
    sources[`${name}.c`] = readFileSync(join(guestFolder, `${name}.c`), "utf8");
  }
  return cached({
    name: "programs",
    variant: variantOf(recipe),
    inputs: { sources, build: recipe.build, tools: tools.key },
    progress: `compiling the guest's programs (${recipe.helpers.join(", ") || "none"})`,
    build: (folder) =>
      inTools(recipe, tools, async ({ outside, inside }) => {
        await writeTexts(outside, sources);
        const options = ["-O2", "-static", "-s", "-Wall", "-Wextra", "-Werror"];
        for (const name of recipe.helpers) {
          const files = ["-o", join(inside, name), join(inside, `${name}.c`)];
          const command = [recipe.build.compiler, ...options, ...files];
          await runInTools(tools, command, `Compiling the guest's program ${name}`);
          await cp(join(outside, name), join(folder, name));
        }
      }),
  });
}

/** The text of every file of ours that the drivers are compiled from, by its path. */
function moduleSources(recipe: GuestRecipe): Record<string, string> {
  const folders = recipe.modules.map(({ folder }) => folder);
  const sources: Record<string, string> = {
    Kbuild: folders.map((folder) => `obj-m += ${folder}/\n`).join(""),
  };
  for (const folder of folders) {
    for (const name of readdirSync(join(guestFolder, folder))) {
      const path = join(folder, name);
      sources[path] = readFileSync(join(guestFolder, path), "utf8");
    }
  }
  return sources;
}

/** The files of the kernel's source that the drivers are compiled from, where they belong. */
async function sourceStep(
  recipe: GuestRecipe,
  release: string,
  tools: CachedStep,
): Promise<CachedStep | undefined> {
  const modules = recipe.modules.filter(({ source }) => source !== undefined);
  if (modules.length === 0) return undefined;
  const name = sourcePackage(release);
  return cached({
    name: "source",
    variant: variantOf(recipe),
    inputs: { modules, release },
    progress: `downloading the kernel's source (${name})`,
    build: async (folder) => {
      for (const module of modules) await unpackSource(name, module, tools, folder);
    },
  });
}

/** Debian's package of the source of a kernel: linux-source-6.12 for 6.12.107+deb13-arm64. */
function sourcePackage(release: string): string {
  const version = /^\d+\.\d+(?=\.)/.exec(release)?.[0];
  if (version === undefined) throw new PrepareError(`Linux ${release} names no version.`);
  return `linux-source-${version}`;
}

async function unpackSource(
  name: string,
  { folder: moduleFolder, source }: ModuleRecipe,
  tools: CachedStep,
  folder: string,
): Promise<void> {
  const unpacked = await scratchFolder("source");
  await unpackPackages(await aptRoot("amd64"), [name], unpacked);
  const archive = join(unpacked, "usr/src", `${name}.tar.xz`);
  const paths = Object.entries(source!);
  const members = paths.map(([path]) => join(name, path));
  const xz = commandIn(tools.folder, "usr/bin/xz").join(" ");
  await run("tar", ["-x", "-I", xz, "-f", archive, "-C", unpacked, ...members], {
    what: `Unpacking ${name}`,
  });
  for (const [path, to] of paths) {
    await cp(join(unpacked, name, path), join(folder, moduleFolder, to), { recursive: true });
  }
  await rm(unpacked, { recursive: true });
}

interface BuildFolder {
  /** Its path on this machine. */
  readonly outside: string;
  /** Its path in the chroot. */
  readonly inside: string;
}

/** Lends a folder that is in the tools' tree while the work is done. */
async function inTools(
  recipe: GuestRecipe,
  tools: CachedStep,
  work: (folder: BuildFolder) => Promise<void>,
): Promise<void> {
  const inside = `/build/${recipe.architecture}-${process.pid}`;
  const outside = join(tools.folder, inside);
  await mkdir(outside, { recursive: true });
  await work({ outside, inside });
  await rm(outside, { recursive: true });
}

function runInTools(tools: CachedStep, command: readonly string[], what: string): Promise<string> {
  return run("chroot", [tools.folder, "/usr/bin/env", ...command], {
    what,
    environment: { PATH: "/usr/bin:/usr/sbin:/bin:/sbin" },
  });
}

async function writeTexts(folder: string, texts: Readonly<Record<string, string>>): Promise<void> {
  for (const [path, text] of Object.entries(texts)) {
    await mkdir(join(folder, dirname(path)), { recursive: true });
    await writeFile(join(folder, path), text);
  }
}
