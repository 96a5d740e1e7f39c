import { errno } from "../base/errno.ts";
import { type Moves, shortestPath } from "../base/state-machine.ts";
import { MigrationFlags, MigState, migArcs, migForbidden } from "../spec/vfio.ts";

const { preCopy, preCopyP2p, stopCopy } = MigState;
const saving: ReadonlySet<MigState> = new Set([preCopy, preCopyP2p, stopCopy]);

/** Does the one path that leads through a saving state lead from here to there? */
const throughSaving = (from: MigState, to: MigState): boolean =>
  from === preCopy && to === stopCopy;

/**
 * The states of VFIO's migration, version 2, for a device with some of the optional ones: which
 * there are and by which arcs one gets from one to another (vfio.h, `enum vfio_device_mig_state`).
 */
export class MigrationStates {
  /** `MigrationFlags`. */
  readonly flags: number;
  readonly #moves: Moves<MigState>;

  constructor(flags: number) {
    const arcs = migArcs.filter(
      ({ needs, lacks = 0 }) => (flags & needs) === needs && (flags & lacks) === 0,
    );
    this.flags = flags;
    this.#moves = new Map(
      Object.values(MigState).map((from) => [
        from,
        arcs.filter((arc) => arc.from === from).map(({ to }) => to),
      ]),
    );
  }

  /** Is there such a state, other than ERROR? */
  has(state: number): state is MigState {
    return (this.#moves.get(state as MigState)?.length ?? 0) > 0;
  }

  /**
   * The arcs to take, by the states they lead to; EINVAL for a state that there is not, cannot be
   * reached, or must not be asked for from here. The saving states are never a stage of a path,
   * but for PRE_COPY_P2P between PRE_COPY and STOP_COPY.
   */
  path(from: MigState, to: number): readonly MigState[] | number {
    const forbidden = migForbidden.some(([source, target]) => source === from && target === to);
    if (forbidden || !this.has(to)) return -errno.EINVAL;
    const interior = (state: MigState): boolean =>
      !saving.has(state) || (state === preCopyP2p && throughSaving(from, to));
    return shortestPath(this.#moves, from, to, interior) ?? -errno.EINVAL;
  }
}

/** True while a device in this state may begin something. */
export const isRunning = (state: MigState): boolean =>
  state === MigState.running || state === MigState.preCopy;

/** True in the states with data to read. */
export const isSaving = (state: MigState): boolean => saving.has(state);

/** The flags of a device that has every optional state. */
export const allMigrationFlags: number = MigrationFlags.all;
