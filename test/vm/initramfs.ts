/** Puts the guest's programs, modules and our scripts into one initramfs. */
import { readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { type CpioEntry, cpioArchive } from "./cpio.ts";
import { libraryClosure } from "./elf-tree.ts";
import type { GuestRecipe } from "./recipe.ts";

/** The kernel opens this as the init script's stdin, stdout and stderr. */
const consoleDevice: CpioEntry = { path: "dev/console", characterDevice: [5, 1] };

const emptyFolders = ["dev", "proc", "sys", "run", "tmp"];

export interface InitramfsSources {
  readonly userland: string;
  readonly modules: string;
  readonly kernelModules: string;
  readonly helpers: string;
  /** A shell script: the first process. */
  readonly init: string;
  /** Scripts with shell functions, which the init script takes in. */
  readonly commands: readonly string[];
}

/** The archive's bytes. */
export function buildInitramfs(recipe: GuestRecipe, sources: InitramfsSources): Buffer {
  const { programs, dynamicLinker, libraryFolder } = recipe.userland;
  const libraries = programs.flatMap((program) =>
    libraryClosure(sources.userland, libraryFolder, program),
  );
  const files = new Map<string, string>();
  for (const path of [...programs, ...new Set(libraries), dynamicLinker]) {
    files.set(path, join(sources.userland, path));
  }
  const copied = [
    ["modules", sources.modules],
    ["modules", sources.kernelModules],
    ["usr/bin", sources.helpers],
  ] as const;
  for (const [target, source] of copied) {
    for (const name of readdirSync(source)) files.set(join(target, name), join(source, name));
  }
  files.set("init", sources.init);
  for (const path of sources.commands) files.set(join("commands", basename(path)), path);

  const links: CpioEntry[] = ["bin", "lib", "lib64", "sbin"].map((name) => ({
    path: name,
    linkTo: `usr/${name}`,
  }));
  const shell: CpioEntry = { path: "usr/bin/sh", linkTo: "busybox" };
  const folders = new Set([...emptyFolders, "usr/bin", "usr/sbin", "usr/lib", "usr/lib64"]);
  for (const path of files.keys()) folders.add(dirname(path));
  return cpioArchive([
    ...withParents(folders).map((path): CpioEntry => ({ path, folder: true })),
    ...links,
    shell,
    consoleDevice,
    ...[...files].map(([path, source]) => ({
      path,
      content: readFileSync(source),
      permissions: 0o755,
    })),
  ]);
}

/** Every folder with all that it lies in, outermost first. */
function withParents(folders: Iterable<string>): string[] {
  const all = new Set<string>();
  for (const folder of folders) {
    for (let path = folder; path !== "."; path = dirname(path)) all.add(path);
  }
  return [...all].sort();
}
