/**
 * A device as the two ends of a migration see it from outside of its thread: what a `Migratable`
 * offers, as promises. Whatever fails rejects with a FerryError whose sentence is for the operator.
 */
import type { WriteWatch } from "../memory/guest-memory.ts";
import type { MigState } from "../spec/vfio.ts";
import type { Compatibility, Pending } from "./driver.ts";

/** How a connection is to stand still, by the names of `Freeze`. */
export type Stillness = "none" | "hold" | "drop";

/** How one phase of the driver went. */
export interface PhaseReport {
  /** `freeze`, `quiesce`, `save`, `load`, `thaw`, or one of them with `undo` before it. */
  readonly phase: string;
  /** Milliseconds since the move began, and how long it took. */
  readonly startMs: number;
  readonly elapsedMs: number;
  /** 0 or a negated errno. */
  readonly result: number;
}

/** What arriving at a state took. */
export interface MoveReport {
  readonly state: MigState;
  readonly phases: readonly PhaseReport[];
}

/** What a device says of itself while it is migrated. */
export interface MigrationStatus {
  readonly state: MigState;
  /** Who owns its migration: nobody, the VMM over its connection, or the operator. */
  readonly master: "none" | "vmm" | "operator";
  readonly connected: boolean;
  readonly frozen: Stillness;
  readonly pending: Pending;
  readonly stopCopyBytes: number;
  /** Counts resets that came from the guest or the VMM since the process started. */
  readonly resets: number;
}

/** One device, for whoever migrates it. What is asked is done in turn: a read, after the move. */
export interface MigrationPort {
  /** For people: `hisi-sec2`. */
  readonly name: string;
  compatibility(): Promise<Compatibility>;
  /** Why a state of theirs cannot be loaded here; null when it can. Moves and changes nothing. */
  judge(theirs: Compatibility): Promise<string | null>;
  status(): Promise<MigrationStatus>;

  /** Takes the migration over: from here on the VMM's own changes of state are refused (EBUSY). */
  claim(): Promise<void>;
  /** Gives it back; the state stays what it is. */
  release(): Promise<void>;

  /** Makes the client's connection stand still, or go on. `drop` first serves what has arrived. */
  still(how: Stillness): Promise<void>;
  /**
   * Moves to a state, by the shortest path, with the budgets of the driver's phases. When it
   * rejects, the device is in the state before the phase that failed, or in ERROR; `status` tells.
   */
  move(to: MigState): Promise<MoveReport>;
  /**
   * Moves a loaded device to RUNNING, then lets go of it: connections go on, the VMM may migrate
   * it. Resets that were noted since it was sealed at `resets` are as if they had come before the
   * state; null: it is not sealed. When it rejects, the device stands still as before.
   */
  setGoing(resets: number | null): Promise<MoveReport>;
  /** Back to RUNNING from wherever it is: what was frozen goes on, what was accepted is gone. */
  abort(): Promise<void>;
  /** What is done from here on of what the device writes to guest memory by itself. */
  watchWrites(how: WriteWatch): Promise<void>;
  /**
   * Shows the VMM what was written since then, how many pages, so that it copies them too. Only
   * while its vCPUs stand still, and the device, in STOP_COPY: a page is written once more with
   * what is in it.
   */
  showWrites(): Promise<number>;
  reset(): Promise<void>;
  /**
   * From here on a reset of the guest's is noted and not done, because the device may be another
   * host's; `seal(false)` makes up for it. False, and nothing is sealed, when there was a reset
   * since `status().resets` said `resets`.
   */
  seal(on: boolean, resets: number): Promise<boolean>;

  /**
   * The next bytes of the stream, in the saving states, at the start of `room`, which is the port's
   * until then; empty when there is nothing (PRE_COPY) or nothing more (STOP_COPY).
   */
  read(room: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
  /**
   * The next bytes of the stream, in RESUMING. The array is the port's meanwhile; what comes back
   * is its memory, for other bytes.
   */
  write(bytes: Uint8Array<ArrayBuffer>): Promise<Uint8Array<ArrayBuffer>>;
}
