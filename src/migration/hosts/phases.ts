import { FerryError, messageOf } from "../../base/errors.ts";
import type { Budgets } from "./budgets.ts";
import { type Clock, within } from "./clock.ts";
import type { Tell } from "./events.ts";
import type { PhaseTime } from "./link-messages.ts";

/** The waits that end by themselves, by name. */
export type Budget = keyof Budgets;

/** One line of the life of a migration. */
export interface Phase<Context> {
  readonly name: string;
  /** What it may take; null for one whose waits are bounded one by one. */
  readonly budget: Budget | null;
  /** The signal says that nobody waits for it any more. */
  readonly run: (context: Context, signal: AbortSignal) => Promise<void>;
  /** Takes back what it did, all of it or a part; null when there is nothing to take back. */
  readonly undo: ((context: Context) => Promise<void>) | null;
}

/** What the phases of either side run with. */
export interface Stage {
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly tell: Tell;
  /** Ends the phase that is on, and with it the migration. */
  readonly cancel: AbortSignal;
  /** How long each phase took. */
  readonly times: PhaseTime[];
  readonly startMs: number;
}

/** What happens around phases. */
export interface Around {
  /** Before each phase: what may make it wait. */
  readonly before?: (phase: string) => Promise<void>;
  /** After a failure and before anything is undone: what the other side should hear at once. */
  readonly failed?: (thrown: unknown) => Promise<void>;
}

/**
 * Runs phases in their order. When one fails, those that were begun are undone, the last one first,
 * whatever comes of each; then the failure is thrown.
 */
export async function runPhases<C extends Stage>(
  phases: ReadonlyArray<Phase<C>>,
  context: C,
  { before, failed }: Around = {},
): Promise<void> {
  const begun: Array<Phase<C>> = [];
  let work: Promise<void> = Promise.resolve();
  try {
    for (const phase of phases) {
      await before?.(phase.name);
      begun.unshift(phase);
      const abandoned = new AbortController();
      work = phase.run(context, abandoned.signal);
      await runPhase(phase, context, work, abandoned);
    }
  } catch (thrown) {
    await failed?.(thrown);
    await ended(work, context);
    await undoPhases(begun, context);
    throw thrown;
  }
}

async function runPhase<C extends Stage>(
  { name, budget }: Phase<C>,
  { clock, budgets, tell, cancel, times, startMs }: C,
  work: Promise<void>,
  abandoned: AbortController,
): Promise<void> {
  const begunMs = clock.now();
  const budgetMs = budget === null ? Number.POSITIVE_INFINITY : budgets[budget];
  tell({ kind: "phase", phase: name, step: "begins" });
  try {
    await within(clock, { what: `the phase ${name}`, budgetMs, cancel }, work);
    tell({ kind: "phase", phase: name, step: "ends" });
  } catch (thrown) {
    abandoned.abort(thrown);
    tell({ kind: "phase", phase: name, step: "fails", why: messageOf(thrown) });
    throw thrown;
  } finally {
    times.push({ phase: name, startMs: begunMs - startMs, elapsedMs: clock.now() - begunMs });
  }
}

/** A phase that was abandoned in a step ends with that step, and is not undone before. */
async function ended(work: Promise<void>, { clock, budgets }: Stage): Promise<void> {
  const wait = { what: "the step", budgetMs: budgets.undoMs };
  await within(clock, wait, work).catch(() => {});
}

/** Undoes phases in the order given; one that cannot be undone does not keep the others from it. */
export async function undoPhases<C extends Stage>(
  phases: ReadonlyArray<Phase<C>>,
  context: C,
): Promise<void> {
  const { clock, budgets, tell } = context;
  for (const { name: phase, undo } of phases) {
    if (undo === null) continue;
    try {
      const wait = { what: `undoing ${phase}`, budgetMs: budgets.undoMs };
      await within(clock, wait, undo(context));
      tell({ kind: "phase", phase, step: "is undone" });
    } catch (thrown) {
      tell({ kind: "phase", phase, step: "cannot be undone", why: messageOf(thrown) });
    }
  }
}

/** Does what is left to do, one after the other, whatever becomes of each; `tell` hears of it. */
export async function tidyUp(
  steps: ReadonlyArray<() => Promise<unknown>>,
  tell: Tell,
): Promise<void> {
  for (const step of steps) {
    await step().catch((thrown: unknown) => tell({ kind: "note", why: messageOf(thrown) }));
  }
}

/** Throws what a phase was abandoned for: whatever goes on after a wait asks first. */
export function goOn(signal: AbortSignal): void {
  if (signal.aborted) throw signal.reason ?? new FerryError("cancelled", "it was cancelled.");
}
