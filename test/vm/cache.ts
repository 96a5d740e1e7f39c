/**
 * A cache of folders under .cache/vm, one a step, named by the hash of the step's inputs. A folder
 * is built under another name and renamed when it is whole, so that an interrupted run leaves
 * nothing that a later one would trust.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { chmod, mkdir, mkdtemp, readdir, rename, rm } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { type StepName, stepRevisions } from "./recipe.ts";

const projectRoot = dirname(dirname(dirname(fileURLToPath(import.meta.url))));

/** Where everything that the VM test downloads and builds is kept. */
export const cacheFolder = join(projectRoot, ".cache", "vm");

export interface Step {
  readonly name: StepName;
  /** Tells two guests' folders of one step apart, for instance "amd64". */
  readonly variant: string;
  /** Everything that decides the result; anything that JSON can hold. */
  readonly inputs: unknown;
  /** One line for the person who waits. */
  readonly progress: string;
  /** Fills the empty folder. */
  readonly build: (folder: string) => Promise<void>;
}

export interface CachedStep {
  readonly folder: string;
  /** Changes whenever the contents may have changed: an input of the steps that build on it. */
  readonly key: string;
}

/** Work that is not finished lies here; the name says whose it is. */
const scratchName = (pid: number) => `unfinished-${pid}`;

/** A new empty folder for something that is not kept. */
export async function scratchFolder(name: string): Promise<string> {
  const folder = join(cacheFolder, scratchName(process.pid));
  await mkdir(folder, { recursive: true });
  return mkdtemp(join(folder, `${name}-`));
}

/** Removes our scratch folders, and those of processes that were ended in the middle. */
export async function removeScratchFolders(): Promise<void> {
  if (!existsSync(cacheFolder)) return;
  for (const name of await readdir(cacheFolder)) {
    const pid = Number(/^unfinished-(\d+)$/.exec(name)?.[1]);
    if (Number.isNaN(pid) || (pid !== process.pid && existsSync(`/proc/${pid}`))) continue;
    await rm(join(cacheFolder, name), { recursive: true, force: true });
  }
}

/** Returns the step's folder, building it first when the cache does not have it. */
export async function cached(step: Step): Promise<CachedStep> {
  const key = createHash("sha256")
    .update(JSON.stringify([step.name, step.variant, stepRevisions[step.name], step.inputs]))
    .digest("hex")
    .slice(0, 12);
  const prefix = `${step.name}-${step.variant}-`;
  const folder = join(cacheFolder, `${prefix}${key}`);
  if (existsSync(folder)) return { folder, key };

  const startedMs = Date.now();
  console.log(`vm: ${step.progress} ...`);
  const unfinished = await scratchFolder(step.name);
  await step.build(unfinished);
  // Another run may have been as far a moment ago; its folder holds the same.
  if (!existsSync(folder)) {
    await removeOlder(prefix);
    await chmod(unfinished, 0o755);
    await rename(unfinished, folder);
  }
  console.log(`vm: ${step.progress}: done in ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
  return { folder, key };
}

/** Only the newest folder of a step is kept: one is up to a few hundred megabytes. */
async function removeOlder(prefix: string): Promise<void> {
  for (const name of await readdir(cacheFolder)) {
    // What follows is a key, not the rest of another variant's name.
    const isOlder = name.startsWith(prefix) && /^[0-9a-f]+$/.test(name.slice(prefix.length));
    if (isOlder) await rm(join(cacheFolder, name), { recursive: true });
  }
}
