/** The command line as an operator uses it: a process, its output, its exit code. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";

const built = [process.execPath, fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url))];
/** FERRY_COMMAND tests another ferry than the checkout's build, for instance an installed one. */
const command = process.env["FERRY_COMMAND"]?.split(" ") ?? built;

export interface Result {
  readonly code: number | null;
  readonly output: string;
  readonly errors: string;
}

/** A `ferry` that is running. */
export class Running {
  readonly child: ChildProcess;
  readonly result: Promise<Result>;
  #output = "";
  #errors = "";
  #heard: () => void = () => {};

  constructor(args: readonly string[]) {
    const [program, ...first] = command as [string, ...string[]];
    this.child = spawn(program, [...first, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    this.child.stdout?.setEncoding("utf8").on("data", (text: string) => {
      this.#output += text;
      this.#heard();
    });
    this.child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#errors += text;
    });
    this.result = new Promise((resolve) => {
      this.child.once("close", (code) => {
        resolve({ code, output: this.#output, errors: this.#errors });
        this.#heard();
      });
    });
  }

  get output(): string {
    return this.#output;
  }

  /** Waits until the output has a line that matches; fails when the program ends without one. */
  async says(pattern: RegExp): Promise<void> {
    await new Promise<void>((resolve, reject) => {
      this.#heard = () => {
        if (pattern.test(this.#output)) resolve();
        else if (this.child.exitCode !== null || this.child.signalCode !== null) {
          reject(new Error(`ended without ${pattern}: ${this.#output}${this.#errors}`));
        }
      };
      this.#heard();
    });
  }

  /** Asks it to end, and waits. */
  async stop(signal: NodeJS.Signals = "SIGTERM"): Promise<Result> {
    this.child.kill(signal);
    return await this.result;
  }
}

/** Runs `ferry` to its end. */
export const ferry = (...args: string[]): Promise<Result> => new Running(args).result;
