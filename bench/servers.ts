import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { OperatorError } from "./operator-error.ts";

const startLimitMs = 20_000;
const stopLimitMs = 5_000;
const pollMs = 20;
const keptErrorCharacters = 2_000;

/** A server process that this bench started; stopServers() ends it. */
export interface Server {
  readonly pid: number;
  readonly socketPath: string;
}

/** The CPUs that this process may run on, from its own status file. */
export function allowedCpus(): number[] {
  const status = readFileSync("/proc/self/status", "utf8");
  const list = /^Cpus_allowed_list:\s*(\S+)/m.exec(status)?.[1] ?? "0";
  return list.split(",").flatMap((range) => {
    const [first = 0, last = first] = range.split("-").map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** @throws OperatorError when taskset is missing */
export function requireTaskset(): void {
  if (spawnSync("taskset", ["--version"]).error !== undefined) {
    throw new OperatorError('"taskset" pins the processes to a CPU: install util-linux.');
  }
}

/** A folder for sockets, gone when the process ends. */
export function socketFolder(): string {
  const folder = mkdtempSync(join(tmpdir(), "ferry-bench-"));
  process.once("exit", () => rmSync(folder, { recursive: true, force: true }));
  return folder;
}

const running = new Map<ChildProcess, () => Promise<void>>();

/** Ends every server that still runs. */
export async function stopServers(): Promise<void> {
  await Promise.all([...running.values()].map((stopOne) => stopOne()));
}

// A bench that is interrupted leaves no server behind.
process.once("exit", () => {
  for (const child of running.keys()) child.kill("SIGKILL");
});
for (const signal of ["SIGINT", "SIGTERM"] as const) {
  process.once(signal, () => process.exit(130));
}

/**
 * Starts a server and waits until its socket exists.
 *
 * @param command a shell command; `{socket}` in it becomes the socket's path
 * @param socketPath where the server is to listen
 * @param options.isReady when not the socket's existence tells that it does
 * @throws OperatorError when it ends or does not listen in time; its last words are in the message
 */
export async function startServer(
  command: string,
  socketPath: string,
  options: { cpu?: number; isReady?: () => boolean } = {},
): Promise<Server> {
  const line = `exec ${command.replaceAll("{socket}", socketPath)}`;
  const shell = ["sh", "-c", line];
  const pinned = options.cpu === undefined ? shell : ["taskset", "-c", `${options.cpu}`, ...shell];
  const [program = "sh", ...args] = pinned;
  const child = spawn(program, args, { stdio: ["ignore", "ignore", "pipe"] });
  let words = "";
  child.stderr?.on("data", (text: Buffer) => {
    words = (words + text.toString()).slice(-keptErrorCharacters);
  });
  const ended = new Promise<void>((resolve) => {
    child.once("error", () => resolve());
    child.once("exit", () => {
      running.delete(child);
      resolve();
    });
  });

  running.set(child, () => stop(child, ended));

  const isReady = options.isReady ?? (() => existsSync(socketPath));
  for (let waitedMs = 0; !isReady(); waitedMs += pollMs) {
    if (child.exitCode !== null || child.signalCode !== null || waitedMs > startLimitMs) {
      throw new OperatorError(`No server listens at ${socketPath}: ${line}\n${words}`);
    }
    await sleep(pollMs);
  }
  return { pid: child.pid ?? 0, socketPath };
}

/** SIGTERM, and SIGKILL if that does not help. */
async function stop(child: ChildProcess, ended: Promise<void>): Promise<void> {
  child.kill("SIGTERM");
  const late = setTimeout(() => child.kill("SIGKILL"), stopLimitMs);
  await ended;
  clearTimeout(late);
}

/** Resident memory of a process, from its status file. */
export function residentMiB(pid: number): number {
  const status = readFileSync(`/proc/${pid}/status`, "utf8");
  const kib = Number(/^VmRSS:\s*(\d+) kB/m.exec(status)?.[1]);
  if (Number.isNaN(kib)) throw new OperatorError(`Process ${pid} has ended.`);
  return kib / 1024;
}
