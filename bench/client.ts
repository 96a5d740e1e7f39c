import { execFile } from "node:child_process";
import { promisify } from "node:util";
import { OperatorError } from "./operator-error.ts";
import type { Server } from "./servers.ts";

const run = promisify(execFile);
const runLimitMs = 300_000;
const outputLimitBytes = 1 << 20;

/** One row of vubench: an operation's figures, or in `note` why there are none. */
export interface Row {
  readonly op: string;
  readonly status: "ok" | "n/a" | "failed";
  readonly n: number;
  readonly p50_us: number;
  readonly p99_us: number;
  readonly p999_us: number;
  readonly ops_s: number;
  readonly mib_s: number;
  readonly note: string;
  /** Nanoseconds an operation by the device's own clock. */
  readonly device_ns: number | null;
  /** Processor time that the server spent for an operation, nanoseconds. */
  readonly server_cpu_ns: number | null;
}

function parseRows(text: string): Row[] | undefined {
  try {
    const rows: unknown = JSON.parse(text);
    return Array.isArray(rows) ? (rows as Row[]) : undefined;
  } catch {
    return undefined;
  }
}

/**
 * Runs vubench against a server, pinned to a CPU if asked.
 *
 * An operation that failed is a row, not an exception.
 *
 * @throws OperatorError when vubench printed no rows, with what it said instead
 */
export async function measure(
  client: string,
  server: Server,
  args: readonly string[],
  cpu?: number,
): Promise<Row[]> {
  const own = ["--sock", server.socketPath, "--server-pid", `${server.pid}`, "--json", ...args];
  const pinned = cpu === undefined ? [client, ...own] : ["taskset", "-c", `${cpu}`, client, ...own];
  const [program = client, ...rest] = pinned;
  const limits = { timeout: runLimitMs, maxBuffer: outputLimitBytes };
  // A failed operation is exit status 1, which execFile rejects; the rows are there all the same.
  const { stdout, stderr } = await run(program, rest, limits).catch(
    (error: { stdout?: string; stderr?: string }) => ({
      stdout: error.stdout ?? "",
      stderr: error.stderr ?? String(error),
    }),
  );
  const rows = parseRows(stdout);
  if (rows === undefined) {
    throw new OperatorError(`vubench ${args.join(" ")} gave no figures: ${stderr.trim()}`);
  }
  return rows;
}
