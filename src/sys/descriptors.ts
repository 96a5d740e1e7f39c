/** File descriptors as plain numbers: eventfds, memfds, sizes and seals. */
import { readlinkSync } from "node:fs";
import { errno } from "../base/errno.ts";
import { readU53 } from "../base/struct.ts";
import { Arena } from "./arena.ts";
import * as k from "./constants.ts";
import * as libc from "./libc.ts";

const atEmptyPath = 0x1000;
const statxSizeMask = 0x200;
const statxMode = 28;
const statxSize = 40;
const modeFormat = 0o170000;
const modeRegular = 0o100000;
const hugetlbfsMagic = 0x958458f6;

const scratch = new Arena(4096);
const oneAt = 2048;
const countAt = 2064;
const pollAt = 3072;
scratch.view.setUint32(oneAt, 1, true);

/** Eventfds of others that were not opened non-blocking: a full one would hold its writer. */
const blocking = new Set<number>();

/** Closes a descriptor; -1 is nothing to close. */
export function closeFd(fd: number): void {
  if (fd < 0) return;
  libc.close(fd);
  blocking.delete(fd);
}

/** A second descriptor of the same open file, close-on-exec; or a negated errno. */
export function duplicate(fd: number): number {
  return libc.fcntl(fd, k.F_DUPFD_CLOEXEC, 3);
}

/** A non-blocking, close-on-exec eventfd with the value `initial`; or a negated errno. */
export function createEventfd(initial = 0): number {
  return libc.eventfd(initial, k.EFD_NONBLOCK | k.EFD_CLOEXEC);
}

/**
 * Whether a descriptor that somebody sent is an eventfd; if so, it may be signalled and drained
 * from
 * here on without a wait, however it was opened. Its flags stay as they are: the sender shares
 * them.
 */
export function adoptEventfd(fd: number): boolean {
  let name: string;
  try {
    name = readlinkSync(`/proc/self/fd/${fd}`);
  } catch {
    return false;
  }
  if (name !== "anon_inode:[eventfd]") return false;
  if ((libc.fcntl(fd, k.F_GETFL, 0) & k.O_NONBLOCK) === 0) blocking.add(fd);
  return true;
}

function isReady(fd: number, events: number): boolean {
  scratch.view.setInt32(pollAt, fd, true);
  scratch.view.setUint32(pollAt + 4, events, true);
  return libc.poll(scratch.address + pollAt, 1, 0) > 0;
}

/** Adds one to an eventfd. A full counter (EAGAIN) already says what we want to say. */
export function signalEventfd(fd: number): number {
  if (blocking.size > 0 && blocking.has(fd) && !isReady(fd, k.POLLOUT)) return -errno.EAGAIN;
  return libc.write(fd, scratch.address + oneAt, 8);
}

/** Adds `count`, of 32 bits, likewise. One that blocks its writer is only certain to take one. */
export function addEventfd(fd: number, count: number): number {
  if (count === 1 || (blocking.size > 0 && blocking.has(fd))) return signalEventfd(fd);
  scratch.view.setUint32(countAt, count, true);
  return libc.write(fd, scratch.address + countAt, 8);
}

/** Takes an eventfd's count, which falls to 0; 0 when there is none, or a negated errno. */
export function drainEventfd(fd: number): number {
  if (blocking.size > 0 && blocking.has(fd) && !isReady(fd, k.POLLIN)) return 0;
  const result = libc.read(fd, scratch.address, 8);
  if (result === -errno.EAGAIN) return 0;
  return result < 0 ? result : readU53(scratch.view, 0);
}

/** An anonymous file of `size` bytes, close-on-exec, sealable; or a negated errno. */
export function createMemfd(name: string, size: number): number {
  const fd = libc.memfdCreate(name, k.MFD_CLOEXEC | k.MFD_ALLOW_SEALING);
  if (fd < 0) return fd;
  const result = libc.ftruncate(fd, size);
  if (result === 0) return fd;
  libc.close(fd);
  return result;
}

/** Sets a file's size in bytes; 0 or a negated errno. */
export const resizeFile = (fd: number, size: number): number => libc.ftruncate(fd, size);

/** Adds seals (`F_SEAL_*`); 0 or a negated errno. */
export const addSeals = (fd: number, seals: number): number => libc.fcntl(fd, k.F_ADD_SEALS, seals);

/** The file's seals, or a negated errno (EINVAL for a file that cannot be sealed). */
export const sealsOf = (fd: number): number => libc.fcntl(fd, k.F_GET_SEALS, 0);

/** A regular file's size in bytes; ENODEV for anything that is not a regular file. */
export function fileSize(fd: number): number {
  const result = libc.statx(fd, "", atEmptyPath, statxSizeMask | 1, scratch.address);
  if (result < 0) return result;
  const format = scratch.view.getUint16(statxMode, true) & modeFormat;
  return format === modeRegular ? readU53(scratch.view, statxSize) : -errno.ENODEV;
}

/** True when the file lives on hugetlbfs, whose missing pages are a SIGBUS rather than an errno. */
export function isHugetlb(fd: number): boolean {
  return (
    libc.fstatfs(fd, scratch.address) === 0 && scratch.view.getUint32(0, true) === hugetlbfsMagic
  );
}

/** True when the descriptor was opened for writing too. */
export function isWritable(fd: number): boolean {
  const flags = libc.fcntl(fd, k.F_GETFL, 0);
  return flags >= 0 && (flags & k.O_ACCMODE) === k.O_RDWR;
}

/** True when the descriptor is open. */
export const isOpen = (fd: number): boolean => libc.fcntl(fd, k.F_GETFL, 0) >= 0;
