/**
 * A way to whoever answers questions, each a line of JSON, as a server's control socket and a VMM's
 * monitor do: something happens before a question is passed on, or to it.
 */
import { connect, createServer, type Server, type Socket } from "node:net";
import { createInterface } from "node:readline";
import type { ControlRequest } from "../../src/host/control-line.ts";

export class ControlRelay<Question = ControlRequest> {
  /** Where to ask instead. */
  readonly path: string;
  readonly #server: Server;
  readonly #sockets = new Set<Socket>();

  /** `before` is told each question, which waits for it; one that it returns is asked instead. */
  constructor(
    path: string,
    control: string,
    before: (question: Question) => Promise<Question | void>,
  ) {
    this.path = path;
    this.#server = createServer((asking) => {
      const answering = connect(control);
      this.#keep(asking);
      this.#keep(answering);
      answering.pipe(asking);
      asking.on("close", () => answering.destroy());
      // One that was killed with a question unread does not end, it breaks off.
      answering.on("close", () => asking.end());
      createInterface({ input: asking }).on("line", (line) => {
        const question = JSON.parse(line) as Question;
        void before(question).then((other) => {
          answering.write(`${JSON.stringify(other ?? question)}\n`);
        });
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
