import { describe, expect, it } from "vitest";
import { errno } from "../../src/base/errno.ts";
import {
  allMigrationFlags,
  isRunning,
  isSaving,
  MigrationStates,
} from "../../src/device/migration-states.ts";
import { MigrationFlags, MigState, migStateName } from "../../src/spec/vfio.ts";

const { error: E, stop: S, running: R, stopCopy: SC } = MigState;
const { resuming: RS, runningP2p: RP, preCopy: PC, preCopyP2p: PP } = MigState;
const { stopCopy, p2p, preCopy } = MigrationFlags.mask;

/** `vfio_mig_get_next_state` of Linux: the next state on the way from a row's to a column's. */
const columns = [S, R, PC, PP, SC, RS, RP] as const;
const nextStates: ReadonlyMap<MigState, readonly MigState[]> = new Map([
  [S, [S, RP, RP, RP, SC, RS, RP]],
  [R, [RP, R, PC, RP, RP, RP, RP]],
  [PC, [R, R, PC, PP, PP, R, R]],
  [PP, [RP, RP, PC, PP, SC, RP, RP]],
  [SC, [S, S, E, E, SC, S, S]],
  [RS, [S, S, S, S, S, RS, S]],
  [RP, [S, R, R, PP, S, S, RP]],
]);

/** Its `state_flags_table`: what a device must have for a state; nothing will do for ERROR. */
const needs: ReadonlyMap<number, number> = new Map<number, number>([
  [S, stopCopy],
  [R, stopCopy],
  [SC, stopCopy],
  [RS, stopCopy],
  [RP, stopCopy | p2p],
  [PC, stopCopy | preCopy],
  [PP, stopCopy | p2p | preCopy],
]);

const combinations = [stopCopy, stopCopy | p2p, stopCopy | preCopy, allMigrationFlags] as const;
const everyState = Object.values(MigState);
const nowhere = [8, 9, 0xabcd, 0xffffffff];

const has = (flags: number, state: number): boolean => {
  const needed = needs.get(state);
  return needed !== undefined && (flags & needed) === needed;
};

/** The kernel's step: arcs that touch states that the device lacks are skipped over. */
function kernelStep(flags: number, from: MigState, to: MigState): MigState {
  const column = columns.indexOf(to as (typeof columns)[number]);
  let next = from;
  do next = nextStates.get(next)?.[column] ?? E;
  while (next !== E && !has(flags, next));
  return next;
}

/** The kernel's drivers: step by step until they are there; null is EINVAL. */
function kernelPath(flags: number, from: MigState, to: number): MigState[] | null {
  if (!has(flags, from) || !has(flags, to)) return null;
  const path: MigState[] = [];
  for (let state = from; state !== to; path.push(state)) {
    state = kernelStep(flags, state, to as MigState);
    if (state === E || path.length === everyState.length) return null;
  }
  return path;
}

describe.each(combinations)("a device with migration flags %i", (flags) => {
  const states = new MigrationStates(flags);
  const pairs = everyState.flatMap((from) =>
    [...everyState, ...nowhere].map((to) => ({
      from,
      to,
      name: `${migStateName(from)} to ${migStateName(to)}`,
    })),
  );

  it("says which flags it is for", () => {
    expect(states.flags).toBe(flags);
  });

  it.each([...everyState, ...nowhere])("has state %i where the kernel's has it", (state) => {
    expect(states.has(state)).toBe(has(flags, state));
  });

  it.each(pairs)("goes from $name as the kernel's does", ({ from, to }) => {
    expect(states.path(from, to)).toEqual(kernelPath(flags, from, to) ?? -errno.EINVAL);
  });

  it("passes no saving state on its way, but for PRE_COPY_P2P", () => {
    for (const { from, to } of pairs) {
      const path = states.path(from, to);
      const interior = typeof path === "number" ? [] : path.slice(0, -1).filter(isSaving);
      expect(interior).toEqual(interior.length > 0 ? [PP] : []);
      if (interior.length > 0) expect([from, to]).toEqual([PC, SC]);
    }
  });
});

describe("the paths of the kernel's documentation", () => {
  it.each([
    [allMigrationFlags, R, S, [RP, S]],
    [allMigrationFlags, R, SC, [RP, S, SC]],
    [allMigrationFlags, PC, S, [R, RP, S]],
    [allMigrationFlags, PC, SC, [PP, SC]],
    [allMigrationFlags, PC, RP, [R, RP]],
    [allMigrationFlags, S, PC, [RP, R, PC]],
    [allMigrationFlags, S, PP, [RP, PP]],
    [allMigrationFlags, RP, PC, [R, PC]],
    [allMigrationFlags, RS, R, [S, RP, R]],
    [stopCopy | preCopy, S, PC, [R, PC]],
    [stopCopy | preCopy, RS, PC, [S, R, PC]],
    [stopCopy | preCopy, PC, RS, [R, S, RS]],
    [stopCopy | preCopy, PC, SC, [SC]],
    [stopCopy | preCopy, SC, PC, null],
  ] as const)("flags %i: %i to %i by %o", (flags, from, to, path) => {
    expect(kernelPath(flags, from, to)).toEqual(path);
    expect(new MigrationStates(flags).path(from, to)).toEqual(path ?? -errno.EINVAL);
  });
});

describe("states", () => {
  it("in which a device may begin something, and with data to read", () => {
    expect(everyState.filter(isRunning)).toEqual([R, PC]);
    expect(everyState.filter(isSaving)).toEqual([SC, PC, PP]);
  });
});
