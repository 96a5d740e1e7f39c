import { spawnSync } from "node:child_process";
import { OperatorError } from "../operator-error.ts";
import { requireTaskset } from "../servers.ts";

/** Puts a process, this one unless told, with all of its threads on one CPU. */
export function pin(cpu: number, pid: number = process.pid): void {
  requireTaskset();
  const args = ["-a", "-p", "-c", `${cpu}`, `${pid}`];
  if (spawnSync("taskset", args).status !== 0) throw new OperatorError(`cannot use CPU ${cpu}.`);
}
