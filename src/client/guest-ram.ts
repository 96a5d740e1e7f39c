import { assert } from "../base/assert.ts";
import { errno, errnoName } from "../base/errno.ts";
import { FerryError } from "../base/errors.ts";
import type { VfioDevice } from "../device/vfio-device.ts";
import { Direction, type MessageDma, type Transfer } from "../memory/transfer.ts";
import { F_SEAL_GROW, F_SEAL_SEAL, F_SEAL_SHRINK } from "../sys/constants.ts";
import { addSeals, closeFd, createMemfd, duplicate } from "../sys/descriptors.ts";
import { Window } from "../sys/window.ts";

const pageBytes = 4096;
/** Guest memory of more than this is not for tests and demonstrations. */
export const guestRamBytesMax = 1024 * 1024 * 1024;

/** How a device may reach a piece of guest memory. */
export interface RamAccess {
  readonly readable?: boolean;
  readonly writable?: boolean;
  /** False: the device gets no file and has to send messages. */
  readonly shared?: boolean;
  /** False: the file may be read and written, but not mapped. */
  readonly mayMap?: boolean;
}

interface Placed {
  readonly iova: number;
  readonly size: number;
  readonly offset: number;
  readonly access: RamAccess;
}

/**
 * Memory to play a guest with: a memfd, sealed as a VMM seals its own, and its view. It also
 * carries the DMA of devices that reach it by messages.
 */
export class GuestRam implements MessageDma {
  readonly size: number;
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly view: DataView<ArrayBuffer>;
  readonly #window: Window;
  #fd: number;
  #placed: Placed[] = [];

  /** `size` is in bytes, a multiple of the page size. */
  constructor(size: number) {
    assert(size > 0 && size % pageBytes === 0, `guest memory of ${size} bytes is no whole pages`);
    assert(size <= guestRamBytesMax, `guest memory of ${size} bytes is too much`);
    const window = Window.reserve(size);
    const fd = createMemfd("guest-ram", size);
    if (fd < 0 || window === null) {
      closeFd(fd);
      throw new FerryError("no-memory", `cannot make guest memory: ${errnoName(fd)}.`);
    }
    const sealed = addSeals(fd, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    const laid = window.lay(fd, 0, size, true);
    assert(sealed === 0 && laid === 0, "a fresh memfd can be sealed and mapped");
    this.size = size;
    this.#fd = fd;
    this.#window = window;
    this.bytes = window.bytes;
    this.view = window.view;
  }

  /** The file behind it. */
  get fd(): number {
    return this.#fd;
  }

  /** Gives `size` bytes from `offset` to a device at guest address `iova`: 0 or a negated errno. */
  map(
    device: VfioDevice,
    iova: number,
    offset = 0,
    size = this.size,
    access: RamAccess = {},
  ): number {
    const placed = { iova, size, offset, access };
    const result = mapPiece(device, this.fd, placed);
    if (result === 0) this.#placed.push(placed);
    return result;
  }

  /** Gives a device of another host all pieces that the one here has, of that host's memory. */
  mapThere(device: VfioDevice, there: GuestRam): number {
    for (const placed of this.#placed) {
      const result = mapPiece(device, there.fd, placed);
      if (result < 0) return result;
    }
    return 0;
  }

  /** Copies the pages that differ there: how many. To be done again until the guest is still. */
  copyTo(there: GuestRam): number {
    let pages = 0;
    for (let at = 0; at < this.size; at += pageBytes) {
      const page = this.bytes.subarray(at, at + pageBytes);
      if (Buffer.compare(page, there.bytes.subarray(at, at + pageBytes)) === 0) continue;
      there.bytes.set(page, at);
      pages += 1;
    }
    return pages;
  }

  /** The guest goes on there: its views show that memory from here on, and this one is gone. */
  moveTo(there: GuestRam): void {
    const file = duplicate(there.fd);
    const laid = this.#window.lay(file, 0, this.size, true);
    assert(laid === 0, "a sealed memfd can be mapped once more");
    closeFd(this.#fd);
    this.#fd = file;
    there.close();
  }

  /** Takes a piece away again: 0 or a negated errno. */
  unmap(device: VfioDevice, iova: number, size = this.size): number {
    const result = device.unmapDma(iova, size);
    if (result < 0) return result;
    this.#placed = this.#placed.filter((each) => each.iova !== iova || each.size !== size);
    return 0;
  }

  /** Does a transfer of a device at once: the whole range lies in one piece, or it is EFAULT. */
  submit(transfer: Transfer): number {
    const { iova, length, bytes, at, direction } = transfer;
    const place = this.#placed.find(
      (each) => iova >= each.iova && iova + length <= each.iova + each.size,
    );
    if (place === undefined) return -errno.EFAULT;
    const from = place.offset + iova - place.iova;
    if (direction === Direction.read) bytes.set(this.bytes.subarray(from, from + length), at);
    else this.bytes.set(bytes.subarray(at, at + length), from);
    transfer.status = 0;
    return 0;
  }

  /** Nothing to end: a transfer never waits. */
  cancel(): void {}

  /** Closes the memory; the view shows zeros from here on. */
  close(): void {
    closeFd(this.fd);
    this.#window.blank();
  }
}

function mapPiece(device: VfioDevice, file: number, placed: Placed): number {
  const { iova, size, offset, access } = placed;
  const { readable = true, writable = true, shared = true, mayMap = true } = access;
  const fd = shared ? duplicate(file) : -1;
  const result = device.mapDma({ iova, size, readable, writable, fd, offset, mayMap });
  if (result < 0) closeFd(fd);
  return Math.min(0, result);
}
