/** A child process that cannot outlive the test run, and what it wrote. */
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync, statSync } from "node:fs";
import { within } from "./deadline.ts";

export interface Exit {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

/** What is kept of a child's output for error messages. */
const outputLimit = 64 << 10;

export class Child {
  readonly exited: Promise<Exit>;
  readonly #process: ChildProcess;
  #output = "";
  #exit: Exit | undefined;

  constructor(command: readonly string[], environment: Readonly<Record<string, string>> = {}) {
    // setpriv runs the command in its own place, and the kernel ends the command when we die.
    this.#process = spawn("setpriv", ["--pdeathsig", "KILL", "--", ...command], {
      env: { ...process.env, ...environment },
      stdio: ["ignore", "pipe", "pipe"],
    });
    for (const stream of [this.#process.stdout, this.#process.stderr]) {
      stream?.setEncoding("utf8").on("data", (text: string) => {
        this.#output = (this.#output + text).slice(-outputLimit);
      });
    }
    this.exited = new Promise((resolve) => {
      this.#process.on("error", (error) => {
        this.#output += `${error.message}\n`;
        resolve((this.#exit = { code: -1, signal: null }));
      });
      this.#process.on("close", (code, signal) => resolve((this.#exit = { code, signal })));
    });
  }

  /** Stops the process where it is; SIGKILL still ends it. */
  halt(): void {
    this.#process.kill("SIGSTOP");
  }

  resume(): void {
    this.#process.kill("SIGCONT");
  }

  get pid(): number | undefined {
    return this.#process.pid;
  }

  /** How many descriptors it has open. */
  get descriptors(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Whether it holds a lock of this byte of a file. */
  locks(path: string, byte: number): boolean {
    const { ino } = statSync(path);
    const folder = `/proc/${this.pid}/fdinfo`;
    const all = readdirSync(folder).map((name) => told(`${folder}/${name}`));
    const ofThis = new RegExp(`^lock:.*:${ino} (\\d+) (\\d+)$`, "gm");
    const ranges = [...all.join("").matchAll(ofThis)].map((match) => match.slice(1).map(Number));
    return ranges.some(([first = 0, last = 0]) => first <= byte && byte <= last);
  }

  /** stdout and stderr so far. */
  get output(): string {
    return this.#output;
  }

  get exit(): Exit | undefined {
    return this.#exit;
  }

  /** Sends a signal and waits for the end; a child that does not end is killed. */
  async end(signal: NodeJS.Signals, timeoutMs: number): Promise<Exit> {
    if (this.#exit === undefined) this.#process.kill(signal);
    try {
      return await within(this.exited, timeoutMs, () => "end of a child process");
    } catch {
      this.#process.kill("SIGKILL");
      return await this.exited;
    }
  }
}

/** The command lines of all processes on this machine that name something. */
export function processesWith(name: string): string[] {
  const pids = readdirSync("/proc").filter((entry) => /^\d+$/.test(entry));
  return pids.map(commandLine).filter((line) => line.includes(name));
}

const commandLine = (pid: string): string => told(`/proc/${pid}/cmdline`).replaceAll("\0", " ");

/** What is told of a process or a descriptor; nothing of one that has gone since. */
function told(path: string): string {
  try {
    return readFileSync(path, "latin1");
  } catch (thrown) {
    const { code = "" } = thrown as NodeJS.ErrnoException;
    if (["ENOENT", "ESRCH"].includes(code)) return "";
    throw thrown;
  }
}
