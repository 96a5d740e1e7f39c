/** What the kernel says about this process's descriptors. */
import { readdirSync, readFileSync } from "node:fs";

/** True when the descriptor does not survive an exec. */
export function isCloseOnExec(fd: number): boolean {
  const text = readFileSync(`/proc/self/fdinfo/${fd}`, "utf8");
  const flags = Number.parseInt(/flags:\s*(\d+)/.exec(text)?.[1] ?? "0", 8);
  return (flags & 0o2000000) !== 0;
}

/** Descriptors that this process has open. */
export const openDescriptors = (): number => readdirSync("/proc/self/fd").length;
