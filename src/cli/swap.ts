import { resolve } from "node:path";
import type { Command } from "commander";
import { askControl, controlOf } from "../host/control-line.ts";
import type { SwapReport } from "../host/swap-source.ts";
import { absolutePath, verb } from "./arguments.ts";
import { ExitCode, print, printJson } from "./output.ts";

interface SwapOptions {
  readonly to: string;
  readonly control?: string;
  readonly toControl?: string;
  readonly json?: boolean;
}

async function swap(from: string, options: SwapOptions): Promise<void> {
  const to = resolve(options.to);
  const { control, device } =
    options.control === undefined
      ? controlOf(from)
      : { control: options.control, device: resolve(from) };
  const request = { method: "swap", device, to, control: absolutePath(options.toControl) };
  const report = (await askControl(control, request)) as SwapReport;
  if (options.json === true) printJson(report);
  else print(tellReport(from, options.to, report));
  if (report.trouble !== "") process.exitCode = ExitCode.failed;
}

function tellReport(from: string, to: string, report: SwapReport): string {
  const { device, connected, heldMs, trouble } = report;
  const held = connected ? `its VMM was held for ${heldMs.toFixed(1)} ms` : "it had no VMM";
  const lines = [`${device} is served at ${to} now; ${held}. ${from} is clean and free.`, trouble];
  return lines.filter((line) => line !== "").join("\n");
}

/** `ferry swap`. */
export function addSwap(program: Command): void {
  verb(
    program,
    "swap <server>",
    "give a device and its VMM to another server while the VM runs on",
    [
      "swap /run/old.sock --to /run/new.sock",
      "swap /run/dev-0.sock --to /run/dev-1.sock --control /run/dev-0.sock.ctl    (one process)",
    ],
  )
    .requiredOption("--to <server>", "the socket of a device that is like it and has no VMM")
    .option("--control <path>", "where the first server is asked (default: the socket with .ctl)")
    .option("--to-control <path>", "where the other one is asked (default: likewise)")
    .action(swap);
}
