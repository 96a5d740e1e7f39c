/**
 * A cache of folders under .cache/vm, one a step, named by the hash of the step's inputs. A folder
 * is built under another name and renamed when it is whole, so that an interrupted run leaves
 * nothing that a later one would trust.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { mkdir, readdir, rename, rm } from "node:fs/promises";
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
  const partial = join(cacheFolder, `partial-${process.pid}-${prefix}${key}`);
  await rm(partial, { recursive: true, force: true });
  await mkdir(partial, { recursive: true });
  try {
    await step.build(partial);
    await removeOlder(prefix);
    await rename(partial, folder);
  } catch (error) {
    await rm(partial, { recursive: true, force: true });
    if (!existsSync(folder)) throw error;
  }
  console.log(`vm: ${step.progress}: done in ${((Date.now() - startedMs) / 1000).toFixed(1)} s`);
  return { folder, key };
}

/** Only the newest folder of a step is kept: one is up to a few hundred megabytes. */
async function removeOlder(prefix: string): Promise<void> {
  for (const name of await readdir(cacheFolder)) {
    if (name.startsWith(prefix)) await rm(join(cacheFolder, name), { recursive: true });
  }
}
