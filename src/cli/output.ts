/** What the command line writes and how it ends. */
import { writeSync } from "node:fs";
import { CommanderError } from "commander";
import { FerryError, messageOf } from "../base/errors.ts";

/** How a verb ends, for scripts. */
export const ExitCode = {
  /** It did what was asked. */
  ok: 0,
  /** What was asked for failed. */
  failed: 1,
  /** The command line, or what it names, makes no sense. */
  mistake: 2,
} as const;
export type ExitCode = (typeof ExitCode)[keyof typeof ExitCode];

/** {@link FerryError} codes that an operator mends by another command line. */
const mistakes: ReadonlySet<string> = new Set([
  "bad-argument",
  "not-a-socket",
  "path-too-long",
  "socket-in-use",
  "transfer-too-large",
  "unknown-device",
  "unknown-option",
  "unknown-region",
  "usage",
  "no-control",
  "no-device",
  "no-folder",
  "no-pki",
  "no-qmp",
  "no-socket",
]);

const standardOutput = 1;
const standardError = 2;

/** Writes all of a text, waiting where a pipe is full; false when nobody reads it any more. */
function writeAll(fd: number, text: string): boolean {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (thrown) {
      const { code } = thrown as NodeJS.ErrnoException;
      if (code === "EPIPE") return false;
      if (code !== "EAGAIN") throw thrown;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1);
    }
  }
  return true;
}

/** Writes a line to standard output; false when its reader has gone. */
export const print = (line: string): boolean => writeAll(standardOutput, `${line}\n`);

/** Writes a value as one line of JSON. */
export const printJson = (value: unknown): boolean => print(JSON.stringify(value));

/** How help and complaints about the command line are written. */
export const helpOutput = {
  writeOut: (text: string): boolean => writeAll(standardOutput, text),
  writeErr: (text: string): boolean => writeAll(standardError, text),
};

/** Says why the command ends as it does, and with what code; a stack only for our own mistakes. */
export function report(thrown: unknown, asJson: boolean): ExitCode {
  if (thrown instanceof CommanderError) {
    return thrown.exitCode === 0 ? ExitCode.ok : ExitCode.mistake;
  }
  const known = thrown instanceof FerryError;
  const code = known ? thrown.code : "internal";
  const said = known || !(thrown instanceof Error) ? messageOf(thrown) : String(thrown.stack);
  const line = asJson ? JSON.stringify({ error: { code, message: said } }) : `ferry: ${said}`;
  writeAll(standardError, `${line}\n`);
  return mistakes.has(code) ? ExitCode.mistake : ExitCode.failed;
}
