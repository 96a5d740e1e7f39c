/** What a migration tells while it goes on, for whoever shows, logs or counts it. */
import type { PhaseTime } from "./link-messages.ts";

/** One thing that has happened. */
export type MigrationEvent =
  | {
      readonly kind: "phase";
      readonly phase: string;
      readonly step: PhaseStep;
      readonly why?: string;
    }
  /** Stands before a phase until `continue`. */
  | { readonly kind: "paused"; readonly before: string }
  | ({ readonly kind: "progress" } & Progress)
  /** The link broke when the decision was out: the source stands still and asks. */
  | { readonly kind: "undecided"; readonly why: string; readonly asked: number }
  /** Something that an operator should know, and that changes nothing. */
  | { readonly kind: "note"; readonly why: string }
  | ({ readonly kind: "verdict" } & Outcome);

export type PhaseStep = "begins" | "ends" | "fails" | "is undone" | "cannot be undone";

/** What was moved so far. */
export interface Progress {
  readonly bytes: number;
  /** Rounds of PRE_COPY that are complete, and what it has still to send. */
  readonly rounds: number;
  readonly dirtyBytes: number;
  /** Bytes a second since the last time. */
  readonly rate: number;
}

/** How it ended for this side. */
export interface Outcome {
  /** `moved`: the device is the target's. `kept`: the source's. `open`: nobody knows yet. */
  readonly outcome: "moved" | "kept" | "open";
  /** One sentence: why, and what to do if something is to be done. */
  readonly sentence: string;
  /** The state that the device of this side is in: `RUNNING`. */
  readonly state: string;
  /** What the other side told of its phases. */
  readonly theirs: readonly PhaseTime[];
}

/** An event with when it happened, in milliseconds since the migration began here. */
export type TimedEvent = MigrationEvent & { readonly atMs: number };
export type Tell = (event: MigrationEvent) => void;
