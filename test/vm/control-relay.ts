/** A way to a server's control socket on which something happens before a question is passed on. */
import { connect, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";

export class ControlRelay {
  /** Where to ask instead. */
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** `before` is told each method that is asked; the question waits for it. */
  constructor(path: string, control: string, before: (method: string) => Promise<void>) {
    this.path = path;
    this.#server = createServer((asking) => {
      const answering = connect(control);
      this.#keep(asking);
      this.#keep(answering);
      answering.pipe(asking);
      asking.on("close", () => answering.destroy());
      createInterface({ input: asking }).on("line", (line) => {
        const { method } = JSON.parse(line) as { readonly method: string };
        void before(method).then(() => answering.write(`${line}\n`));
      });
    });
    this.#server.listen(path);
  }

  #keep(socket: Socket): void {
    this.#sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => this.#sockets.delete(socket));
  }

  close(): void {
    this.#server.close();
    for (const socket of this.#sockets) socket.destroy();
  }
}
