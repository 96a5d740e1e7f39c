import { resolve } from "node:path";
import { FerryError } from "../base/errors.ts";
import type { Place } from "../host/host.ts";
import { isListening, isSocket, setNonBlocking } from "../sys/unix.ts";
import { inheritedFds } from "./listen-fds.ts";

interface PlaceOptions {
  readonly socketPath?: string;
  readonly fd?: number;
  readonly count: number;
}

/** Where a command line has devices served: one place a device. */
export function placesOf(options: PlaceOptions): Place[] {
  const { socketPath, fd, count } = options;
  if (count === 0) throw new FerryError("usage", "--count 0 serves nothing: say 1 or more.");
  if (socketPath !== undefined) {
    if (count > 1 && !socketPath.includes("{n}")) {
      throw new FerryError(
        "usage",
        "with --count, --socket-path needs {n} for the device's number.",
      );
    }
    const numbers = Array.from({ length: count }, (_, i) => String(i));
    return numbers.map((n) => ({ socketPath: resolve(socketPath.replaceAll("{n}", n)) }));
  }
  const fds = fd === undefined ? inheritedFds(process.env, process.pid) : [fd];
  if (fds.length === 0) {
    throw new FerryError("usage", "say where to listen: --socket-path PATH, --fd N or LISTEN_FDS.");
  }
  return fds.map(placeOfFd);
}

function placeOfFd(fd: number): Place {
  if (!isSocket(fd)) throw new FerryError("no-socket", `descriptor ${fd} is not a socket.`);
  if (!isListening(fd)) return { connectedFd: fd };
  // A service manager gives one that blocks: the main thread would wait in accept.
  setNonBlocking(fd, true);
  return { listenFd: fd };
}
