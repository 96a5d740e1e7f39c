/** A client of QMP, QEMU's control protocol: one JSON object a line (docs/interop/qmp-spec). */
import type { Socket } from "node:net";
import { createInterface } from "node:readline";
import { within } from "./deadline.ts";

export type QmpArguments = Readonly<Record<string, unknown>>;

export interface QmpEvent {
  readonly event: string;
  readonly data?: Readonly<Record<string, unknown>>;
}

interface QmpAnswer {
  readonly id?: number;
  readonly return?: unknown;
  readonly error?: { readonly class: string; readonly desc: string };
}

interface Waiting {
  readonly command: string;
  readonly resolve: (value: unknown) => void;
  readonly reject: (error: Error) => void;
}

const answerTimeoutMs = 30_000;

export class QmpClient {
  readonly #socket: Socket;
  readonly #waiting = new Map<number, Waiting>();
  readonly #events: QmpEvent[] = [];
  readonly #listeners = new Set<() => void>();
  readonly #closed: Promise<never>;
  #lastId = 0;

  private constructor(socket: Socket) {
    this.#socket = socket;
    const lines = createInterface({ input: socket });
    lines.on("line", (line) => this.#receive(line));
    // A QEMU that was killed resets the connection: "close" rejects what was asked of it.
    lines.on("error", () => {});
    socket.on("error", () => {});
    this.#closed = new Promise((_, reject) => {
      socket.on("close", () => reject(new Error("QEMU closed its control connection.")));
    });
    // Whoever waits for something hears of it; at other times nobody need.
    this.#closed.catch(() => {});
  }

  /** Takes over a fresh connection and leaves QMP's negotiation mode. */
  static async open(socket: Socket): Promise<QmpClient> {
    const client = new QmpClient(socket);
    await client.execute("qmp_capabilities");
    return client;
  }

  /** Runs a command and returns what it returned; QEMU's refusal is an Error with its sentence. */
  execute(command: string, args: QmpArguments = {}): Promise<unknown> {
    const id = ++this.#lastId;
    const answer = new Promise((resolve, reject) => {
      this.#waiting.set(id, { command, resolve, reject });
      this.#socket.write(`${JSON.stringify({ execute: command, arguments: args, id })}\n`);
    });
    const what = () => `answer to QMP ${command}`;
    return within(Promise.race([answer, this.#closed]), answerTimeoutMs, what);
  }

  /** Runs a command of QEMU's human monitor and returns its text. */
  async human(commandLine: string): Promise<string> {
    return String(await this.execute("human-monitor-command", { "command-line": commandLine }));
  }

  /** Waits for an event, which may have come already; takes it off the list. */
  event(
    name: string,
    timeoutMs: number,
    matches: (event: QmpEvent) => boolean = () => true,
  ): Promise<QmpEvent> {
    let take: () => void = () => {};
    const found = new Promise<QmpEvent>((resolve) => {
      take = () => {
        const index = this.#events.findIndex((event) => event.event === name && matches(event));
        const [event] = index < 0 ? [] : this.#events.splice(index, 1);
        if (event !== undefined) resolve(event);
      };
      this.#listeners.add(take);
      take();
    });
    const waited = within(Promise.race([found, this.#closed]), timeoutMs, () => `event ${name}`);
    return waited.finally(() => this.#listeners.delete(take));
  }

  close(): void {
    this.#socket.destroy();
  }

  #receive(line: string): void {
    const message = JSON.parse(line) as QmpAnswer & QmpEvent;
    if (message.event !== undefined) {
      this.#events.push(message);
      for (const take of this.#listeners) take();
      return;
    }
    const waiting = message.id === undefined ? undefined : this.#waiting.get(message.id);
    if (waiting === undefined) return;
    this.#waiting.delete(message.id!);
    if (message.error === undefined) waiting.resolve(message.return);
    else waiting.reject(new Error(`QMP ${waiting.command}: ${message.error.desc}`));
  }
}
