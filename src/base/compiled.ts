/** What tables that become code have in common. */

/** Names that may stand in such code. */
export const identifier = /^[A-Za-z_$][\w$]*$/;

/**
 * What `compile` makes of a table as straight-line code. Only our own identifiers and positions
 * reach `new Function`, never what a peer sent; where code generation is switched off it throws,
 * and the table is walked at every call.
 */
export function compiledOr<T>(compile: () => T, walk: () => T): T {
  try {
    return compile();
  } catch {
    return walk();
  }
}
