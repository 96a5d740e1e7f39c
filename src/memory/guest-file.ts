import { errno } from "../base/errno.ts";
import { F_SEAL_SHRINK } from "../sys/constants.ts";
import { closeFd, fileSize, isHugetlb, sealsOf } from "../sys/descriptors.ts";
import { FileWindow } from "./file-window.ts";
import { type FileIdentity, readFile, writeFile } from "./open-file.ts";
import { type WindowPool, windowSizeFor } from "./window-pool.ts";

/** How the memory behind a file is reached. */
export const Reach = { window: 0, fileIo: 1, messages: 2 } as const;
export type Reach = (typeof Reach)[keyof typeof Reach];

/** Up to here a loop over the bytes is faster than a view and a copy. */
const loopBytes = 12;

function copyFew(
  source: Uint8Array,
  from: number,
  target: Uint8Array,
  at: number,
  length: number,
): void {
  for (let i = 0; i < length; i++) target[at + i] = source[from + i] as number;
}

/**
 * A file that a client gave us memory with. All mappings of one file share its windows: a thousand
 * mappings cost one descriptor and no system call each, and taking one away costs none. The windows
 * go when the last mapping has gone.
 *
 * A window is used only for a file that can neither shrink nor fault (invariant 9). The first is
 * the seal F_SEAL_SHRINK, which only memfds have; the second is what FileWindow populates.
 * Everything else is read and written; a hugetlb file, which Linux cannot write, is left to
 * messages. What stays is a client that punches a hole into its own hugetlb file and takes the page
 * for something else: a fault there ends this process, which serves that client.
 */
export class GuestFile {
  readonly identity: FileIdentity;
  readonly fd: number;
  /** Mappings that use it. */
  references = 0;
  /** Bytes that it has had; a sealed file has at least these for ever. */
  size: number;
  /** Where in the window that `show` returned the asked range starts. */
  shownAt = 0;
  readonly #pool: WindowPool;
  #reach: Reach | null = null;
  #hugetlb = false;
  #windowsWritable: boolean;
  readonly #span: number;
  readonly #perSpan: number;
  readonly #windows = new Map<number, FileWindow>();
  #shown: FileWindow | null = null;
  #shownIndex = -1;
  #source: Uint8Array = new Uint8Array(0);
  #sourceOf: Uint8Array = this.#source;

  /** Takes the descriptor over. */
  constructor(fd: number, identity: FileIdentity, pool: WindowPool) {
    this.fd = fd;
    this.identity = identity;
    this.size = identity.size;
    this.#windowsWritable = identity.writable;
    this.#pool = pool;
    this.#span = windowSizeFor(identity.size);
    this.#perSpan = 1 / this.#span;
  }

  /** How the file is reached. Asked at the first use, so that a mapping itself costs little. */
  get reach(): Reach {
    this.#reach ??= this.#inspect();
    return this.#reach;
  }

  /** The size is asked for again after the seal was seen: only then does it stay. */
  #inspect(): Reach {
    this.#hugetlb = isHugetlb(this.fd);
    const seals = sealsOf(this.fd);
    const sealed = seals >= 0 && (seals & F_SEAL_SHRINK) !== 0;
    const size = fileSize(this.fd);
    if (sealed && size >= 0) {
      this.size = size;
      return Reach.window;
    }
    return this.#hugetlb ? Reach.messages : Reach.fileIo;
  }

  /** How a mapping is reached that may forbid windows. */
  reachOf(mayMap: boolean): Reach {
    const reach = this.reach;
    if (reach !== Reach.window || mayMap) return reach;
    return this.#hugetlb ? Reach.messages : Reach.fileIo;
  }

  /**
   * The window in which the range of the file may be read, or also written, from `shownAt` on; null
   * when the range lies in two windows or cannot be made present.
   */
  show(offset: number, length: number, write: boolean): FileWindow | null {
    if (write && !this.#windowsWritable) return null;
    const index = Math.floor(offset * this.#perSpan);
    const at = offset - index * this.#span;
    this.shownAt = at;
    const shown = index === this.#shownIndex ? this.#shown : this.#select(index);
    if (shown?.isPresent(at, length)) return shown;
    const prepared = this.#prepare(index, at, length);
    // Laying it may have shown that it can only be read.
    return write && !this.#windowsWritable ? null : prepared;
  }

  #select(index: number): FileWindow | null {
    const shown = this.#windows.get(index) ?? null;
    this.#shown = shown;
    this.#shownIndex = index;
    return shown;
  }

  /** Lays the file's part into a window where that is still to be done, and populates the range. */
  #prepare(index: number, at: number, length: number): FileWindow | null {
    if (at + length > this.#span || this.#reach !== Reach.window) return null;
    const window = this.#shown ?? this.#open(index);
    if (window === null) return this.#failed();
    if (at + length > window.laid && !this.#lay(window, index, at + length)) return this.#failed();
    return window.populate(at, length, this.#windowsWritable) < 0 ? this.#failed() : window;
  }

  /** Lays as much of the file as there is, if that reaches to `end` in the window. */
  #lay(window: FileWindow, index: number, end: number): boolean {
    const start = index * this.#span;
    const length = Math.min(this.#span, this.size - start);
    if (end > length) return false;
    const result = window.lay(this.fd, start, length, this.#windowsWritable);
    if (result !== -errno.EPERM || !this.#windowsWritable) return result === 0;
    // Sealed against writing (F_SEAL_WRITE, F_SEAL_FUTURE_WRITE), though opened for it.
    this.#windowsWritable = false;
    return window.lay(this.fd, start, length, false) === 0;
  }

  #open(index: number): FileWindow | null {
    const window = this.#pool.take(this.#span);
    if (window === null) return null;
    const opened = new FileWindow(window);
    this.#windows.set(index, opened);
    this.#shown = opened;
    return opened;
  }

  /**
   * A hugetlb file has no second way but messages; an ordinary one is read and written this time.
   */
  #failed(): null {
    if (this.#hugetlb) this.#reach = Reach.messages;
    return null;
  }

  /**
   * Copies a range of the file into `bytes` from `at`. 0; EFAULT where the file does not reach,
   * EACCES where it may not be read, EINPROGRESS when it has turned out that only messages reach
   * it.
   */
  read(offset: number, bytes: Uint8Array, at: number, length: number, mayMap: boolean): number {
    const reach = this.reachOf(mayMap);
    if (reach !== Reach.window) return this.#readFile(offset, bytes, at, length);
    const shown = this.show(offset, length, false);
    if (shown === null) return this.#readPieces(offset, bytes, at, length);
    if (length > loopBytes) bytes.set(shown.viewAt(this.shownAt, length), at);
    else copyFew(shown.bytes, this.shownAt, bytes, at, length);
    return 0;
  }

  /** What lies in several windows, or in a part that cannot be shown. */
  #readPieces(offset: number, bytes: Uint8Array, at: number, length: number): number {
    for (let done = 0; done < length; ) {
      const piece = this.#pieceOf(offset + done, length - done);
      const shown = this.show(offset + done, piece, false);
      if (shown !== null) {
        bytes.set(shown.viewAt(this.shownAt, piece), at + done);
      } else {
        const result = this.#readFile(offset + done, bytes, at + done, piece);
        if (result < 0) return result;
      }
      done += piece;
    }
    return 0;
  }

  #readFile(offset: number, bytes: Uint8Array, at: number, length: number): number {
    if (this.reach === Reach.messages) return -errno.EINPROGRESS;
    return readFile(this.fd, offset, bytes, at, length);
  }

  /** Copies `bytes` from `at` into a range of the file; answers as `read` does. */
  write(offset: number, bytes: Uint8Array, at: number, length: number, mayMap: boolean): number {
    const reach = this.reachOf(mayMap);
    if (reach !== Reach.window) return this.#writeFile(offset, bytes, at, length);
    const shown = this.show(offset, length, true);
    if (shown === null) return this.#writePieces(offset, bytes, at, length);
    if (length > loopBytes) shown.bytes.set(this.#viewOf(bytes, at, length), this.shownAt);
    else copyFew(bytes, at, shown.bytes, this.shownAt, length);
    return 0;
  }

  #writePieces(offset: number, bytes: Uint8Array, at: number, length: number): number {
    for (let done = 0; done < length; ) {
      const piece = this.#pieceOf(offset + done, length - done);
      const shown = this.show(offset + done, piece, true);
      if (shown !== null) {
        shown.bytes.set(this.#viewOf(bytes, at + done, piece), this.shownAt);
      } else {
        const result = this.#writeFile(offset + done, bytes, at + done, piece);
        if (result < 0) return result;
      }
      done += piece;
    }
    return 0;
  }

  #writeFile(offset: number, bytes: Uint8Array, at: number, length: number): number {
    if (this.reach === Reach.messages) return -errno.EINPROGRESS;
    if (!this.identity.writable) return -errno.EACCES;
    // A pwrite would make a file longer that a client has made shorter.
    const size = this.reach === Reach.window ? this.size : fileSize(this.fd);
    if (offset + length > size) return -errno.EFAULT;
    return writeFile(this.fd, offset, bytes, at, length);
  }

  /** Bytes of a range that lie in its first window. */
  #pieceOf(offset: number, length: number): number {
    const index = Math.floor(offset * this.#perSpan);
    return Math.min(length, (index + 1) * this.#span - offset);
  }

  /** A view of a device's buffer; the last one is kept, because a device uses its buffers again. */
  #viewOf(bytes: Uint8Array, at: number, length: number): Uint8Array {
    if (at === 0 && length === bytes.length) return bytes;
    const kept = this.#source;
    const start = bytes.byteOffset + at;
    if (this.#sourceOf === bytes && kept.byteOffset === start && kept.length === length) {
      return kept;
    }
    this.#sourceOf = bytes;
    this.#source = bytes.subarray(at, at + length);
    return this.#source;
  }

  /** Gives the windows back, blank, and closes the file. */
  close(): void {
    for (const { window } of this.#windows.values()) this.#pool.give(window);
    this.#windows.clear();
    this.#shown = null;
    this.#shownIndex = -1;
    closeFd(this.fd);
  }
}
