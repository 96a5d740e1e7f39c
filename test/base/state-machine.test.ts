import { describe, expect, it } from "vitest";
import { type Moves, shortestPath } from "../../src/base/state-machine.ts";
import { MigState, migForbidden, migInterior, migMoves } from "../../src/spec/vfio.ts";

const diamond: Moves<number> = new Map([
  [1, [2, 3]],
  [2, [4]],
  [3, [4]],
  [4, [5]],
]);

describe("the shortest path", () => {
  it.each([
    ["to itself", 1, 1, []],
    ["to a neighbour", 1, 3, [3]],
    ["over a fork, by the order in the row", 1, 4, [2, 4]],
    ["over several states", 1, 5, [2, 4, 5]],
    ["backwards, where there is none", 5, 1, null],
    ["to a state that nobody knows", 1, 9, null],
    ["from a state that nobody knows", 9, 1, null],
    ["from an unknown state to itself", 9, 9, []],
  ])("%s", (_, from, to, path) => {
    expect(shortestPath(diamond, from, to)).toEqual(path);
  });

  it("follows the order inside a row where two paths are equally long", () => {
    const mirrored: Moves<number> = new Map([...diamond, [1, [3, 2]]]);
    expect(shortestPath(mirrored, 1, 4)).toEqual([3, 4]);
  });

  it("passes only through states that may lie inside, whatever its ends are", () => {
    expect(shortestPath(diamond, 1, 4, (state) => state !== 2)).toEqual([3, 4]);
    expect(shortestPath(diamond, 1, 4, (state) => state === 99)).toBeNull();
    expect(shortestPath(diamond, 2, 4, () => false)).toEqual([4]);
  });

  it("ends in a ring", () => {
    const ring: Moves<number> = new Map([
      [1, [2]],
      [2, [3]],
      [3, [1]],
    ]);
    expect(shortestPath(ring, 2, 1)).toEqual([3, 1]);
    expect(shortestPath(ring, 1, 4)).toBeNull();
  });
});

describe("the migration states of a device without P2P", () => {
  const { stop: S, running: R, stopCopy: C, resuming: I, preCopy: P } = MigState;
  const names = new Map<number, string>([
    [S, "STOP"],
    [R, "RUNNING"],
    [C, "STOP_COPY"],
    [I, "RESUMING"],
    [P, "PRE_COPY"],
  ]);

  /** The next-state table of Linux `vfio_mig_get_next_state` for STOP_COPY | PRE_COPY. */
  const rows: ReadonlyArray<readonly [from: MigState, paths: ReadonlyArray<readonly MigState[]>]> =
    [
      [S, [[], [R], [C], [I], [R, P]]],
      [R, [[S], [], [S, C], [S, I], [P]]],
      [C, [[S], [S, R], [], [S, I], [S, R, P]]],
      [I, [[S], [S, R], [S, C], [], [S, R, P]]],
      [P, [[R, S], [R], [C], [R, S, I], []]],
    ];
  const order = [S, R, C, I, P];
  const pairs = rows.flatMap(([from, paths]) =>
    paths.map((path, i) => [from, order[i] as MigState, path] as const),
  );

  it.each(
    pairs.map(([from, to, path]) => [names.get(from), names.get(to), from, to, path] as const),
  )("%s to %s", (_, __, from, to, path) => {
    expect(shortestPath(migMoves, from, to, migInterior)).toEqual(path);
  });

  it.each([MigState.error, MigState.runningP2p, MigState.preCopyP2p])(
    "state %i is neither reached nor left",
    (state) => {
      for (const other of order) {
        expect(shortestPath(migMoves, other, state, migInterior)).toBeNull();
        expect(shortestPath(migMoves, state, other, migInterior)).toBeNull();
      }
    },
  );

  it("forbids STOP_COPY to PRE_COPY, for which there would be a path", () => {
    expect(migForbidden).toEqual([[C, P]]);
  });
});
