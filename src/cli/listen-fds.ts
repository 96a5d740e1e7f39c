import { listenersMax } from "../host/acceptor.ts";

/** Sockets inherited from a service manager (`sd_listen_fds`): descriptors from 3 on. */
const firstFd = 3;

/**
 * The descriptors that the environment promises to the process `pid`; none if it means another one.
 */
export function inheritedFds(environment: NodeJS.ProcessEnv, pid: number): number[] {
  const { LISTEN_FDS: fds, LISTEN_PID: forPid } = environment;
  if (fds === undefined || (forPid !== undefined && Number(forPid) !== pid)) return [];
  const count = Number(fds);
  if (!Number.isInteger(count) || count < 0 || count > listenersMax) return [];
  return Array.from({ length: count }, (_, i) => firstFd + i);
}
