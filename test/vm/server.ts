/** The server under test: `ferry serve DEVICE` as a child process. */
import { existsSync, readdirSync, readFileSync, readlinkSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { Child, type Exit } from "./child.ts";
import { until } from "./deadline.ts";

const builtCommand = [
  process.execPath,
  fileURLToPath(new URL("../../dist/cli/main.js", import.meta.url)),
];

/** FERRY_COMMAND tests another ferry than the checkout's build, for instance an installed one. */
const ferryCommand = process.env["FERRY_COMMAND"]?.split(" ") ?? builtCommand;

/** What QEMU calls the memfd of a memory-backend-memfd. */
const guestMemoryName = "memfd:memory-backend-memfd";

const startTimeoutMs = 20_000;
const stopTimeoutMs = 10_000;

export class Server {
  readonly socketPath: string;
  readonly #child: Child;

  private constructor(child: Child, socketPath: string) {
    this.#child = child;
    this.socketPath = socketPath;
  }

  /**
   * Starts a server and waits for its socket. `settings` are what `--set` takes: "mmap=trusted";
   * `launcher` starts it where it is to run.
   */
  static async start(
    device: string,
    socketPath: string,
    settings: readonly string[] = [],
    launcher: readonly string[] = [],
  ): Promise<Server> {
    const options = settings.flatMap((setting) => ["--set", setting]);
    return await Server.run(["serve", device, ...options], socketPath, launcher);
  }

  /** Starts whatever serves at a socket, and waits for it. */
  static async run(
    command: readonly string[],
    socketPath: string,
    launcher: readonly string[] = [],
  ): Promise<Server> {
    const args = [...command, "--socket-path", socketPath];
    const child = new Child([...launcher, ...ferryCommand, ...args]);
    const server = new Server(child, socketPath);
    await until(
      () => {
        if (child.exit !== undefined) throw new Error(`The server ended:\n${child.output}`);
        return existsSync(socketPath) || undefined;
      },
      startTimeoutMs,
      () => `socket of "${[...ferryCommand, ...args].join(" ")}":\n${child.output}\nand no socket`,
    );
    return server;
  }

  get running(): boolean {
    return this.#child.exit === undefined;
  }

  /** How many it has open. */
  get descriptors(): number {
    return this.#child.descriptors;
  }

  /** Whether the server has guest memory, of a machine that shares it, open or mapped. */
  get holdsGuestMemory(): boolean {
    const folder = `/proc/${this.#child.pid}`;
    const open = readdirSync(`${folder}/fd`).map((name) => linkTarget(`${folder}/fd/${name}`));
    const mapped = readFileSync(`${folder}/maps`, "latin1");
    return [...open, mapped].some((text) => text.includes(guestMemoryName));
  }

  get output(): string {
    return this.#child.output;
  }

  /** Ends the server as a crash does. */
  crash(): Promise<Exit> {
    return this.#child.end("SIGKILL", stopTimeoutMs);
  }

  /** Stops it where it is, until it is resumed or ended. */
  halt(): void {
    this.#child.halt();
  }

  resume(): void {
    this.#child.resume();
  }

  /** Ends the server as an operator does. */
  stop(): Promise<Exit> {
    return this.#child.end("SIGTERM", stopTimeoutMs);
  }
}

/** A descriptor may be closed between the listing and the look at it. */
function linkTarget(path: string): string {
  try {
    return readlinkSync(path);
  } catch {
    return "";
  }
}
