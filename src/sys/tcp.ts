import { Arena } from "./arena.ts";
import { setsockopt } from "./libc.ts";

const IPPROTO_TCP = 6;
const TCP_USER_TIMEOUT = 18;

const value = new Arena(4096);

/**
 * Ends a TCP connection whose other side has acknowledged nothing for so long, whether bytes are
 * under way or it is only asked whether it is there: 0 or a negated errno.
 */
export function setUserTimeout(fd: number, timeoutMs: number): number {
  value.view.setUint32(0, timeoutMs, true);
  return setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, value.address, 4);
}
