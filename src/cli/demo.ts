import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Command } from "commander";
import { FerryError } from "../base/errors.ts";
import { verb } from "./arguments.ts";
import { type Finding, tellStory } from "./demo-story.ts";
import { ExitCode, print, printJson } from "./output.ts";

const startTimeoutMs = 15_000;
const stopTimeoutMs = 10_000;
const lookEveryMs = 10;

/** This very program, as it is running: compiled, or as its sources. */
const isSource = import.meta.url.endsWith(".ts");
const program = fileURLToPath(new URL(isSource ? "./main.ts" : "./main.js", import.meta.url));

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms));

/** A time limit for something else: it does not keep the program alive. */
const limit = (ms: number): Promise<void> =>
  new Promise((resolve) => setTimeout(resolve, ms).unref());

/** A `ferry serve hello` in a process of its own. */
class HelloServer {
  readonly socketPath: string;
  readonly #folder = mkdtempSync(join(tmpdir(), "ferry-demo-"));
  readonly #child: ChildProcess;
  readonly #exited: Promise<unknown>;
  readonly #endWithUs = (): void => void this.#child.kill("SIGKILL");
  #said = "";

  constructor() {
    this.socketPath = join(this.#folder, "hello.sock");
    const args = ["serve", "hello", "--socket-path", this.socketPath];
    this.#child = spawn(process.execPath, [...process.execArgv, program, ...args], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    this.#child.stderr?.setEncoding("utf8").on("data", (text: string) => {
      this.#said += text;
    });
    this.#exited = once(this.#child, "exit");
    process.on("exit", this.#endWithUs);
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  get #isRunning(): boolean {
    return this.#child.exitCode === null && this.#child.signalCode === null;
  }

  /** Waits until the server's socket is there. */
  async ready(): Promise<void> {
    const endMs = performance.now() + startTimeoutMs;
    while (!existsSync(this.socketPath)) {
      if (!this.#isRunning || performance.now() > endMs) {
        throw new FerryError("no-server", `the server did not start:\n${this.#said.trim()}`);
      }
      await pause(lookEveryMs);
    }
  }

  /** Asks the server to end and waits for it: true when it ended in order. */
  async stop(): Promise<boolean> {
    process.off("exit", this.#endWithUs);
    this.#child.kill("SIGTERM");
    await Promise.race([this.#exited, limit(stopTimeoutMs)]);
    if (this.#isRunning) this.#child.kill("SIGKILL");
    rmSync(this.#folder, { recursive: true, force: true });
    return this.#child.exitCode === 0;
  }
}

const mark = (finding: Finding): string => (finding.ok ? "✓" : "✗");

function show(finding: Finding): void {
  const [first, ...more] = finding.text.split("\n");
  print(`  ${mark(finding)} ${finding.topic.padEnd(13)} ${first}`);
  for (const line of more) print(`    ${"".padEnd(13)} ${line}`);
}

async function demo(asJson: boolean): Promise<ExitCode> {
  const findings: Finding[] = [];
  const tell = (topic: string, ok: boolean, text: string): void => {
    const finding = { topic, ok, text };
    findings.push(finding);
    if (!asJson) show(finding);
  };
  if (!asJson) print("vfio-ferry: a PCI device in one process, its driver in another\n");
  const server = new HelloServer();
  try {
    await server.ready();
    tell("server", true, `ferry serve hello, process ${server.pid}`);
    tellStory(server.socketPath, tell);
  } finally {
    tell("stopped", await server.stop(), "the server ended in order and took its socket along");
  }
  const failed = findings.filter(({ ok }) => !ok).length;
  if (asJson) printJson({ ok: failed === 0, findings });
  else if (failed === 0) print("\nEverything was as it should be.");
  else print(`\n${failed} of ${findings.length} things were not as they should be.`);
  return failed === 0 ? ExitCode.ok : ExitCode.failed;
}

/** `ferry demo`: serves a device and drives it, so that one sees what this is. */
export function addDemo(program: Command): void {
  verb(program, "demo", "serve a device in one process and drive it from another", ["demo"]).action(
    async (options: { readonly json?: boolean }) => {
      process.exitCode = await demo(options.json === true);
    },
  );
}
