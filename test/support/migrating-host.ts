/** A host of a migration: a `ferry serve` in a process of its own, and what its operator does. */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { askControl } from "../../src/host/control-line.ts";
import type { JournalRecord } from "../../src/migration/hosts/journal.ts";
import type { Report } from "../../src/migration/hosts/report.ts";
import type { MigrationStatus } from "../../src/migration/port.ts";
import { Ferry, type LogLine } from "./ferry.ts";

/** No answer takes so long unless something hangs. */
const answerMs = 60_000;

/** What `migrate-status` answers. */
export interface HostStatus {
  readonly port: MigrationStatus;
  readonly offers: number;
  readonly migration: {
    readonly side: "source" | "target";
    readonly paused: string | null;
    readonly undecided: boolean;
    readonly waitsForThaw: boolean;
    readonly report: Report;
  } | null;
}

/** What a move ends with. */
export interface MoveEnd {
  readonly outcome: "moved" | "kept" | "open";
  readonly sentence: string;
  readonly state: string;
  readonly report: Report;
}

export class MigratingHost {
  readonly name: string;
  readonly socket: string;
  readonly #args: readonly string[];
  /** The process that serves at the moment. */
  ferry: Ferry;
  /** Log lines of the processes before it. */
  readonly #before: LogLine[] = [];

  private constructor(name: string, socket: string, args: readonly string[], ferry: Ferry) {
    this.name = name;
    this.socket = socket;
    this.#args = args;
    this.ferry = ferry;
  }

  /** Serves a device; `device` is its name with options, as on the command line. */
  static async start(
    name: string,
    folder: string,
    device: readonly string[],
  ): Promise<MigratingHost> {
    const socket = join(folder, `${name}.sock`);
    const args = [...device, "--socket-path", socket];
    return new MigratingHost(name, socket, args, await Ferry.start(args));
  }

  get control(): string {
    return `${this.socket}.ctl`;
  }

  get journal(): string {
    return `${this.socket}.journal`;
  }

  /** Everything that its processes have logged. */
  get lines(): readonly LogLine[] {
    return [...this.#before, ...this.ferry.lines];
  }

  /** What is durably decided, read as an operator would who has only the file. */
  get records(): readonly JournalRecord[] {
    if (!existsSync(this.journal)) return [];
    const lines = readFileSync(this.journal, "utf8").split("\n").slice(0, -1);
    return lines.map((line) => JSON.parse(line.slice(9)) as JournalRecord);
  }

  /** Calls a method of the control socket. */
  async ask(method: string, request: object = {}): Promise<unknown> {
    return await askControl(this.control, { ...request, method }, { timeoutMs: answerMs });
  }

  async status(): Promise<HostStatus> {
    return (await this.ask("migrate-status")) as HostStatus;
  }

  /** Makes a place for a device, at `listen`. */
  async offer(request: object): Promise<{ readonly token: string; readonly address: string }> {
    return (await this.ask("migrate-offer", request)) as { token: string; address: string };
  }

  /** Moves the device; ends with the move. */
  async migrate(request: object): Promise<MoveEnd> {
    return (await askControl(this.control, { ...request, method: "migrate" })) as MoveEnd;
  }

  async load(request: object): Promise<MoveEnd> {
    return (await askControl(this.control, { ...request, method: "migrate-load" })) as MoveEnd;
  }

  /** Waits for the pause before a phase. */
  async pauses(before: string, times = 1): Promise<void> {
    await this.ferry.hears((line) => line.before === before, `paused before ${before}`, times);
  }

  /** Requests of the guest's that the device has completed in this process, by its own count. */
  async completed(): Promise<number> {
    const { devices } = (await this.ask("probe")) as {
      readonly devices: ReadonlyArray<{ readonly counters: Readonly<Record<string, number>> }>;
    };
    return devices[0]?.counters["requests completed"] ?? 0;
  }

  /** Waits until a status has come that fits. */
  async becomes(fits: (status: HostStatus) => boolean, what: string): Promise<HostStatus> {
    const endMs = Date.now() + answerMs;
    for (;;) {
      const status = await this.status();
      if (fits(status)) return status;
      if (Date.now() > endMs) throw new Error(`${this.name} never became ${what}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  /** Waits until no client is connected. */
  async free(): Promise<void> {
    await this.becomes(({ port }) => !port.connected, "free");
  }

  /** Waits until no migration goes on. */
  async idle(): Promise<HostStatus> {
    const isOver = ({ migration, port }: HostStatus): boolean =>
      port.master === "none" && migration?.report.outcome !== null;
    return await this.becomes(isOver, "idle");
  }

  /** Ends the process without a word, as a crash does. */
  async kill(): Promise<void> {
    this.ferry.process.kill("SIGKILL");
    await this.ferry.exited;
  }

  /** Serves again after it was killed, with the same command line. */
  async restart(): Promise<void> {
    this.#before.push(...this.ferry.lines);
    this.ferry = await Ferry.start(this.#args);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.ferry[Symbol.asyncDispose]();
  }
}
