/**
 * Guest memory as a VMM has it: a file that it reads and writes by itself, lent to a device by fd.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, writeSync } from "node:fs";
import type { Mapping } from "../../src/memory/guest-memory.ts";
import { F_SEAL_SHRINK } from "../../src/sys/constants.ts";
import { addSeals, createMemfd, duplicate, resizeFile } from "../../src/sys/descriptors.ts";

export class ClientMemory {
  readonly fd: number;

  constructor(fd: number) {
    this.fd = fd;
  }

  /** A memfd as QEMU makes it: sealed against shrinking unless told otherwise. */
  static create(size: number, seals = F_SEAL_SHRINK): ClientMemory {
    const fd = createMemfd("guest", size);
    if (fd < 0 || (seals !== 0 && addSeals(fd, seals) !== 0)) throw new Error(`no memfd: ${fd}`);
    return new ClientMemory(fd);
  }

  /** The same memory through a descriptor of its own, opened anew with `flags` of `open`. */
  reopened(flags: string | number): number {
    return openSync(`/proc/self/fd/${this.fd}`, flags);
  }

  /** What DMA_MAP says; it lends a duplicate of the descriptor. */
  mapping(iova: number, size: number, changes: Partial<Mapping> = {}): Mapping {
    const whole = { iova, size, readable: true, writable: true, offset: 0, mayMap: true };
    return { ...whole, fd: changes.fd ?? duplicate(this.fd), ...changes };
  }

  read(offset: number, length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    const count = readSync(this.fd, bytes, 0, length, offset);
    return bytes.subarray(0, count);
  }

  write(offset: number, bytes: Uint8Array): void {
    writeSync(this.fd, bytes, 0, bytes.length, offset);
  }

  /** 0 or a negated errno. */
  resize(size: number): number {
    return resizeFile(this.fd, size);
  }

  get size(): number {
    return fstatSync(this.fd).size;
  }

  /** Bytes of memory that the file has; a hole has none. */
  get allocated(): number {
    return fstatSync(this.fd).blocks * 512;
  }

  close(): void {
    closeSync(this.fd);
  }
}

/** A mapping without a file. */
export function byMessages(iova: number, size: number, changes: Partial<Mapping> = {}): Mapping {
  const whole = { iova, size, readable: true, writable: true, fd: -1, offset: 0, mayMap: false };
  return { ...whole, ...changes };
}

/** Bytes that differ from their neighbours and from another `seed`'s. */
export function pattern(length: number, seed = 1): Uint8Array {
  return Uint8Array.from({ length }, (_, i) => (i * 7 + seed * 31 + (i >> 8)) & 0xff);
}

/** Equality of long arrays, which a deep comparison takes seconds for. */
export const same = (one: Uint8Array, other: Uint8Array): boolean =>
  Buffer.compare(one, other) === 0;

/** Descriptors that this process has open. */
export const openDescriptors = (): number => readdirSync("/proc/self/fd").length;
