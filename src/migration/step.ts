import type { Step } from "./driver.ts";

/** A step that has nothing to wait for. */
// biome-ignore lint/correctness/useYield: that is the point
export function* ended(result: number): Step {
  return result;
}
