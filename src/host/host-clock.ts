import { performance } from "node:perf_hooks";
import { type Clock, sleepBy } from "../migration/hosts/clock.ts";

/** Timers of Node wait no longer than this. */
const waitMsMax = 2 ** 31 - 1;

/** The time of this host. */
export const hostClock: Clock = {
  now: () => performance.now(),
  wall: () => Date.now(),
  after: (ms, act) => {
    const timer = setTimeout(act, Math.min(ms, waitMsMax));
    return () => clearTimeout(timer);
  },
  sleep: (ms, signal) => sleepBy(hostClock, ms, signal),
};
