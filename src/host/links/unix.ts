import { chmodSync, rmSync } from "node:fs";
import { connect, createServer, Socket } from "node:net";
import { FerryError, messageOf } from "../../base/errors.ts";
import type { Link } from "../../migration/hosts/link.ts";
import { duplicate } from "../../sys/descriptors.ts";
import { descriptorOf, isOurs } from "../peer.ts";
import type { Listener } from "./listener.ts";
import { StreamLink } from "./stream-link.ts";

/** What the other end of a unix socket is called: a process of the same user, or root's. */
export const localPeer = "local";
const connectionsMax = 16;

/** Connects to a unix socket; throws `no-peer` when nobody listens there. */
export async function dialUnix(path: string): Promise<Link> {
  const { onread, linkOf } = StreamLink.beforehand();
  return await new Promise((resolve, reject) => {
    const socket = connect({ path, onread } as never);
    socket.once("error", (error) => {
      reject(new FerryError("no-peer", `nobody can be reached at ${path}: ${error.message}.`));
    });
    socket.once("connect", () => {
      if (isOurs(descriptorOf(socket))) return resolve(linkOf([localPeer], socket));
      socket.destroy();
      reject(new FerryError("no-peer", `${path} is another user's: it gets no guest's state.`));
    });
  });
}

/** Listens on a path that only this user can connect to. */
export async function listenUnixLink(path: string, greet: (link: Link) => void): Promise<Listener> {
  const server = createServer({ pauseOnConnect: true }, (accepted) => {
    const socketFd = descriptorOf(accepted);
    const fd = isOurs(socketFd) ? duplicate(socketFd) : -1;
    accepted.destroy();
    if (fd < 0) return;
    // A server makes its sockets without `onread`; one made of their descriptor can have it.
    const { onread, linkOf } = StreamLink.beforehand();
    const socket = new Socket({ fd, readable: true, writable: true, onread } as never);
    greet(linkOf([localPeer], socket));
    socket.resume();
  });
  server.maxConnections = connectionsMax;
  rmSync(path, { force: true });
  await new Promise<void>((resolve, reject) => {
    server.once("error", (error) => {
      reject(new FerryError("cannot-listen", `cannot listen on ${path}: ${messageOf(error)}.`));
    });
    server.listen(path, () => resolve());
  });
  chmodSync(path, 0o600);
  return { address: { kind: "unix", path }, close: () => server.close() };
}
