import { readFileSync } from "node:fs";

/** Of a socket's flags in /proc/net/unix (proc(5)): it takes connections. */
const accepts = 0x0001_0000;

/** Does somebody listen on a socket? Its file is there a moment before. */
export function isListening(path: string): boolean {
  return readFileSync("/proc/net/unix", "utf8")
    .split("\n")
    .some((line) => {
      const [, , , flags = "0", , , , bound] = line.trim().split(/\s+/);
      return bound === path && (Number.parseInt(flags, 16) & accepts) !== 0;
    });
}
