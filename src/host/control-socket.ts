import { chmodSync, rmSync } from "node:fs";
import { createServer, type Server, type Socket } from "node:net";
import { messageOf } from "../base/errors.ts";

/** The longest request line; requests are a method and a few names. */
export const requestBytesMax = 65_536;
/** Connections at once. */
const connectionsMax = 16;

/** A method of the control socket: takes the request's object, answers with an object. */
export type Method = (request: Readonly<Record<string, unknown>>) => Promise<unknown>;

/**
 * The operator's way in: one JSON object a line, `{"method": "probe"}`, answered with one line,
 * either the method's answer or `{"error": "..."}`. Only the socket file's owner can connect.
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
    this.#server.maxConnections = connectionsMax;
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
    this.#open.add(socket);
    let pending = "";
    socket.setEncoding("utf8");
    socket.on("close", () => this.#open.delete(socket));
    socket.on("error", () => socket.destroy());
    socket.on("data", (text: string) => {
      const lines = (pending + text).split("\n");
      pending = lines.pop() ?? "";
      if (pending.length > requestBytesMax) socket.destroy();
      for (const line of lines) void this.#answer(socket, line);
    });
  }

  async #answer(socket: Socket, line: string): Promise<void> {
    const answer = await this.#call(line).catch((error: unknown) => ({ error: messageOf(error) }));
    if (socket.writable) socket.write(`${JSON.stringify(answer)}\n`);
  }

  async #call(line: string): Promise<unknown> {
    const request: unknown = JSON.parse(line);
    if (typeof request !== "object" || request === null) throw new Error("a request is an object");
    const { method } = request as { method?: unknown };
    const known = Object.keys(this.#methods);
    if (typeof method !== "string" || !known.includes(method)) {
      throw new Error(`unknown method ${JSON.stringify(method)}; known are ${known.join(", ")}`);
    }
    return await (this.#methods[method] as Method)(request as Record<string, unknown>);
  }

  /** Closes every connection; `keepFile` leaves the path to a successor. */
  close(keepFile = false): void {
    for (const socket of this.#open) socket.destroy();
    this.#server.close();
    if (!keepFile) rmSync(this.path, { force: true });
  }
}
