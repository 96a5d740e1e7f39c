import type { GuestMemory } from "../../../memory/guest-memory.ts";
import type { Step } from "../../driver.ts";
import type { Mailbox } from "./mailbox.ts";
import type { QmPort } from "./port.ts";
import type { AccState, FunctionState, QueueState } from "./sections.ts";

/** What a path to a function needs. */
export interface PathParts {
  readonly port: QmPort;
  readonly memory: GuestMemory;
  /** Queues of the function, by its own PF. */
  readonly queueCount: number;
  /** log2 of an SQ entry's bytes. */
  readonly sqeShift: number;
  /** A monotonic clock, in milliseconds. */
  readonly now: () => number;
}

/** What is read beside the registers. */
export interface FoundContexts {
  readonly queues: readonly QueueState[];
  readonly function: FunctionState;
}

/** The tables of contexts in the guest's memory; 0 for none. */
export interface TableAddresses {
  readonly sqcTable: number;
  readonly cqcTable: number;
}

/**
 * How who migrates a function reaches what no register shows, and makes it stand still: by a
 * control half of its own, or, as on silicon, by what the guest has too. Only while the guest's
 * plane is closed.
 */
export interface ControlPath {
  /** For commands while the function stands still. */
  readonly mailbox: Mailbox;
  /** Was it told to stand still, and not to go on since? A fact, not what a register says. */
  readonly standing: boolean;
  /** No request is begun from here on. */
  hold(): Step;
  /** What is under way is finished, or ended so that it can run again. */
  settle(): Step;
  /** Reads every queue's contexts, and what there is to know of the function. */
  find(tables: TableAddresses): Step;
  readonly found: FoundContexts | null;
  /** Why this path cannot put a state into the device, as a sentence; null when it can. */
  lacks(state: AccState): string | null;
  /** A function that was just reset is kept from moving: 0 or a negated errno. */
  prepare(): number;
  /** Puts queues and function into their places. */
  install(state: AccState): Step;
  /** The function goes on, for sure: all of its queues. */
  resume(): Step;
  /** Behind `resume`: what the function was told to go on with, and what the guest left. */
  finish(entry: FunctionState | null): Step;
  /** The function was reset. */
  forget(): void;
}
