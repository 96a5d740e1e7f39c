/** What getting from one migration state to a neighbouring one takes, as a table. */
import { MigState } from "../spec/vfio.ts";
import type { Phases } from "./driver.ts";

/**
 * One thing to do on the way: a phase of the driver's or its undoing, or one of the wrapper's own.
 *
 * - `close`, `open`: the guest's plane
 * - `begin`: a stream to be given out; `receive`: one that comes; `end`: neither any more
 * - `track`, `untrack`: changes are noted, or need not be
 * - `check`: what came is whole and fits
 * - `commit`: what of it is the envelope's own is put into the device
 */
export type Action =
  | keyof Phases
  | "unfreeze"
  | "close"
  | "open"
  | "begin"
  | "receive"
  | "end"
  | "track"
  | "untrack"
  | "check"
  | "commit";

const { stop, running, stopCopy, resuming, runningP2p, preCopy, preCopyP2p } = MigState;

const table: ReadonlyArray<readonly [from: MigState, to: MigState, actions: readonly Action[]]> = [
  [running, stop, ["close", "freeze", "quiesce"]],
  [running, runningP2p, ["freeze"]],
  [runningP2p, stop, ["close", "quiesce"]],
  [runningP2p, running, ["unfreeze"]],
  [stop, running, ["thaw", "unfreeze", "open", "end"]],
  [stop, runningP2p, ["thaw", "open", "end"]],
  [running, preCopy, ["begin", "track"]],
  [runningP2p, preCopyP2p, ["begin", "track"]],
  [preCopy, running, ["untrack", "end"]],
  [preCopyP2p, runningP2p, ["untrack", "end"]],
  [preCopy, preCopyP2p, ["freeze"]],
  [preCopyP2p, preCopy, ["unfreeze"]],
  [preCopy, stopCopy, ["close", "freeze", "quiesce", "save"]],
  [preCopyP2p, stopCopy, ["close", "quiesce", "save"]],
  [stop, stopCopy, ["begin", "save"]],
  [stopCopy, stop, ["untrack", "end"]],
  [stop, resuming, ["receive"]],
  [resuming, stop, ["check", "load", "commit"]],
];

const actionsByArc = new Map(table.map(([from, to, actions]) => [8 * from + to, actions]));
const none: readonly Action[] = [];

/** The actions of the arc between two neighbours. */
export const actionsOf = (from: MigState, to: MigState): readonly Action[] =>
  actionsByArc.get(8 * from + to) ?? none;
