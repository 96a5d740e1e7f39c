import { Arena } from "../../src/sys/arena.ts";
import { AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM } from "../../src/sys/constants.ts";
import { closeFd } from "../../src/sys/descriptors.ts";
import * as libc from "../../src/sys/libc.ts";
import { setNonBlocking } from "../../src/sys/unix.ts";

/** The side of a service manager that is told things: a datagram socket, as NOTIFY_SOCKET names. */
export class NotifySocket {
  readonly #fd = libc.socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
  readonly #arena = new Arena(4096);
  readonly #told: string[] = [];

  /** `name` is a path, or begins with "@". */
  constructor(name: string) {
    const { view, bytes, address } = this.#arena;
    const isAbstract = name.startsWith("@");
    const text = Buffer.from(isAbstract ? `\0${name.slice(1)}` : `${name}\0`);
    view.setUint16(0, AF_UNIX, true);
    bytes.set(text, 2);
    if (libc.bindSocket(this.#fd, address, 2 + text.length) !== 0) throw new Error("no socket");
    setNonBlocking(this.#fd, true);
  }

  /** Everything that was told so far. */
  get told(): readonly string[] {
    const { address, size, bytes } = this.#arena;
    for (let count = 0; ; ) {
      count = libc.read(this.#fd, address, size);
      if (count <= 0) return this.#told;
      this.#told.push(Buffer.from(bytes.subarray(0, count)).toString());
    }
  }

  [Symbol.dispose](): void {
    closeFd(this.#fd);
  }
}
