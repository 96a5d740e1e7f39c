import { describe, expect, it } from "vitest";
import { type Moves, shortestPath } from "../../src/base/state-machine.ts";

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
