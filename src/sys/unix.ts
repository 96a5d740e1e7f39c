/** Unix stream sockets by path: listening, connecting, stale files. */
import { existsSync, lstatSync, unlinkSync } from "node:fs";
import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import { Arena } from "./arena.ts";
import * as k from "./constants.ts";
import * as libc from "./libc.ts";

/** `sun_path` holds 108 bytes including the NUL. */
export const pathBytesMax = 107;

const scratch = new Arena(4096);
/** Where in it a datagram is put together. */
const datagramAt = 1024;

function address(path: string): number {
  const bytes = Buffer.from(path);
  if (bytes.length > pathBytesMax) {
    const what = `socket path ${path} has ${bytes.length} bytes`;
    throw new FerryError(
      "path-too-long",
      `${what}; unix sockets allow ${pathBytesMax}. Choose a shorter one.`,
    );
  }
  scratch.bytes.fill(0, 0, 110);
  scratch.view.setUint16(0, k.AF_UNIX, true);
  scratch.bytes.set(bytes, 2);
  return 2 + bytes.length + 1;
}

function streamSocket(flags = 0): number {
  const fd = libc.socket(k.AF_UNIX, k.SOCK_STREAM | k.SOCK_CLOEXEC | flags, 0);
  if (fd < 0) throw new FerryError("no-socket", `cannot make a socket: ${errnoName(fd)}`);
  return fd;
}

/**
 * Sends one datagram to a path, or to an abstract name that begins with "@", without waiting; the
 * count of bytes, or a negated errno.
 */
export function sendDatagram(path: string, text: string): number {
  const isAbstract = path.startsWith("@");
  const named = address(path) - (isAbstract ? 1 : 0);
  if (isAbstract) scratch.bytes[2] = 0;
  const bytes = Buffer.from(text).subarray(0, scratch.size - datagramAt);
  scratch.bytes.set(bytes, datagramAt);
  const fd = libc.socket(k.AF_UNIX, k.SOCK_DGRAM | k.SOCK_CLOEXEC, 0);
  if (fd < 0) return fd;
  const connected = libc.connect(fd, scratch.address, named);
  const flags = k.MSG_NOSIGNAL | k.MSG_DONTWAIT;
  const sent =
    connected < 0 ? connected : libc.send(fd, scratch.address + datagramAt, bytes.length, flags);
  libc.close(fd);
  return sent;
}

/** Connects; the descriptor, or a negated errno. `flags` are of the socket's type. */
export function connectUnix(path: string, flags = 0): number {
  const length = address(path);
  const fd = streamSocket(flags);
  const result = libc.connect(fd, scratch.address, length);
  if (result === 0) return fd;
  libc.close(fd);
  return result;
}

/** Two connected stream sockets. */
export function socketPair(): [number, number] {
  const type = k.SOCK_STREAM | k.SOCK_CLOEXEC;
  const result = libc.socketpair(k.AF_UNIX, type, 0, scratch.address);
  if (result < 0) throw new FerryError("no-socket", `cannot make sockets: ${errnoName(result)}`);
  return [scratch.view.getInt32(0, true), scratch.view.getInt32(4, true)];
}

/** Whether somebody listens on a path, whose file is there a moment before and may be left over. */
export function isServed(path: string): boolean {
  // Non-blocking: a listener with a full backlog is alive, and would let us wait.
  const probe = connectUnix(path, k.SOCK_NONBLOCK);
  if (probe >= 0) libc.close(probe);
  return probe !== -errno.ECONNREFUSED && probe !== -errno.ENOENT;
}

/** A socket file that nobody listens on is left over from a process that died, and is removed. */
function removeStale(path: string): void {
  if (!existsSync(path)) return;
  if (!lstatSync(path).isSocket()) {
    throw new FerryError(
      "not-a-socket",
      `${path} exists and is not a socket. Remove it or choose another path.`,
    );
  }
  if (isServed(path)) {
    throw new FerryError(
      "socket-in-use",
      `another process listens on ${path}. Stop it or choose another path.`,
    );
  }
  unlinkSync(path);
}

/** Listens on a path, non-blocking; a stale socket file is replaced, a live one is an error. */
export function listenUnix(path: string, backlog: number): number {
  removeStale(path);
  const length = address(path);
  const fd = streamSocket();
  const bound = libc.bindSocket(fd, scratch.address, length);
  if (bound < 0) {
    libc.close(fd);
    throw new FerryError("cannot-bind", `cannot listen on ${path}: ${errnoName(bound)}.`);
  }
  const listening = libc.listen(fd, backlog);
  if (listening < 0) {
    libc.close(fd);
    const reason = errnoName(listening);
    throw new FerryError("cannot-listen", `cannot listen on ${path}: ${reason}.`);
  }
  setNonBlocking(fd, true);
  return fd;
}

/** Takes the next connection, blocking, close-on-exec; or a negated errno. */
export const acceptUnix = (fd: number): number => libc.accept4(fd, 0, 0, k.SOCK_CLOEXEC);

/** Switches O_NONBLOCK of an open file. */
export function setNonBlocking(fd: number, on: boolean): void {
  const flags = libc.fcntl(fd, k.F_GETFL, 0);
  const wanted = on ? flags | k.O_NONBLOCK : flags & ~k.O_NONBLOCK;
  if (flags >= 0 && flags !== wanted) libc.fcntl(fd, k.F_SETFL, wanted);
}

/** Ends a connection, or wakes whoever waits in accept. */
export const shutdownSocket = (fd: number): number => libc.shutdown(fd, k.SHUT_RDWR);

/** Reads `struct ucred` of the other end of a unix socket; false where the kernel does not tell. */
function readCredentials(fd: number): boolean {
  scratch.view.setUint32(512, 12, true);
  const value = scratch.address + 256;
  return libc.getsockopt(fd, k.SOL_SOCKET, k.SO_PEERCRED, value, scratch.address + 512) >= 0;
}

/** The process at the other end of a unix socket, or 0 where the kernel does not tell. */
export const peerProcess = (fd: number): number =>
  readCredentials(fd) ? scratch.view.getInt32(256, true) : 0;

/** The user of the process at the other end of a unix socket, or -1. */
export const peerUser = (fd: number): number =>
  readCredentials(fd) ? scratch.view.getUint32(260, true) : -1;

function socketOption(fd: number, option: number): number {
  scratch.view.setUint32(512, 4, true);
  const value = scratch.address + 256;
  const result = libc.getsockopt(fd, k.SOL_SOCKET, option, value, scratch.address + 512);
  return result < 0 ? result : scratch.view.getInt32(256, true);
}

/** True for a stream socket. */
export const isSocket = (fd: number): boolean => socketOption(fd, k.SO_TYPE) === k.SOCK_STREAM;

/** True for a socket that takes connections. */
export const isListening = (fd: number): boolean => socketOption(fd, k.SO_ACCEPTCONN) === 1;
