import { errno } from "../../../base/errno.ts";
import type { Step } from "../../driver.ts";
import type { QmPort } from "./port.ts";

/**
 * Has the contexts written to their tables in the guest's memory: EFAULT when they cannot be. One
 * that the guest has begun comes first, because it may have begun before the function stood still.
 */
export function* writeBack(port: QmPort): Step {
  while (port.read("CACHE_WB_START") !== 0 && port.result === 0) yield;
  port.write("CACHE_WB_START", 1);
  while (port.read("CACHE_WB_START") !== 0 && port.result === 0) yield;
  if (port.result < 0) return port.result;
  return (port.read("CACHE_WB_DONE") & 1) === 0 ? -errno.EFAULT : 0;
}

/** A step that may take so long; null when it took longer, and was cut off. */
export function* atMost(step: Step, ms: number, now: () => number): Generator<void, number | null> {
  const endMs = now() + ms;
  for (;;) {
    const { done, value } = step.next();
    if (done === true) return value;
    if (now() >= endMs) {
      step.return(-errno.ETIMEDOUT);
      return null;
    }
    yield;
  }
}
