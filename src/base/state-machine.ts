/**
 * A state machine as data: for each state the states that it can move to directly. The order inside
 * a row decides between two paths of equal length, so it is part of the rule.
 */
export type Moves<S extends number> = ReadonlyMap<S, readonly S[]>;

/**
 * The shortest path from `from` to `to` (without `from`, with `to`), or null where there is none.
 * `interior(state)` says whether a path may pass through a state that is neither end.
 */
export function shortestPath<S extends number>(
  moves: Moves<S>,
  from: S,
  to: S,
  interior: (state: S) => boolean = () => true,
): S[] | null {
  if (from === to) return [];
  const reachedFrom = new Map<S, S>();
  const queue: S[] = [from];
  for (let state = queue.shift(); state !== undefined; state = queue.shift()) {
    if (state !== from && !interior(state)) continue;
    for (const next of moves.get(state) ?? []) {
      if (next === from || reachedFrom.has(next)) continue;
      reachedFrom.set(next, state);
      if (next === to) return unwind(reachedFrom, from, to);
      queue.push(next);
    }
  }
  return null;
}

function unwind<S extends number>(reachedFrom: Map<S, S>, from: S, to: S): S[] {
  const path: S[] = [];
  for (let state = to; state !== from; state = reachedFrom.get(state) as S) path.unshift(state);
  return path;
}
