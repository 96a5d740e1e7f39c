import type { Socket } from "node:net";
import { peerUser } from "../sys/unix.ts";

/** The descriptor of a connected socket; -1 where there is none any more. */
export function descriptorOf(socket: Socket): number {
  // Node keeps it in the handle and offers no other way to it.
  const { _handle: handle } = socket as unknown as { readonly _handle?: { readonly fd?: unknown } };
  return typeof handle?.fd === "number" ? handle.fd : -1;
}

/** True when a process of this user's, or root's, is at the other end of a unix socket. */
export function isOurs(socket: number): boolean {
  const user = peerUser(socket);
  return user === 0 || user === process.getuid?.();
}
