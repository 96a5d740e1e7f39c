import * as k from "./constants.ts";
import { madvise, mmap, viewOf } from "./libc.ts";

const readWrite = k.PROT_READ | k.PROT_WRITE;
const blank = k.MAP_PRIVATE | k.MAP_ANONYMOUS | k.MAP_NORESERVE;

/**
 * A fixed range of addresses with views that live as long as the process. A file is laid into it
 * and
 * taken out again by overlaying anonymous memory, so a view never dangles: Node 20 cannot detach
 * one,
 * and no Node survives a touch of unmapped memory. A window is reused, never given back.
 */
export class Window {
  readonly address: number;
  /** Bytes, a multiple of the page size; below 4 GiB, where Node 20 aborts. */
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;

  private constructor(address: number, size: number) {
    this.address = address;
    this.size = size;
    const buffer = viewOf(address, size);
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
  }

  /** Reserves addresses without memory behind them; null when the kernel has none. */
  static reserve(size: number): Window | null {
    const address = mmap(0, size, readWrite, blank, -1, 0);
    return address < 0 ? null : new Window(address, size);
  }

  /** Lays `length` bytes of a file from `offset` over the window's start; 0 or a negated errno. */
  lay(fd: number, offset: number, length: number, writable: boolean): number {
    const protection = writable ? readWrite : k.PROT_READ;
    const result = mmap(this.address, length, protection, k.MAP_SHARED | k.MAP_FIXED, fd, offset);
    return result < 0 ? result : 0;
  }

  /** Makes pages present, so that a touch cannot fault: an errno here instead of a signal there. */
  populate(at: number, length: number, writable: boolean): number {
    const advice = writable ? k.MADV_POPULATE_WRITE : k.MADV_POPULATE_READ;
    return madvise(this.address + at, length, advice);
  }

  /** Makes whole pages of the file that is laid zero, and gives their memory back. */
  remove(at: number, length: number): number {
    return madvise(this.address + at, length, k.MADV_REMOVE);
  }

  /** Asks for huge pages, for memory that is filled as a whole. */
  useHugePages(): void {
    madvise(this.address, this.size, k.MADV_HUGEPAGE);
  }

  /**
   * Overlays everything with fresh anonymous memory; the file's last reference from here is gone.
   */
  blank(): number {
    const result = mmap(this.address, this.size, readWrite, blank | k.MAP_FIXED, -1, 0);
    return result < 0 ? result : 0;
  }
}
