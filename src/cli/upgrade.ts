import { type ChildProcess, spawn } from "node:child_process";
import { constants, openSync } from "node:fs";
import { resolve } from "node:path";
import type { Command } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";
import { controlOf } from "../host/control-line.ts";
import { askManifest, type Manifest } from "../host/manifest.ts";
import { parseCount, verb } from "./arguments.ts";
import { print, printJson } from "./output.ts";
import type { Word } from "./succeeding.ts";

interface UpgradeOptions {
  readonly with?: string;
  readonly within: number;
  readonly json?: boolean;
}

const defaultWithinSeconds = 60;

/** How long the old process may take to say that it is still there. */
const lookMs = 10_000;

/** Where the old process logs, if that can be opened again; a journal's socket cannot. */
function logOf(pid: number): number | "inherit" {
  try {
    const flags = constants.O_WRONLY | constants.O_APPEND | constants.O_NOCTTY;
    return openSync(`/proc/${pid}/fd/2`, flags);
  } catch {
    return "inherit";
  }
}

/** Starts the successor, which outlives this process. */
function start(program: string | undefined, control: string, { pid, json }: Manifest) {
  const main = process.argv[1] as string;
  const [command, first] =
    program === undefined ? [process.execPath, [main]] : [resolve(program), []];
  const args = [...first, "serve", "--take-over", control, ...(json ? ["--json"] : [])];
  const stdio = ["ignore", "ignore", logOf(pid), "ipc"] as const;
  return spawn(command, args, { detached: true, stdio: [...stdio] });
}

/** The successor with whatever it was started through: the group is its own. */
function endGroup({ pid }: ChildProcess): void {
  try {
    if (pid !== undefined) process.kill(-pid, "SIGKILL");
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code !== "ESRCH") throw thrown;
  }
}

/** The successor's word; it has ended, or is ended, when there is none. */
async function wordOf(child: ChildProcess, withinMs: number): Promise<Word> {
  let timer: NodeJS.Timeout | undefined;
  const word = new Promise<Word>((settle) => {
    const fail = (why: string): void => settle({ kind: "failed", why });
    timer = setTimeout(() => {
      endGroup(child);
      fail(`it said nothing for ${withinMs / 1000} s, and was ended.`);
    }, withinMs);
    child.on("message", (said: Word) => settle(said));
    child.on("error", (error) => fail(`it cannot be started: ${error.message}.`));
    child.on("exit", (code, signal) => fail(`it ended with ${signal ?? `exit code ${code}`}.`));
  });
  return await word.finally(() => clearTimeout(timer));
}

/** Says who serves after an upgrade that failed, having asked. */
async function whoServes(path: string, control: string, before: Manifest): Promise<string> {
  const timer = new Promise<never>((_, reject) => {
    setTimeout(() => reject(new FerryError("silent", "it does not answer.")), lookMs).unref();
  });
  try {
    const now = await Promise.race([askManifest(control), timer]);
    const same = now.pid === before.pid ? "still " : "";
    return `${path} is ${same}served by version ${now.version} (process ${now.pid})`;
  } catch (thrown) {
    return `${path} is out of reach now (${messageOf(thrown)})`;
  }
}

async function upgrade(path: string, options: UpgradeOptions): Promise<void> {
  const control = resolve(controlOf(path).control);
  const before = await askManifest(control);
  const child = start(options.with, control, before);
  const word = await wordOf(child, options.within * 1000);
  if (word.kind === "failed") {
    const who = await whoServes(path, control, before);
    throw new FerryError("not-upgraded", `${who}. The successor failed: ${word.why}`);
  }
  child.unref();
  const { version, pid, succession } = word;
  const to = { version, pid };
  if (options.json === true) {
    const from = { version: before.version, pid: before.pid };
    printJson({ socket: path, from, to, waitedMs: succession.waitedMs });
    return;
  }
  print(`${path}: version ${before.version} (process ${before.pid}) was succeeded by`);
  print(`version ${version} (process ${pid}). Clients waited ${waited(succession.waitedMs)}.`);
}

const waited = (ms: number): string => `${ms.toFixed(1)} ms at most`;

const seconds = (text: string): number => parseCount(text, "--within", 3600);

/** `ferry upgrade`. */
export function addUpgrade(program: Command): void {
  verb(program, "upgrade <server>", "replace a running server; its VMMs stay connected", [
    "upgrade /run/vm/sec2.sock            (this version takes over)",
    "upgrade /run/vm/sec2.sock --with /opt/ferry-next/bin/ferry",
  ])
    .option("--with <program>", "the ferry that takes over (default: this one)")
    .option("--within <seconds>", "what it may take until it serves", seconds, defaultWithinSeconds)
    .action(upgrade);
}
