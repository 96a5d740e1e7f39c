import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { FerryError, messageOf } from "../base/errors.ts";
import { descriptorOf, isOurs } from "./peer.ts";

/** The longest request line; requests are a method and a few names. */
export const requestBytesMax = 65_536;
/** Connections at once: a VF that leaves a host takes one, and whoever watches it another. */
export const connectionsMax = 256;

/** How long one that is turned away may take to hear why. */
const turnAwayMs = 1000;

/** Bytes that a slow reader has not read before events for it are left out. */
const unreadMax = 1024 * 1024;

/**
 * A method of the control socket: takes the request's object, answers with an object. What it emits
 * goes out before its answer; `gone` is given when whoever asked is there no more.
 */
export type Method = (
  request: Readonly<Record<string, unknown>>,
  emit: (event: unknown) => void,
  gone: AbortSignal,
) => Promise<unknown>;

/**
 * The operator's way in: one JSON object a line, `{"method": "probe"}`, answered with one line,
 * either the method's answer or `{"error": "...", "code": "..."}`; before it may come any number of
 * lines `{"event": ...}`. Only processes of the same user, and root's, are heard.
 */
export class ControlSocket {
  readonly path: string;
  readonly #methods: Readonly<Record<string, Method>>;
  readonly #server: Server;
  readonly #open = new Set<Socket>();

  private constructor(path: string, methods: Readonly<Record<string, Method>>) {
    this.path = path;
    this.#methods = methods;
    this.#server = createServer((socket) => this.#greet(socket));
  }

  /** Listens on `path`; a file that is there is left over from a process that has gone. */
  static async listen(
    path: string,
    methods: Readonly<Record<string, Method>>,
  ): Promise<ControlSocket> {
    const control = new ControlSocket(path, methods);
    rmSync(path, { force: true });
    await new Promise<void>((resolve, reject) => {
      control.#server.once("error", reject);
      control.#server.listen(path, () => resolve());
    });
    chmodSync(path, 0o600);
    return control;
  }

  #greet(socket: Socket): void {
    if (!isOurs(descriptorOf(socket))) {
      socket.destroy();
      return;
    }
    socket.on("error", () => socket.destroy());
    if (this.#open.size >= connectionsMax) {
      turnAway(socket, full(this.path));
      return;
    }
    this.#open.add(socket);
    const gone = new AbortController();
    let pending = "";
    socket.setEncoding("utf8");
    socket.on("close", () => {
      this.#open.delete(socket);
      gone.abort();
    });
    socket.on("data", (text: string) => {
      const lines = (pending + text).split("\n");
      pending = lines.pop() ?? "";
      if (pending.length > requestBytesMax) socket.destroy();
      for (const line of lines) void this.#answer(socket, line, gone.signal);
    });
  }

  async #answer(socket: Socket, line: string, gone: AbortSignal): Promise<void> {
    const emit = (event: unknown): void => {
      if (socket.writableLength <= unreadMax) say(socket, { event });
    };
    say(socket, await this.#call(line, emit, gone).catch(refusal));
  }

  async #call(line: string, emit: (event: unknown) => void, gone: AbortSignal): Promise<unknown> {
    const request: unknown = JSON.parse(line);
    if (typeof request !== "object" || request === null) throw new Error("a request is an object");
    const { method } = request as { method?: unknown };
    const known = Object.keys(this.#methods);
    if (typeof method !== "string" || !known.includes(method)) {
      throw new Error(`unknown method ${JSON.stringify(method)}; known are ${known.join(", ")}`);
    }
    return await (this.#methods[method] as Method)(request as Record<string, unknown>, emit, gone);
  }

  /** Closes every connection; `keepFile` leaves the path to a successor. */
  close(keepFile = false): void {
    for (const socket of this.#open) socket.destroy();
    this.#server.close();
    if (!keepFile) rmSync(this.path, { force: true });
  }
}

function say(socket: Socket, answer: unknown): void {
  if (!socket.writable) return;
  // Lines of one moment go out together, and wake their reader once.
  socket.cork();
  process.nextTick(() => socket.uncork());
  socket.write(`${JSON.stringify(answer)}\n`);
}

/** What it asks is read and thrown away: a socket that is closed on it would lose our answer. */
function turnAway(socket: Socket, why: FerryError): void {
  say(socket, refusal(why));
  socket.setTimeout(turnAwayMs, () => socket.destroy());
  socket.end();
  socket.resume();
}

const full = (path: string): FerryError =>
  new FerryError("busy", `${path} has ${connectionsMax} connections, and takes no more.`);

const refusal = (thrown: unknown): object => ({
  error: messageOf(thrown),
  ...(thrown instanceof FerryError ? { code: thrown.code } : {}),
});
