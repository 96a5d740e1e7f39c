/**
 * Our own mistake. It is never raised by what a guest, a VMM or a migration source sends: whoever
 * catches it ends the process (invariant 10).
 */
export class AssertionError extends Error {
  override readonly name = "AssertionError";
}

/** Stops at once when `condition` does not hold; `what` says what should have been true. */
export function assert(condition: boolean, what: string): asserts condition {
  if (!condition) throw new AssertionError(what);
}

/** The branch that the types say cannot be reached. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`);
}
