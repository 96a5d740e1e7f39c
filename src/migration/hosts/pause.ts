import { FerryError } from "../../base/errors.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import type { Tell } from "./events.ts";

/** Where a source can be made to wait for whoever commands the VMM, by the phase that follows. */
export const pausePoints = ["freeze", "transfer", "hand over"] as const;
export type PausePoint = (typeof pausePoints)[number];

/** The points at which a migration stands until it is told to go on. */
export class Pauses {
  readonly #before: readonly string[];
  /** Those that were made, and those that are left out: whoever asked for them is ready. */
  readonly #ended = new Set<string>();
  #continue: (() => void) | null = null;
  /** The phase that waits; null when none does. */
  standing: string | null = null;

  constructor(before: readonly PausePoint[]) {
    this.#before = before;
  }

  /** Is there one before this phase, ended already or not? */
  has(phase: string): boolean {
    return this.#before.includes(phase);
  }

  /** Is there one before this phase that nobody has ended? */
  awaits(phase: string): boolean {
    return this.has(phase) && !this.#ended.has(phase);
  }

  /** Waits until the pause before this phase is ended. */
  async stand(
    phase: string,
    stage: { readonly clock: Clock; readonly budgets: Budgets; readonly tell: Tell },
    cancel: AbortSignal,
  ): Promise<void> {
    this.#ended.add(phase);
    const told = new Promise<void>((resolve) => {
      this.#continue = resolve;
    });
    this.standing = phase;
    stage.tell({ kind: "paused", before: phase });
    const what = `the pause before ${phase}`;
    try {
      await within(stage.clock, { what, budgetMs: stage.budgets.pauseMs, cancel }, told);
    } finally {
      this.standing = null;
      this.#continue = null;
    }
  }

  /** Ends the pause that is on; or, by its name, one that has not come yet and is left out then. */
  continue(before = ""): void {
    const isMeant = before === "" || before === this.standing;
    if (isMeant && this.#continue !== null) this.#continue();
    else if (this.awaits(before)) this.#ended.add(before);
    else throw notPaused(before);
  }
}

const notPaused = (before: string): FerryError => {
  const where = before === "" ? "" : ` before ${before}`;
  return new FerryError(
    "not-paused",
    `the migration is not paused${where}: there is nothing to end.`,
  );
};
