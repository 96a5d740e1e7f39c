import { performance } from "node:perf_hooks";
import type { Clock } from "../migration/hosts/clock.ts";

/** Timers of Node wait no longer than this. */
const sleepMaxMs = 2 ** 31 - 1;

/** The time of this host. */
export const hostClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  sleep: (ms, signal) =>
    new Promise((resolve) => {
      if (signal?.aborted === true) return resolve();
      const wake = (): void => {
        clearTimeout(timer);
        signal?.removeEventListener("abort", wake);
        resolve();
      };
      const timer = setTimeout(wake, Math.min(ms, sleepMaxMs));
      signal?.addEventListener("abort", wake);
    }),
};
