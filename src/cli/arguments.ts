/** What people type: numbers, paths, and where a server is. */
import { resolve } from "node:path";
import { type Command, Option } from "commander";
import { FerryError } from "../base/errors.ts";
import { Connection } from "../client/connection.ts";
import { RemoteDevice } from "../client/remote-device.ts";
import { parseAddress } from "../host/links/address.ts";

/** Milliseconds that a server has for an answer unless `--timeout` says otherwise. */
export const defaultTimeoutMs = 5000;

/** Options of every verb that asks a server. */
export interface ServerOptions {
  readonly json?: boolean;
  readonly timeout: number;
}

/** A whole number that is not negative, decimal or 0x-hexadecimal, at most `max`. */
export function parseCount(text: string, what: string, max = Number.MAX_SAFE_INTEGER): number {
  const value = /^(0x[0-9a-f]+|\d+)$/i.test(text) ? Number(text) : Number.NaN;
  if (Number.isSafeInteger(value) && value <= max) return value;
  throw new FerryError(
    "bad-argument",
    `${what} ${JSON.stringify(text)} is no whole number from 0 to ${max}. Write 4096 or 0x1000.`,
  );
}

/** One value more of an option that may be repeated. */
export const another = (text: string, before: readonly string[] = []): readonly string[] => [
  ...before,
  text,
];

/** A path as a daemon, whose working folder is another one, finds it. */
export const absolutePath = (path: string | undefined): string | undefined =>
  path === undefined ? undefined : resolve(path);

/** A link's address likewise; throws for one that is none. */
export function absoluteLink(text: string): string {
  const address = parseAddress(text);
  return address.kind === "tls" ? text : `${address.kind}:${resolve(address.path)}`;
}

/** Adds what every verb has: `--json`, and examples under `--help`. */
export function verb(
  program: Command,
  usage: string,
  summary: string,
  examples: string[],
): Command {
  const lines = examples.map((example) => `  $ ferry ${example}`);
  return program
    .command(usage)
    .description(summary)
    .option("--json", "print JSON, for scripts")
    .showHelpAfterError(`(see ferry ${usage.split(" ")[0]} --help)`)
    .addHelpText("after", `\nExamples:\n${lines.join("\n")}`);
}

/** Adds `--timeout` for a verb that asks a server. */
export function withTimeout(command: Command): Command {
  const option = new Option("--timeout <ms>", "how long to wait for an answer; 0 for ever");
  return command.addOption(
    option
      .default(defaultTimeoutMs, String(defaultTimeoutMs))
      .argParser((text) => parseCount(text, "--timeout", 2 ** 31 - 1)),
  );
}

/** Connects to a server, uses its device, and ends the connection whatever happens. */
export function withDevice<T>(
  socketPath: string,
  options: ServerOptions,
  use: (device: RemoteDevice) => T,
): T {
  const connection = Connection.connect(socketPath, { timeoutMs: options.timeout });
  let device: RemoteDevice | null = null;
  try {
    device = new RemoteDevice(connection, socketPath);
    return use(device);
  } finally {
    if (device === null) connection.close();
    else device.close();
  }
}
