import { readFileSync } from "node:fs";

/** Whether a process runs. One that has ended and was not asked after is dead too. */
export function isAlive(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, "utf8"));
  } catch {
    return false;
  }
}
