import type { ControlParts } from "../src/host/migration-control.ts";

/** A bug that is put in while a run goes on, to see that the run notices. */
export interface Mutation {
  readonly name: string;
  /** What is wrong then. */
  readonly what: string;
  /** Changes what the migrations of a host work with. */
  host?(parts: ControlParts): ControlParts;
  /** Changes code that all hosts share; gives back how to change it back. */
  patch?(): () => void;
}
