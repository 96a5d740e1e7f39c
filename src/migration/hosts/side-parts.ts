import type { MigrationPort } from "../port.ts";
import type { Budgets } from "./budgets.ts";
import type { Clock } from "./clock.ts";
import type { Tell } from "./events.ts";
import type { Journal } from "./journal.ts";

/** What either side of a migration works with. */
export interface SideParts {
  readonly port: MigrationPort;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly tell: Tell;
  /** Tidies this process's memory: said when no vCPU waits, so that it need not be later. */
  readonly sweep: () => void;
}
