/** Unix sockets on which the test listens and QEMU calls, so that nobody has to retry. */
import { createServer, type Socket } from "node:net";

export interface Listener {
  /** The one connection that was made. Rejects when the listener was closed first. */
  readonly connection: Promise<Socket>;
  close(): void;
}

/** Listens at `path` until the first caller is there. */
export function listenForOne(path: string): Promise<Listener> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    const connection = new Promise<Socket>((connected, refused) => {
      server.once("connection", (socket) => {
        server.close();
        connected(socket);
      });
      server.once("close", () => refused(new Error(`nobody connected to ${path}`)));
    });
    // Whoever waits for the connection sees the refusal; nobody need be waiting at that moment.
    connection.catch(() => {});
    server.once("error", reject);
    server.listen(path, () => resolve({ connection, close: () => server.close() }));
  });
}
