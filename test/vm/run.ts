/** Runs the programs that prepare the VM test, and turns their failures into sentences. */
import { spawn } from "node:child_process";

/** The machine cannot run the VM test, or a step of its preparation failed; says why in a line. */
export class PrepareError extends Error {
  override readonly name = "PrepareError";
}

/** What is kept of a program's output: enough for any answer and for its last words. */
const outputLimitBytes = 4 << 20;

/** Lines of a failed program's output that are repeated to the person who waits. */
const lastWordsLines = 8;

export interface RunOptions {
  /** What was being done, as the beginning of the sentence "... failed". */
  readonly what: string;
  readonly environment?: Readonly<Record<string, string>>;
  readonly folder?: string;
}

/** Runs a program to its end and returns what it wrote to stdout; a failure is a PrepareError. */
export function run(
  command: string,
  args: readonly string[],
  options: RunOptions,
): Promise<string> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, {
      cwd: options.folder,
      env: {
        ...process.env,
        LC_ALL: "C",
        DEBIAN_FRONTEND: "noninteractive",
        ...options.environment,
      },
      stdio: ["ignore", "pipe", "pipe"],
    });
    let output = "";
    let everything = "";
    child.stdout.setEncoding("utf8").on("data", (text: string) => {
      output = (output + text).slice(-outputLimitBytes);
      everything = (everything + text).slice(-outputLimitBytes);
    });
    child.stderr.setEncoding("utf8").on("data", (text: string) => {
      everything = (everything + text).slice(-outputLimitBytes);
    });
    child.on("error", (error) => {
      reject(
        new PrepareError(`${options.what} failed: ${command} cannot be run: ${error.message}.`),
      );
    });
    child.on("close", (code, signal) => {
      if (code === 0) return resolve(output);
      const end = signal === null ? `ended with status ${code}` : `was ended by ${signal}`;
      const lastWords = everything.trim().split("\n").slice(-lastWordsLines).join("\n  ");
      reject(new PrepareError(`${options.what} failed: ${command} ${end}:\n  ${lastWords}`));
    });
  });
}
