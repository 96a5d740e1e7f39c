/** A VM's migration that a test holds before a phase: what it does then is done at that moment. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import type { Result } from "../cli/run.ts";
import { within } from "./deadline.ts";

const held = fileURLToPath(new URL("held-ferry.ts", import.meta.url));
/** All waits of the tool end: this is more than they can add up to. */
const endTimeoutMs = 240_000;

export class HeldMove {
  readonly #child: ChildProcess;
  readonly #result: Promise<Result>;
  #lines: string[] = [];
  #errors = "";
  #heard: () => void = () => {};
  #reached = "";

  /** `args` are the command line of `ferry vm migrate --json`. */
  constructor(args: readonly string[]) {
    const command = ["--import", "tsx", held, ...args];
    this.#child = spawn(process.execPath, command, { stdio: ["pipe", "pipe", "pipe"] });
    this.#child.stdin?.on("error", () => {});
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors += text;
    });
    if (this.#child.stdout === null) throw new Error("no output");
    createInterface({ input: this.#child.stdout }).on("line", (line) => this.#hear(line));
    const closed = new Promise<Result>((resolve) => {
      this.#child.once("close", (code) => {
        resolve({ code, output: this.#lines.join("\n"), errors: this.#errors });
        this.#heard();
      });
    });
    this.#result = within(closed, endTimeoutMs, () => `end of a move:\n${this.#lines.join("\n")}`);
    this.#result.catch(() => {});
  }

  #hear(line: string): void {
    this.#lines.push(line);
    this.#reached = /^\{"before":"([^"]+)"\}$/.exec(line)?.[1] ?? this.#reached;
    this.#heard();
  }

  /** Lets it go until it stands before this phase. */
  async reaches(phase: string): Promise<void> {
    let answered = "";
    const stands = new Promise<void>((resolve, reject) => {
      this.#heard = () => {
        const { exitCode, signalCode } = this.#child;
        if (this.#reached === phase) resolve();
        else if (exitCode !== null || signalCode !== null) {
          reject(new Error(`ended before ${phase}: ${this.#lines.join("\n")}\n${this.#errors}`));
        } else if (this.#reached !== answered) {
          answered = this.#reached;
          this.#child.stdin?.write("\n");
        }
      };
      this.#heard();
    });
    await within(stands, endTimeoutMs, () => `${phase}:\n${this.#lines.join("\n")}`);
    this.#heard = () => {};
  }

  /** Lets it go, to its end. */
  async ends(): Promise<Result> {
    this.#child.stdin?.end();
    return await this.#result;
  }

  /** Ends it by force, wherever it stands. */
  async kill(): Promise<void> {
    this.#child.kill("SIGKILL");
    await this.#result;
  }
}
