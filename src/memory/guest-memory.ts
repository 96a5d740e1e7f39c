import { assert } from "../base/assert.ts";
import { errno } from "../base/errno.ts";
import { closeFd } from "../sys/descriptors.ts";
import { DirtyLog, type LoggedRange, loggedPageMin } from "./dirty-log.ts";
import {
  addressEnd,
  DmaMap,
  DmaRegion,
  mapsMax as mapsMaxDefault,
  sizeMax as sizeMaxDefault,
} from "./dma-map.ts";
import { FileTable } from "./file-table.ts";
import { type GuestFile, Reach } from "./guest-file.ts";
import { FileIdentity } from "./open-file.ts";
import { Direction, type MessageDma, pending, Touches, type Transfer } from "./transfer.ts";
import { type WindowPool, windows } from "./window-pool.ts";

/** One DMA_MAP, as `DmaMapping` of the device contract. */
export interface Mapping {
  readonly iova: number;
  readonly size: number;
  readonly readable: boolean;
  readonly writable: boolean;
  readonly fd: number;
  readonly offset: number;
  readonly mayMap: boolean;
}

/** Where a piece of guest memory lies in this process; good until the next call of GuestMemory. */
export class Cursor {
  bytes: Uint8Array = new Uint8Array(0);
  view: DataView = new DataView(new ArrayBuffer(0));
  /** The piece's first byte in `bytes` and `view`. */
  at = 0;
}

/** From so many message writes on, those that have ended are looked for and dropped. */
const endedWritesMax = 64;

/** Pages that are shown to a VMM at most: 4 GiB of memory. */
export const touchedPagesMax = 1_048_576;

/**
 * What is done for a VMM that copies memory and does not see what a device writes to its files:
 * nothing; it is kept which pages were written, to be shown when all stands still; or nothing is
 * written there, and all of it sent to the VMM, also what is unmapped before anything stands still.
 */
export type WriteWatch = "off" | "kept" | "sent";

/** Limits and the windows to use; the defaults are what a server offers. */
export interface GuestMemoryOptions {
  readonly mapsMax?: number;
  readonly sizeMax?: number;
  readonly windows?: WindowPool;
}

/**
 * The guest's memory as a device sees it: by guest address, through the mappings that the VMM has
 * made. A range may cross mappings that touch. It is checked as a whole first, so a refused write
 * has written nothing.
 */
export class GuestMemory {
  /** The cursor of `resolve` for callers that need one at a time. */
  readonly cursor = new Cursor();
  /** Who carries DMA where there is no file; null when nobody does. */
  messages: MessageDma | null = null;
  /** Has there been any mapping so far? */
  wasMapped = false;
  readonly #map: DmaMap;
  readonly #sizeMax: number;
  readonly #files: FileTable;
  readonly #log = new DirtyLog();
  readonly #messageWrites = new Set<Transfer>();
  /** What was written through files since `watchWrites`; a VMM sees nothing of that by itself. */
  readonly #written = new DirtyLog();
  /** Was any of it unmapped since? */
  #writtenIsLost = false;
  /** Has any log to hear of writes? */
  #marks = false;
  /** Does all that is written go by messages? */
  #sends = false;
  #generation = 0;

  constructor(options: GuestMemoryOptions = {}) {
    this.#map = new DmaMap(options.mapsMax ?? mapsMaxDefault);
    this.#sizeMax = options.sizeMax ?? sizeMaxDefault;
    this.#files = new FileTable(options.windows ?? windows);
  }

  /** Mappings at the moment. */
  get mapCount(): number {
    return this.#map.count;
  }

  /** Files that the mappings are of. */
  get fileCount(): number {
    return this.#files.count;
  }

  /** Changes whenever a kept cursor may be good for nothing: when a mapping goes, for instance. */
  get generation(): number {
    return this.#generation;
  }

  /** The mappings in the order of their addresses. */
  get regions(): readonly DmaRegion[] {
    return this.#map.regions();
  }

  /**
   * Adds a mapping and, with the answer 0, takes its descriptor over. EINVAL for an empty range,
   * one that ends above 2^53, a file that does not reach to the mapping's end, and when the map is
   * full; ENOSPC for more than the largest mapping; EEXIST for an overlap. A descriptor that is not
   * of a regular file is as good as none: the mapping is reached by messages.
   */
  map(mapping: Mapping): number {
    const { iova, size, offset, fd } = mapping;
    if (size > this.#sizeMax) return -errno.ENOSPC;
    if (size === 0 || iova + size > addressEnd || offset + size > addressEnd) return -errno.EINVAL;
    const refused = this.#map.refuses(iova, size);
    if (refused < 0) return refused;
    let file: GuestFile | null = null;
    if (fd >= 0) {
      const identity = FileIdentity.of(fd);
      if (typeof identity === "number") return identity;
      if (identity.regular && offset + size > identity.size) return -errno.EINVAL;
      if (identity.regular) file = this.#files.acquire(fd, identity);
      else closeFd(fd);
    }
    const permission = {
      readable: mapping.readable && (file?.identity.readable ?? true),
      writable: mapping.writable && (file?.identity.writable ?? true),
    };
    this.wasMapped = true;
    this.#map.insert(new DmaRegion(iova, size, permission, file, offset, mapping.mayMap));
    return 0;
  }

  /**
   * Takes away the mapping that is exactly this range, or answers ENOENT. Message DMA that touches
   * it ends first, and what was logged of it is forgotten: who wants to know asks before.
   */
  unmap(iova: number, size: number): number {
    if (!this.#map.has(iova, size)) return -errno.ENOENT;
    this.messages?.cancel(iova, size);
    const region = this.#map.remove(iova, size);
    assert(region !== null, "a mapping went away while its transfers were ended");
    this.#drop(region);
    return 0;
  }

  unmapAll(): number {
    this.messages?.cancel(0, addressEnd);
    for (const region of this.#map.clear()) this.#drop(region);
    return 0;
  }

  #drop(region: DmaRegion): void {
    this.#generation += 1;
    this.#log.forget(region.iova, region.size);
    if (this.#written.active && this.#written.pages(region.iova, region.size, 0) === null) {
      this.#writtenIsLost = true;
    }
    if (region.file !== null) this.#files.release(region.file);
  }

  /**
   * Copies guest memory from `iova` into `bytes` from `at`. 0, EFAULT where nothing is mapped or
   * the memory is gone, EACCES where reading is not allowed, EINPROGRESS where only messages reach.
   */
  read(iova: number, bytes: Uint8Array, at: number, length: number): number {
    assert(at >= 0 && length >= 0 && at + length <= bytes.length, "read outside of the buffer");
    if (length === 0) return 0;
    const region = this.#map.lookup(iova);
    if (region !== null && iova + length <= region.end) {
      return region.readable ? this.#readPart(region, iova, bytes, at, length) : -errno.EACCES;
    }
    const refused = this.check(iova, length, false);
    if (refused < 0) return refused;
    for (let done = 0; done < length; ) {
      const part = this.#map.lookup(iova + done) as DmaRegion;
      const piece = Math.min(length - done, part.end - iova - done);
      const result = this.#readPart(part, iova + done, bytes, at + done, piece);
      if (result < 0) return result;
      done += piece;
    }
    return 0;
  }

  /** Copies `bytes` from `at` into guest memory from `iova`; answers as `read` does. */
  write(iova: number, bytes: Uint8Array, at: number, length: number): number {
    assert(at >= 0 && length >= 0 && at + length <= bytes.length, "write outside of the buffer");
    if (length === 0) return 0;
    const region = this.#map.lookup(iova);
    if (region !== null && iova + length <= region.end) {
      return region.writable ? this.#writePart(region, iova, bytes, at, length) : -errno.EACCES;
    }
    const refused = this.check(iova, length, true);
    if (refused < 0) return refused;
    for (let done = 0; done < length; ) {
      const part = this.#map.lookup(iova + done) as DmaRegion;
      const piece = Math.min(length - done, part.end - iova - done);
      const result = this.#writePart(part, iova + done, bytes, at + done, piece);
      if (result < 0) return result;
      done += piece;
    }
    return 0;
  }

  /**
   * Whether the whole range may be read or written: 0, EFAULT where nothing is mapped, EACCES where
   * it is not allowed, EINPROGRESS where only messages reach.
   */
  check(iova: number, length: number, write: boolean): number {
    if (length > addressEnd - iova) return -errno.EFAULT;
    let byMessages = false;
    for (let done = 0; done < length; ) {
      const region = this.#map.lookup(iova + done);
      if (region === null) return -errno.EFAULT;
      if (!(write ? region.writable : region.readable)) return -errno.EACCES;
      const { file, mayMap } = region;
      byMessages ||= file === null || file.reachOf(mayMap) === Reach.messages;
      byMessages ||= write && this.#sends;
      done = region.end - iova;
    }
    return byMessages ? -errno.EINPROGRESS : 0;
  }

  #readPart(
    region: DmaRegion,
    iova: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): number {
    const { file, shift, mayMap } = region;
    return file === null ? -errno.EINPROGRESS : file.read(iova + shift, bytes, at, length, mayMap);
  }

  #writePart(
    region: DmaRegion,
    iova: number,
    bytes: Uint8Array,
    at: number,
    length: number,
  ): number {
    const { file, shift, mayMap } = region;
    if (file === null || this.#sends) return -errno.EINPROGRESS;
    // Also for a write that fails: a part of it may have reached the memory.
    if (this.#marks) this.#mark(iova, length);
    return file.write(iova + shift, bytes, at, length, mayMap);
  }

  /**
   * Where the range lies in this process, for rings: `cursor` with its window and place, or null
   * when it has to be read and written instead, for whatever reason. A range that is resolved for
   * writing counts as written; one that is resolved for reading must not be written. Neither the
   * cursor nor what it shows may be kept: after the next `unmap` the window may show other memory.
   */
  resolve(
    iova: number,
    length: number,
    write: boolean,
    cursor: Cursor = this.cursor,
  ): Cursor | null {
    if (write && this.#sends) return null;
    const region = this.#map.lookup(iova);
    if (region === null || iova + length > region.end || length === 0) return null;
    const { file, mayMap } = region;
    if (!(write ? region.writable : region.readable) || file === null) return null;
    if (file.reachOf(mayMap) !== Reach.window) return null;
    const shown = file.show(iova + region.shift, length, write);
    if (shown === null) return null;
    cursor.bytes = shown.bytes;
    cursor.view = shown.view;
    cursor.at = file.shownAt;
    if (write && this.#marks) this.#mark(iova, length);
    return cursor;
  }

  #mark(iova: number, length: number): void {
    this.#log.mark(iova, length);
    this.#written.mark(iova, length);
  }

  /**
   * Starts a transfer and returns its status: it has ended, or it is `pending` because a part of
   * it, and so the whole of it, goes by messages. ENOTCONN when nobody is there to carry messages.
   */
  start(transfer: Transfer): number {
    const { iova, bytes, at, length, direction } = transfer;
    const reads = direction === Direction.read;
    const result = reads ? this.read(iova, bytes, at, length) : this.write(iova, bytes, at, length);
    transfer.status = result === -errno.EINPROGRESS ? this.#submit(transfer) : result;
    return transfer.status;
  }

  #submit(transfer: Transfer): number {
    if (this.messages === null) return -errno.ENOTCONN;
    transfer.status = pending;
    const result = this.messages.submit(transfer);
    if (result < 0) return result;
    if (transfer.direction === Direction.write) {
      if (this.#messageWrites.size >= endedWritesMax) this.#markPending();
      this.#messageWrites.add(transfer);
      this.#log.mark(transfer.iova, transfer.length);
    }
    return transfer.status;
  }

  /**
   * The data of a pending write reaches the memory at some time before its answer, so it counts as
   * written when it is submitted and once more after every report in between. Ended ones are
   * dropped.
   */
  #markPending(): void {
    for (const transfer of this.#messageWrites) {
      const { status, direction, iova, length } = transfer;
      if (status === pending && direction === Direction.write) this.#log.mark(iova, length);
      else this.#messageWrites.delete(transfer);
    }
  }

  /** True while writes are logged. */
  get logging(): boolean {
    return this.#log.active;
  }

  /** Bytes of a logged page; 0 while nothing is logged. */
  get pageSize(): number {
    return this.#log.pageSize;
  }

  /** DMA_LOGGING_START, as `DirtyLog.start`. */
  loggingStart(pageSize: number, ranges: readonly LoggedRange[]): number {
    const result = this.#log.start(pageSize, ranges);
    if (result === 0) this.#markPending();
    this.#heed();
    return result;
  }

  /** DMA_LOGGING_STOP; to stop twice is no mistake. */
  loggingStop(): number {
    this.#log.stop();
    this.#heed();
    return 0;
  }

  #heed(): void {
    this.#marks = this.#log.active || this.#written.active;
  }

  /** From here on memory is written like this. It costs nothing of the VMM's own log. */
  watchWrites(how: WriteWatch): void {
    this.#written.stop();
    this.#writtenIsLost = false;
    if (how !== "off") this.#written.start(loggedPageMin, []);
    const sends = how === "sent";
    if (sends !== this.#sends) this.#generation += 1;
    this.#sends = sends;
    this.#heed();
  }

  /**
   * A write of what is there already to every page that was written since `watchWrites`: its VMM
   * learns by it that they have changed. ENODATA when that is not known, E2BIG for too many pages,
   * EFAULT when one of them is not mapped any more.
   */
  touches(): Touches | number {
    if (!this.#written.active) return -errno.ENODATA;
    if (this.#writtenIsLost) return -errno.EFAULT;
    const pages = this.#written.pages(0, addressEnd, touchedPagesMax);
    if (pages === null) return -errno.E2BIG;
    const bytes = new Uint8Array(pages.length);
    const places: number[] = [];
    for (const page of pages) {
      const result = this.read(page, bytes, places.length, 1);
      if (result === 0) places.push(page);
      // What goes by messages is the VMM's own writing.
      else if (result !== -errno.EINPROGRESS) return result;
    }
    return new Touches(places, bytes);
  }

  /** DMA_LOGGING_REPORT, as `DirtyLog.report`; ENOENT for a range of which nothing is mapped. */
  loggingReport(
    iova: number,
    length: number,
    pageSize: number,
    bitmap: Uint8Array,
    at: number,
  ): number {
    const count = this.#log.reportedPages(iova, length, pageSize, bitmap.length - at);
    if (count < 0) return count;
    if (!this.#map.touches(iova, length)) return -errno.ENOENT;
    this.#log.report(iova, length, pageSize, bitmap, at);
    this.#markPending();
    return 0;
  }
}
