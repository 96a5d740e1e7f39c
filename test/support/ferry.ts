/** A `ferry serve` in a process of its own, as an operator starts it. */
import { type ChildProcess, spawn } from "node:child_process";
import { mkdtempSync, readdirSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url));

/** One line of the server's JSON log. */
export interface LogLine {
  readonly msg: string;
  readonly level: number;
  readonly device?: string;
  /** Of `migration: phase`. */
  readonly phase?: string;
  readonly step?: string;
  /** Of `serving to another host`. */
  readonly remote?: string;
  /** Of `migration: paused`. */
  readonly before?: string;
  /** Of `migration: note` and `migration: verdict`. */
  readonly why?: string;
  readonly sentence?: string;
  /** The last line of a server that did not start. */
  readonly error?: { readonly code: string; readonly message: string };
}

/** A temporary folder with a short path, for sockets. */
export function temporaryFolder(): { path: string; [Symbol.dispose](): void } {
  const path = mkdtempSync(join(tmpdir(), "ferry-"));
  return { path, [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true }) };
}

export class Ferry {
  readonly process: ChildProcess;
  readonly lines: LogLine[] = [];
  /** Anything on standard error that was no JSON line. */
  noise = "";
  readonly exited: Promise<number | null>;
  #watchers: Array<() => void> = [];

  private constructor(args: readonly string[], environment: NodeJS.ProcessEnv, fds: number[]) {
    const stdio = ["ignore", "ignore", "pipe", ...fds] as const;
    this.process = spawn(process.execPath, [main, ...args, "--json"], {
      stdio: [...stdio],
      env: { ...process.env, ...environment },
    });
    let pending = "";
    this.process.stderr?.setEncoding("utf8").on("data", (text: string) => {
      const parts = (pending + text).split("\n");
      pending = parts.pop() ?? "";
      for (const part of parts) this.#read(part);
      for (const watcher of this.#watchers.slice()) watcher();
    });
    this.exited = new Promise((resolve) => {
      this.process.once("close", (code) => {
        resolve(code);
        for (const watcher of this.#watchers.slice()) watcher();
      });
    });
  }

  #read(line: string): void {
    try {
      this.lines.push(JSON.parse(line) as LogLine);
    } catch {
      this.noise += `${line}\n`;
    }
  }

  /** Starts a server and waits until it serves. */
  static async start(
    args: readonly string[],
    environment: NodeJS.ProcessEnv = {},
    fds: number[] = [],
  ): Promise<Ferry> {
    return await Ferry.startVerb("serve", args, environment, fds);
  }

  /** Starts what serves by another verb, likewise. */
  static async startVerb(
    verb: "serve" | "relay",
    args: readonly string[],
    environment: NodeJS.ProcessEnv = {},
    fds: number[] = [],
  ): Promise<Ferry> {
    const ferry = new Ferry([verb, ...args], environment, fds);
    await ferry.says("serving");
    return ferry;
  }

  /** Starts a server that is expected to end by itself. */
  static async fails(
    args: readonly string[],
    verb: "serve" | "relay" = "serve",
  ): Promise<{ code: number | null; text: string }> {
    const ferry = new Ferry([verb, ...args], {}, []);
    const code = await ferry.exited;
    const said = ferry.lines.map(({ error }) => error?.message ?? "").join("");
    return { code, text: ferry.noise + said };
  }

  get pid(): number {
    return this.process.pid ?? -1;
  }

  get alive(): boolean {
    return this.process.exitCode === null && this.process.signalCode === null;
  }

  /** Waits until a log line with this message has come `times` times. */
  async says(message: string, times = 1): Promise<void> {
    await this.hears(({ msg }) => msg === message, message, times);
  }

  /** Waits until `times` log lines have come that fit. */
  async hears(fits: (line: LogLine) => boolean, what: string, times = 1): Promise<void> {
    const heard = () => this.lines.filter(fits).length >= times;
    await new Promise<void>((resolve, reject) => {
      const watcher = () => {
        if (!heard() && this.alive) return;
        this.#watchers = this.#watchers.filter((each) => each !== watcher);
        if (heard()) resolve();
        else reject(new Error(`the server ended without "${what}": ${this.noise}`));
      };
      this.#watchers.push(watcher);
      watcher();
    });
  }

  /** Open descriptors of the server process. */
  get openFds(): number {
    return readdirSync(`/proc/${this.pid}/fd`).length;
  }

  /** Ends the server in order and returns its exit code. */
  async stop(): Promise<number | null> {
    this.process.kill("SIGTERM");
    return await this.exited;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.alive) this.process.kill("SIGKILL");
    await this.exited;
  }
}

/** Waits until `condition` holds; fails after a time that only a fault takes. */
export async function until(condition: () => boolean, what: string): Promise<void> {
  const endMs = Date.now() + 20_000;
  while (!condition()) {
    if (Date.now() > endMs) throw new Error(`never happened: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
