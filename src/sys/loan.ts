import { errno } from "../base/errno.ts";
import { Arena } from "./arena.ts";
import * as k from "./constants.ts";
import * as libc from "./libc.ts";
import { setNonBlocking } from "./unix.ts";

const pipeBytes = 1_048_576;
const twoTo32 = 2 ** 32;

/**
 * Memory sent to a socket without copying it: the kernel takes references to the pages through a
 * pipe, and the receiver copies from the pages themselves. They must not change before the receiver
 * has read them. Half the time of a send for memory that is in no cache.
 */
export class LoanPipe {
  readonly #piece = new Arena(4096);
  #readEnd = -1;
  #writeEnd = -1;
  /** Bytes that are in the pipe. */
  #inside = 0;
  #broken = false;

  /** False where the kernel refuses this way; then everything is to be sent by a copy. */
  get works(): boolean {
    return !this.#broken;
  }

  #open(): boolean {
    if (this.#readEnd >= 0) return true;
    if (libc.pipe2(this.#piece.address, k.O_CLOEXEC) < 0) return false;
    this.#readEnd = this.#piece.view.getInt32(0, true);
    this.#writeEnd = this.#piece.view.getInt32(4, true);
    libc.fcntl(this.#writeEnd, k.F_SETPIPE_SZ, pipeBytes);
    return true;
  }

  /** Sends from `address` without blocking: how many bytes went, EAGAIN, or another errno. */
  send(socket: number, address: number, length: number): number {
    if (!this.#open()) return this.#fail(-errno.EMFILE);
    if (this.#inside < length) {
      const filled = this.#fill(address + this.#inside, length - this.#inside);
      if (filled < 0 && this.#inside === 0) return this.#fail(filled);
    }
    setNonBlocking(socket, true);
    const sent = libc.splice(this.#readEnd, socket, this.#inside);
    setNonBlocking(socket, false);
    if (sent > 0) this.#inside -= sent;
    return sent === -errno.EINVAL ? this.#fail(sent) : sent;
  }

  #fill(address: number, length: number): number {
    const { view } = this.#piece;
    view.setUint32(0, address % twoTo32, true);
    view.setUint32(4, Math.floor(address / twoTo32), true);
    view.setUint32(8, length % twoTo32, true);
    view.setUint32(12, Math.floor(length / twoTo32), true);
    const piece = this.#piece.address;
    const filled = libc.vmsplice(this.#writeEnd, piece, 1, k.SPLICE_F_NONBLOCK);
    if (filled > 0) this.#inside += filled;
    return filled;
  }

  #fail(result: number): number {
    this.#broken = true;
    this.clear();
    return result;
  }

  /** Forgets what is in the pipe. */
  clear(): void {
    if (this.#inside === 0 && !this.#broken) return;
    libc.close(this.#readEnd);
    libc.close(this.#writeEnd);
    this.#readEnd = -1;
    this.#writeEnd = -1;
    this.#inside = 0;
  }
}
