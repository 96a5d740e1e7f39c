/** What the kernel says of an open file, and reading and writing it through a bounce buffer. */
import { errno } from "../base/errno.ts";
import { readU53 } from "../base/struct.ts";
import { Arena } from "../sys/arena.ts";
import { F_GETFL, O_ACCMODE, O_RDWR, O_WRONLY } from "../sys/constants.ts";
import { fcntl, pread, pwrite, statx } from "../sys/libc.ts";

const atEmptyPath = 0x1000;
const statxMask = { type: 0x1, mode: 0x2, inode: 0x100, size: 0x200, birth: 0x800 } as const;
const wanted = statxMask.type | statxMask.mode | statxMask.inode | statxMask.size | statxMask.birth;
/** `struct statx`, by byte offset. */
const statxAt = {
  mask: 0,
  mode: 28,
  inode: 32,
  size: 40,
  birthSeconds: 80,
  birthNanoseconds: 88,
  deviceMajor: 136,
  deviceMinor: 140,
} as const;
const modeFormat = 0o170000;
const modeRegular = 0o100000;
const appends = 0o2000;

const scratch = new Arena(4096);

/**
 * What one open file is, so that many descriptors of it can be told to be the same. The time of
 * birth is there because the inode numbers of memfds come from a 32-bit counter that starts over.
 */
export class FileIdentity {
  readonly inode: number;
  readonly deviceMajor: number;
  readonly deviceMinor: number;
  readonly birthSeconds: number;
  readonly birthNanoseconds: number;
  /** The file's status flags: a descriptor for reading only is not the same as one for writing. */
  readonly flags: number;
  readonly regular: boolean;
  /** Bytes. */
  readonly size: number;

  private constructor(flags: number) {
    const view = scratch.view;
    this.inode = readU53(view, statxAt.inode);
    this.deviceMajor = view.getUint32(statxAt.deviceMajor, true);
    this.deviceMinor = view.getUint32(statxAt.deviceMinor, true);
    const born = (view.getUint32(statxAt.mask, true) & statxMask.birth) !== 0;
    this.birthSeconds = born ? readU53(view, statxAt.birthSeconds) : 0;
    this.birthNanoseconds = born ? view.getUint32(statxAt.birthNanoseconds, true) : 0;
    this.flags = flags;
    this.regular = (view.getUint16(statxAt.mode, true) & modeFormat) === modeRegular;
    this.size = readU53(view, statxAt.size);
  }

  /** Asks the kernel; a negated errno for a descriptor that is not open. */
  static of(fd: number): FileIdentity | number {
    const flags = fcntl(fd, F_GETFL, 0);
    if (flags < 0) return flags;
    const result = statx(fd, "", atEmptyPath, wanted, scratch.address);
    return result < 0 ? result : new FileIdentity(flags);
  }

  isSame(other: FileIdentity): boolean {
    return (
      this.inode === other.inode &&
      this.flags === other.flags &&
      this.birthNanoseconds === other.birthNanoseconds &&
      this.birthSeconds === other.birthSeconds &&
      this.deviceMinor === other.deviceMinor &&
      this.deviceMajor === other.deviceMajor
    );
  }

  /** Opened for reading, perhaps among other things. */
  get readable(): boolean {
    return (this.flags & O_ACCMODE) !== O_WRONLY;
  }

  /**
   * Opened for reading and writing. Linux appends whatever position a `pwrite` to an O_APPEND file
   * names, so such a file counts as read-only.
   */
  get writable(): boolean {
    return (this.flags & O_ACCMODE) === O_RDWR && (this.flags & appends) === 0;
  }
}

/** Bytes that one `pread` or `pwrite` moves. */
export const bounceBytes = 262_144;

/** How often one call is repeated because a signal ended it. */
const interruptionsMax = 16;

let bounce: Arena | null = null;

/** `pread`'s or `pwrite`'s answer for a device: what was not moved in full is not there. */
function answer(result: number, length: number): number {
  if (result === length) return 0;
  const refused = result === -errno.EPERM || result === -errno.EACCES || result === -errno.EBADF;
  return refused ? -errno.EACCES : -errno.EFAULT;
}

function repeated(
  call: typeof pread,
  fd: number,
  address: number,
  length: number,
  offset: number,
): number {
  let result = call(fd, address, length, offset);
  for (let i = 0; result === -errno.EINTR && i < interruptionsMax; i++) {
    result = call(fd, address, length, offset);
  }
  return answer(result, length);
}

/**
 * Reads a range of a file; 0, EFAULT where the file does not reach, EACCES where it may not be
 * read.
 */
export function readFile(
  fd: number,
  offset: number,
  bytes: Uint8Array,
  at: number,
  length: number,
): number {
  bounce ??= new Arena(bounceBytes);
  for (let done = 0; done < length; ) {
    const piece = Math.min(length - done, bounceBytes);
    const result = repeated(pread, fd, bounce.address, piece, offset + done);
    if (result < 0) return result;
    bytes.set(bounce.bytes.subarray(0, piece), at + done);
    done += piece;
  }
  return 0;
}

/**
 * Writes a range of a file, likewise. A `pwrite` behind the end would make the file longer instead
 * of failing, so the caller has compared the range with the file's size.
 */
export function writeFile(
  fd: number,
  offset: number,
  bytes: Uint8Array,
  at: number,
  length: number,
): number {
  bounce ??= new Arena(bounceBytes);
  for (let done = 0; done < length; ) {
    const piece = Math.min(length - done, bounceBytes);
    bounce.bytes.set(bytes.subarray(at + done, at + done + piece), 0);
    const result = repeated(pwrite, fd, bounce.address, piece, offset + done);
    if (result < 0) return result;
    done += piece;
  }
  return 0;
}
