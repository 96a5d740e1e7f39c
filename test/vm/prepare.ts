/**
 * From nothing to a guest that boots: an emulator with `vfio-user-pci`, a Debian kernel, our guest
 * drivers compiled for it, and an initramfs. Everything is kept below .cache/vm, so that only the
 * first run downloads.
 */
import { existsSync, readFileSync } from "node:fs";
import { mkdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import {
  type AptRoot,
  aptRoot,
  dependencies,
  forgetAptRoots,
  unpackClosure,
  unpackPackages,
} from "./apt.ts";
import { type CachedStep, cached, cacheFolder, removeScratchFolders } from "./cache.ts";
import { guestFolder, helpersStep, modulesStep } from "./compile.ts";
import { type Command, commandIn } from "./elf-tree.ts";
import { buildInitramfs, type InitramfsSources } from "./initramfs.ts";
import { kernelModulesStep } from "./kernel-modules.ts";
import {
  buildPackages,
  type GuestName,
  type GuestRecipe,
  guestRecipes,
  type Suite,
  suites,
  variantOf,
} from "./recipe.ts";
import { PrepareError, run } from "./run.ts";

/** All that a machine needs to start. */
export interface PreparedGuest {
  /** QEMU's program with the arguments that make it find its libraries and firmware. */
  readonly emulator: Command;
  readonly emulatorVersion: string;
  readonly kernel: string;
  /** What `uname -r` says in the guest. */
  readonly kernelRelease: string;
  readonly kernelCommandLine: string;
  readonly initramfs: string;
  readonly machine: readonly string[];
}

/** Prepares a guest, or returns it from the cache. Throws a PrepareError: one clear sentence. */
export async function prepare(name: GuestName): Promise<PreparedGuest> {
  try {
    await mkdir(cacheFolder, { recursive: true });
    return await prepareSteps(guestRecipes[name]);
  } catch (error) {
    if (error instanceof PrepareError) throw error;
    throw new PrepareError(`The VM test could not be set up: ${(error as Error).message}.`);
  } finally {
    forgetAptRoots();
    await removeScratchFolders();
  }
}

async function prepareSteps(recipe: GuestRecipe): Promise<PreparedGuest> {
  const emulator = await emulatorStep(recipe);
  const kernel = await kernelStep(recipe);
  const tools = await toolsStep(recipe, kernel);
  const userland = await userlandStep(recipe);
  const kernelRelease = await readText(kernel, "release");
  const parts = {
    userland,
    modules: await modulesStep(recipe, kernelRelease, tools),
    kernelModules: await kernelModulesStep(recipe, kernelRelease, kernel, tools),
    helpers: await helpersStep(recipe, tools),
  };
  const initramfs = await initramfsStep(recipe, parts);
  return {
    emulator: emulatorCommand(recipe, emulator.folder),
    emulatorVersion: await readText(emulator, "version"),
    kernel: kernelImage(kernel.folder, kernelRelease),
    kernelRelease,
    kernelCommandLine: recipe.kernel.commandLine.join(" "),
    initramfs: join(initramfs.folder, "initramfs.cpio"),
    machine: recipe.machine,
  };
}

async function readText(step: CachedStep, name: string): Promise<string> {
  return (await readFile(join(step.folder, name), "utf8")).trim();
}

function emulatorCommand(recipe: GuestRecipe, tree: string): Command {
  const firmware = recipe.emulator.firmware.flatMap((name) => [
    "-L",
    join(tree, "usr/share", name),
  ]);
  return [...commandIn(tree, recipe.emulator.binary), ...firmware];
}

function emulatorStep(recipe: GuestRecipe): Promise<CachedStep> {
  const { packages } = recipe.emulator;
  return cached({
    name: "emulator",
    variant: recipe.architecture,
    inputs: { packages, suites },
    progress: `downloading and unpacking QEMU (${packages.join(", ")}, ${suites.backports})`,
    build: async (folder) => {
      await unpackClosure(await aptRoot("amd64"), suites.backports, packages, folder);
      const [command, ...args] = emulatorCommand(recipe, folder);
      const version = await run(command, [...args, "--version"], { what: "Starting QEMU" });
      const devices = await run(command, [...args, "-device", "help"], { what: "Starting QEMU" });
      if (!devices.includes('"vfio-user-pci"')) {
        throw new PrepareError(`${version.split("\n")[0]} has no vfio-user-pci device.`);
      }
      await writeFile(join(folder, "version"), version.split("\n")[0]!);
    },
  });
}

function kernelStep(recipe: GuestRecipe): Promise<CachedStep> {
  const { suite, flavour } = recipe.kernel;
  return cached({
    name: "kernel",
    variant: variantOf(recipe),
    inputs: { flavour, suite },
    progress: `downloading and unpacking the kernel (linux-image-${flavour}, ${suite})`,
    build: async (folder) => {
      const root = await aptRoot(recipe.architecture);
      const needed = await dependencies(root, suite, `linux-image-${flavour}`);
      const release = needed.map((name) => /^linux-image-(\d.+)$/.exec(name)?.[1]).find(Boolean);
      if (release === undefined) {
        throw new PrepareError(`linux-image-${flavour} does not name a kernel in ${suite}.`);
      }
      await unpackPackages(root, await kernelPackages(root, suite, release), folder);
      await writeFile(join(folder, "release"), release);
    },
  });
}

/** Debian packages a kernel as a whole, or (newer ones) as the parts on which the whole depends. */
async function kernelPackages(root: AptRoot, suite: Suite, release: string): Promise<string[]> {
  const whole = `linux-image-${release}`;
  const needed = await dependencies(root, suite, whole);
  return [whole, ...needed.filter((name) => name.endsWith(`-${release}`))];
}

function kernelImage(folder: string, release: string): string {
  const places = [`boot/vmlinuz-${release}`, `usr/lib/modules/${release}/vmlinuz`];
  const paths = places.map((place) => join(folder, place));
  const image = paths.find((path) => existsSync(path));
  if (image === undefined) throw new PrepareError(`Linux ${release} has no image.`);
  return image;
}

async function toolsStep(recipe: GuestRecipe, kernel: CachedStep): Promise<CachedStep> {
  const packages = [...recipe.build.packages, ...buildPackages];
  const release = await readText(kernel, "release");
  return cached({
    name: "tools",
    variant: variantOf(recipe),
    inputs: { packages, release },
    progress: `downloading and unpacking the compiler (${recipe.build.packages.join(", ")})`,
    build: async (folder) => {
      const version = release.replace(`-${recipe.kernel.flavour}`, "");
      const closure = [...packages, `linux-kbuild-${version}`];
      await unpackClosure(await aptRoot("amd64"), suites.stable, closure, folder);
      // Headers are the guest's architecture's: a closure of this machine's could not name them.
      const headers = [`linux-headers-${release}`, `linux-headers-${version}-common`];
      await unpackPackages(await aptRoot(recipe.architecture), headers, folder);
      // Installing mawk would have made this link.
      await symlink("mawk", join(folder, "usr/bin/awk"));
      for (const name of ["dev", "proc", "tmp"]) {
        await mkdir(join(folder, name), { recursive: true });
      }
      await writeFile(join(folder, "dev/null"), "");
    },
  });
}

function userlandStep(recipe: GuestRecipe): Promise<CachedStep> {
  const { packages } = recipe.userland;
  return cached({
    name: "userland",
    variant: recipe.architecture,
    inputs: { packages, suites },
    progress: `downloading and unpacking the guest's programs (${packages.join(", ")})`,
    build: async (folder) =>
      unpackClosure(await aptRoot(recipe.architecture), suites.stable, packages, folder),
  });
}

/** The steps whose folders the initramfs is made of. */
type Parts = Readonly<Record<keyof Omit<InitramfsSources, "init" | "commands">, CachedStep>>;

function initramfsStep(recipe: GuestRecipe, parts: Parts): Promise<CachedStep> {
  const init = join(guestFolder, "init");
  const commands = recipe.commands.map((name) => join(guestFolder, `${name}.sh`));
  const { userland, modules, kernelModules, helpers } = parts;
  return cached({
    name: "initramfs",
    variant: variantOf(recipe),
    inputs: {
      scripts: [init, ...commands].map((path) => readFileSync(path, "utf8")),
      programs: recipe.userland.programs,
      parts: [userland, modules, kernelModules, helpers].map((step) => step.key),
    },
    progress: "building the initramfs",
    build: async (folder) => {
      const sources = {
        userland: userland.folder,
        modules: modules.folder,
        kernelModules: kernelModules.folder,
        helpers: helpers.folder,
        init,
        commands,
      };
      await writeFile(join(folder, "initramfs.cpio"), buildInitramfs(recipe, sources));
    },
  });
}
