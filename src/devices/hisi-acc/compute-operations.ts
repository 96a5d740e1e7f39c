/**
 * The named operations that engines compute with. An operation is a total function from plain data
 * to an object of plain data: it runs in the device's thread or in a compute worker, and nobody can
 * tell which.
 */
import { assert } from "../../base/assert.ts";
import type { Computation } from "./engine.ts";
import { hpreOperations } from "./hpre/operations.ts";
import { sec2Operations } from "./sec2/operations.ts";
import { zipOperations } from "./zip/operations.ts";

/** Operations by the names that cross to a compute worker. */
export type Operations = Readonly<Record<string, (input: never) => unknown>>;

/** Those of every engine. */
export const operations: Operations = {
  ...hpreOperations,
  ...sec2Operations,
  ...zipOperations,
};

/** Carries a computation out, here and now. */
export function perform(all: Operations, { operation, input }: Computation): unknown {
  const run = all[operation];
  assert(run !== undefined, `${operation} is no operation`);
  return run(input as never);
}
