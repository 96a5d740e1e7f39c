import type { MigrationPort } from "../port.ts";
import type { Budgets } from "./budgets.ts";
import type { Clock } from "./clock.ts";
import type { Tell } from "./events.ts";
import type { Journal } from "./journal.ts";
import type { Link } from "./link.ts";
import type { PausePoint } from "./pause.ts";
import type { PrecopyPolicy } from "./precopy.ts";

/** What a source works with. */
export interface SourceParts {
  readonly port: MigrationPort;
  readonly journal: Journal;
  readonly clock: Clock;
  readonly budgets: Budgets;
  readonly tell: Tell;
  /** Tidies this process's memory: said when no vCPU waits, so that it need not be later. */
  readonly sweep: () => void;
  /** A new link to the target. */
  dial(): Promise<Link>;
}

/** Which migration it is and how it is to go. */
export interface SourceRequest {
  readonly token: string;
  /** The target's name and address, for the journal. */
  readonly peer: string;
  readonly address: string;
  readonly pki: string;
  readonly policy: PrecopyPolicy;
  readonly pauseBefore: readonly PausePoint[];
  /** The VMM's vCPUs stand still already, or do so before the pause at `freeze` is ended. */
  readonly vcpusStopped: boolean;
}
