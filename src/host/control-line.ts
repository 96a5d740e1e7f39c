/** Asking a control socket: a line of JSON each way, and lines that tell of events in between. */
import { existsSync } from "node:fs";
import { connect, type Socket } from "node:net";
import { resolve } from "node:path";
import { FerryError } from "../base/errors.ts";

/** The longest line that is read: a description of a device is some kilobytes. */
export const answerBytesMax = 4 * 1024 * 1024;

/** Where the control socket of a server is unless somebody says otherwise. */
export const controlPathOf = (socketPath: string): string => `${socketPath}.ctl`;

/**
 * Where a server is asked: the control socket of a served socket, or that itself. The server knows
 * the socket by its whole path.
 */
export function controlOf(path: string): { readonly control: string; readonly device?: string } {
  const control = controlPathOf(path);
  return existsSync(control) ? { control, device: resolve(path) } : { control: path };
}

/** A method's name and what it takes. */
export interface ControlRequest {
  readonly method: string;
  readonly [argument: string]: unknown;
}

/** Is told what happens before the answer. */
export type Hear = (event: unknown) => void;

interface Line {
  readonly event?: unknown;
  readonly error?: unknown;
  readonly code?: unknown;
}

function parse(text: string): Line | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" ? value : null;
  } catch {
    return null;
  }
}

/** The question that is on its way. */
interface Question {
  readonly hear: Hear;
  readonly resolve: (answer: unknown) => void;
  readonly reject: (error: FerryError) => void;
}

/** A connection to a control socket, for one question at a time. */
export class ControlLine {
  readonly #path: string;
  readonly #socket: Socket;
  readonly #timeoutMs: number;
  #pending = "";
  #question: Question | null = null;
  #failure: FerryError | null = null;

  private constructor(path: string, socket: Socket, timeoutMs: number) {
    this.#path = path;
    this.#socket = socket;
    this.#timeoutMs = timeoutMs;
    socket.on("timeout", () => this.fail("did not answer in time"));
    socket.setEncoding("utf8");
    socket.on("error", (error) => this.fail(`cannot be used: ${error.message}`));
    socket.on("end", () => this.fail("ended without an answer"));
    socket.on("data", (text: string) => this.#read(text));
  }

  /**
   * Connects in the background: whoever asks hears of it when that fails. A silence of `timeoutMs`
   * milliseconds after a question ends it; 0 bears any.
   */
  static open(path: string, timeoutMs = 0): ControlLine {
    return new ControlLine(path, connect(path), timeoutMs);
  }

  /** It has ended: nothing can be asked any more. */
  get failed(): boolean {
    return this.#failure !== null;
  }

  /** Ends the connection, and with it the question that is on its way, if any. */
  fail(why: string): void {
    this.#socket.destroy();
    this.#failure ??= new FerryError("no-control", `the control socket ${this.#path} ${why}.`);
    this.#settle()?.reject(this.#failure);
  }

  #settle(): Question | null {
    const question = this.#question;
    this.#question = null;
    this.#socket.setTimeout(0);
    return question;
  }

  #read(text: string): void {
    const lines = (this.#pending + text).split("\n");
    this.#pending = lines.pop() ?? "";
    if (this.#pending.length > answerBytesMax) this.fail("answered without end");
    for (const line of lines) this.#take(line);
  }

  #take(text: string): void {
    const line = parse(text);
    if (line === null) this.#settle()?.reject(notJson(this.#path));
    else if (line.event !== undefined) this.#question?.hear(line.event);
    else if (line.error === undefined) this.#settle()?.resolve(line);
    else this.#settle()?.reject(refusal(this.#path, line));
  }

  /**
   * Calls a method and gives its answer's object. Throws a FerryError: with the code and sentence
   * of a refusal, or `bad-answer`, or `no-control` when the connection is lost.
   */
  async ask(request: ControlRequest, hear: Hear = () => {}): Promise<unknown> {
    if (this.#failure !== null) throw this.#failure;
    return await new Promise((resolve, reject) => {
      this.#question = { hear, resolve, reject };
      this.#socket.setTimeout(this.#timeoutMs);
      this.#socket.write(`${JSON.stringify(request)}\n`);
    });
  }

  /** Nothing more is asked. */
  close(): void {
    this.#socket.destroy();
  }
}

const notJson = (path: string): FerryError =>
  new FerryError("bad-answer", `${path} answered with something that is not JSON.`);

function refusal(path: string, { error, code }: Line): FerryError {
  if (code !== undefined) return new FerryError(String(code), String(error));
  return new FerryError("control-refused", `${path} refused: ${String(error)}.`);
}

/** How a single question is asked. */
export interface AskOptions {
  readonly hear?: Hear | undefined;
  /** Milliseconds of silence after which it is given up; for ever if it is not said, or 0. */
  readonly timeoutMs?: number;
  /** Whoever has heard enough gives this signal. */
  readonly enough?: AbortSignal;
}

/** Asks one question on a connection of its own, as `ControlLine.ask`. */
export async function askControl(
  path: string,
  request: ControlRequest,
  { hear, timeoutMs = 0, enough }: AskOptions = {},
): Promise<unknown> {
  const line = ControlLine.open(path, timeoutMs);
  enough?.addEventListener("abort", () => line.fail("was left"));
  try {
    return await line.ask(request, hear);
  } finally {
    line.close();
  }
}
