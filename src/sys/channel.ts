import { Arena } from "./arena.ts";
import * as k from "./constants.ts";
import * as libc from "./libc.ts";

/** `struct msghdr`, `struct iovec` and `struct cmsghdr` of a 64-bit Linux, by byte offset. */
const msghdr = { iov: 16, iovlen: 24, control: 32, controllen: 40, flags: 48, size: 56 } as const;
const iovec = { base: 0, length: 8, size: 16 } as const;
const cmsghdr = { length: 0, level: 8, type: 12, data: 16 } as const;

const receiveAt = 0;
const receiveIovAt = 64;
const sendAt = 128;
const sendIovAt = 192;
const receiveControlAt = 256;
const controlBytes = cmsghdr.data + k.SCM_MAX_FD * 4 + 4;
const sendControlAt = receiveControlAt + Math.ceil(controlBytes / 8) * 8;
const twoTo32 = 2 ** 32;

/**
 * A connected unix stream socket with its message block: sends and receives bytes at given
 * addresses, with file descriptors either way, and allocates nothing. Every call returns a count of
 * bytes or a negated errno.
 */
export class Channel {
  /** The socket; another one may be put in its place. */
  fd: number;
  /** Descriptors that came with the last `receive`, close-on-exec, the receiver's to close. */
  readonly receivedFds: Int32Array<ArrayBuffer>;
  /** How many of `receivedFds` are valid. */
  receivedFdCount = 0;
  /** True when descriptors did not fit and the kernel dropped them. */
  truncated = false;
  readonly #block = new Arena(4096);
  readonly #view = this.#block.view;
  readonly #receiveHeader = this.#block.address + receiveAt;
  readonly #sendHeader = this.#block.address + sendAt;

  constructor(fd: number) {
    this.fd = fd;
    const base = this.#block.address;
    this.receivedFds = new Int32Array(
      this.#block.bytes.buffer,
      receiveControlAt + cmsghdr.data,
      k.SCM_MAX_FD,
    );
    this.#pointer(receiveAt + msghdr.iov, base + receiveIovAt);
    this.#pointer(receiveAt + msghdr.iovlen, 1);
    this.#pointer(receiveAt + msghdr.control, base + receiveControlAt);
    this.#pointer(sendAt + msghdr.iov, base + sendIovAt);
    this.#view.setInt32(sendControlAt + cmsghdr.level, k.SOL_SOCKET, true);
    this.#view.setInt32(sendControlAt + cmsghdr.type, k.SCM_RIGHTS, true);
  }

  #pointer(at: number, value: number): void {
    this.#view.setUint32(at, value % twoTo32, true);
    this.#view.setUint32(at + 4, (value / twoTo32) >>> 0, true);
  }

  #part(place: number, address: number, length: number): void {
    this.#pointer(sendIovAt + place * iovec.size + iovec.base, address);
    this.#pointer(sendIovAt + place * iovec.size + iovec.length, length);
  }

  /** Receives up to `length` bytes; 0 is the end of the stream. */
  receive(address: number, length: number, flags = 0): number {
    const view = this.#view;
    this.#pointer(receiveIovAt + iovec.base, address);
    this.#pointer(receiveIovAt + iovec.length, length);
    view.setUint32(receiveAt + msghdr.controllen, controlBytes, true);
    this.receivedFdCount = 0;
    this.truncated = false;
    const result = libc.recvmsg(this.fd, this.#receiveHeader, flags | k.MSG_CMSG_CLOEXEC);
    const received = view.getUint32(receiveAt + msghdr.controllen, true);
    if (result >= 0) {
      // Without a free descriptor the kernel drops what came and says so in the flags alone.
      this.truncated = (view.getUint32(receiveAt + msghdr.flags, true) & k.MSG_CTRUNC) !== 0;
      if (received >= cmsghdr.data) this.#takeDescriptors();
    }
    return result;
  }

  #takeDescriptors(): void {
    const length = this.#view.getUint32(receiveControlAt + cmsghdr.length, true);
    this.receivedFdCount = (length - cmsghdr.data) >> 2;
  }

  /** Closes what came with the last `receive`, from the place `kept` on. */
  closeReceived(kept = 0): void {
    for (let i = kept; i < this.receivedFdCount; i++) libc.close(this.receivedFds[i] as number);
    this.receivedFdCount = Math.min(kept, this.receivedFdCount);
  }

  /** Sends from one place. A peer that went away is EPIPE, never a signal. */
  send(address: number, length: number, flags = 0): number {
    return libc.send(this.fd, address, length, flags | k.MSG_NOSIGNAL);
  }

  /** Sends two pieces as if they were one. */
  sendTwo(
    first: number,
    firstLength: number,
    second: number,
    secondLength: number,
    flags = 0,
  ): number {
    this.#part(0, first, firstLength);
    this.#part(1, second, secondLength);
    this.#pointer(sendAt + msghdr.iovlen, 2);
    this.#view.setUint32(sendAt + msghdr.controllen, 0, true);
    return libc.sendmsg(this.fd, this.#sendHeader, flags | k.MSG_NOSIGNAL);
  }

  /** Sends bytes with descriptors on the first of them; the sender keeps its own descriptors. */
  sendWithFds(address: number, length: number, fds: readonly number[], flags = 0): number {
    const view = this.#view;
    this.#part(0, address, length);
    this.#pointer(sendAt + msghdr.iovlen, 1);
    for (const [i, fd] of fds.entries()) {
      view.setInt32(sendControlAt + cmsghdr.data + i * 4, fd, true);
    }
    view.setUint32(sendControlAt + cmsghdr.length, cmsghdr.data + fds.length * 4, true);
    const space = cmsghdr.data + Math.ceil((fds.length * 4) / 8) * 8;
    this.#pointer(
      sendAt + msghdr.control,
      fds.length === 0 ? 0 : this.#block.address + sendControlAt,
    );
    view.setUint32(sendAt + msghdr.controllen, fds.length === 0 ? 0 : space, true);
    const result = libc.sendmsg(this.fd, this.#sendHeader, flags | k.MSG_NOSIGNAL);
    view.setUint32(sendAt + msghdr.controllen, 0, true);
    return result;
  }

  /** Ends the connection both ways; whoever is blocked in it returns. */
  shutdown(): void {
    libc.shutdown(this.fd, k.SHUT_RDWR);
  }

  /** Closes the socket and gives the message block back; the channel is not used again. */
  close(): void {
    libc.close(this.fd);
    this.free();
  }

  /** Gives the message block back and leaves the socket open: somebody else has it now. */
  free(): void {
    this.#block.free();
  }
}
