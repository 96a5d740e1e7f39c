/** A way to a socket, as a process in between has it: it can break off, or say nothing any more. */
import { connect, createServer, type Server, type Socket } from "node:net";

export class LinkRelay {
  /** Where to connect instead. */
  readonly path: string;
  readonly #server: Server;
  readonly #pairs = new Set<readonly [Socket, Socket]>();
  #state: "whole" | "broken" | "silent" = "whole";

  /** `to` says where it leads, once somebody comes. */
  constructor(path: string, to: () => string) {
    this.path = path;
    this.#server = createServer((calling) => this.#join(calling, connect(to())));
    this.#server.listen(path);
  }

  #join(calling: Socket, called: Socket): void {
    const pair = [calling, called] as const;
    this.#pairs.add(pair);
    for (const socket of pair) {
      socket.on("error", () => {});
      socket.on("close", () => {
        if (this.#state !== "silent") this.#part(pair);
      });
    }
    if (this.#state === "broken") this.#part(pair);
    if (this.#state !== "whole") return;
    calling.pipe(called);
    called.pipe(calling);
  }

  #part(pair: readonly [Socket, Socket]): void {
    this.#pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  }

  /** It breaks off, for whoever comes anew too. */
  async crash(): Promise<void> {
    this.#state = "broken";
    for (const pair of this.#pairs) this.#part(pair);
  }

  /** Nothing comes through, and nobody hears that, as with a cable that was pulled. */
  halt(): void {
    this.#state = "silent";
    for (const [calling, called] of this.#pairs) {
      calling.unpipe().pause();
      called.unpipe().pause();
    }
  }

  /** It is mended: whoever comes anew gets through. */
  resume(): void {
    for (const pair of this.#pairs) this.#part(pair);
    this.#state = "whole";
  }

  close(): void {
    this.#server.close();
    void this.crash();
  }
}
